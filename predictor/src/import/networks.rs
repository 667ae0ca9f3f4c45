//! Lists of whole networks.

use fleetfoot_profiler::{Doubts, Provenance};
use fleetfoot_space::{Architecture, SearchSpace};

use super::columns::NetworkEntry;
use super::{Columns, Fault, Format, ImportError, LeaveOut, columns, cut, settle, traps};
use crate::whole::WholeNetworks;

/// Whole networks that were imported: the text of a file that `fleetfoot fit --networks` reads.
#[derive(Clone, Debug)]
pub struct ImportedNetworks {
    /// The file's text.
    pub csv: Vec<u8>,
    /// How many networks it holds.
    pub count: usize,
    /// What people should know, what was left out among it.
    pub notes: Vec<String>,
    /// What is to be warned of: what is doubtful.
    pub warnings: Vec<String>,
}

/// Whether a text is a CSV of whole networks.
pub fn is_of_networks(text: &str, columns: &Columns) -> bool {
    columns::is_of_networks(text, columns)
}

/// Imports a CSV of whole networks, those of a space where one is given.
pub fn import_networks(
    text: &str,
    origin: &str,
    (columns, space): (&Columns, Option<&SearchSpace>),
    leave_out: &LeaveOut,
    mut provenance: Provenance,
) -> Result<ImportedNetworks, ImportError> {
    let form = |what: String| ImportError::Form { origin: origin.to_owned(), what };
    let (mut networks, mut notes) = columns::read_networks(text, columns).map_err(form)?;
    let mut faults = Vec::new();
    for network in networks.extract_if(.., |network| network.ms <= 0.0) {
        let what = format!("line {}, {}: {} ms", network.line, network.architecture, network.ms);
        faults.push((Fault::Negative, what));
    }
    let mut architectures = Vec::new();
    if let Some(space) = space {
        networks.retain(|network| match space.resolve_own(&network.architecture) {
            Ok(architecture) => {
                architectures.push(architecture);
                true
            }
            Err(error) => {
                faults.push((Fault::Inexpressible, format!("line {}: {error}", network.line)));
                false
            }
        });
        provenance.set("space", space.name());
    }
    notes.extend(settle(faults, leave_out, origin)?);
    let look = |networks: &[NetworkEntry], architectures: &[Architecture]| {
        let values: Vec<f64> = networks.iter().map(|network| network.ms).collect();
        traps::of_networks(&values, space.map(|space| (space, architectures)))
    };
    let (mut doubts, mut found) = look(&networks, &architectures);
    let goes: Vec<bool> = doubts.iter().map(|doubts| leave_out.has(*doubts)).collect();
    let out = goes.iter().filter(|goes| **goes).count();
    if out > 0 {
        notes.push(format!("{origin}: {out} doubtful networks are left out"));
        networks = kept(networks, &goes);
        architectures = kept(architectures, &goes);
        (doubts, found) = look(&networks, &architectures);
    }
    if networks.is_empty() {
        return Err(ImportError::Nothing(origin.to_owned()));
    }
    let without = networks.iter().filter(|network| network.interval.is_none()).count();
    if without > 0 && without < networks.len() {
        notes.push(format!("{origin}: {without} networks have no interval, so those of the others aren't kept"));
    }
    let mut warnings = cut(text, origin, Format::Csv);
    warnings.extend(found.into_iter().map(|warning| format!("{origin}: {warning}")));
    provenance.set("imported_form", Format::Csv);
    let csv = written(&networks, &doubts, &provenance).map_err(|error| form(error.to_string()))?;
    Ok(ImportedNetworks { csv, count: networks.len(), notes, warnings })
}

fn kept<T>(all: Vec<T>, goes: &[bool]) -> Vec<T> {
    // Without a space there are no architectures.
    all.into_iter().zip(goes).filter(|(_, goes)| !**goes).map(|(one, _)| one).collect()
}

fn written(networks: &[NetworkEntry], doubts: &[Doubts], provenance: &Provenance) -> Result<Vec<u8>, csv::Error> {
    let intervals = networks.iter().all(|network| network.interval.is_some());
    let samples = networks.iter().any(|network| network.samples.is_some());
    let doubted = doubts.iter().any(|doubts| !doubts.is_empty());
    let record = |always: [String; 2], [low, high, n, doubts]: [String; 4]| {
        let optional = [(intervals, low), (intervals, high), (samples, n), (doubted, doubts)];
        let wanted = optional.into_iter().filter(|(wanted, _)| *wanted).map(|(_, text)| text);
        always.into_iter().chain(wanted).collect::<Vec<String>>()
    };
    let mut writer = csv::Writer::from_writer(provenance.to_head().into_bytes());
    let names = ["low_ms", "high_ms", "n", "doubts"].map(str::to_owned);
    writer.write_record(record(["architecture", "latency_ms"].map(str::to_owned), names))?;
    for (network, doubts) in networks.iter().zip(doubts) {
        let (low, high) = network.interval.unwrap_or_default();
        let samples = network.samples.map(|samples| samples.to_string()).unwrap_or_default();
        let optional = [low.to_string(), high.to_string(), samples, doubts.to_string()];
        writer.write_record(record([network.architecture.clone(), network.ms.to_string()], optional))?;
    }
    writer.into_inner().map_err(|error| error.into_error().into())
}

/// What speaks against networks of a space, in the order in which they were measured, for people.
pub fn doubts_of_networks(networks: &WholeNetworks, space: &SearchSpace) -> Vec<String> {
    let networks = networks.networks();
    let values: Vec<f64> = networks.iter().map(|network| network.latency.ms()).collect();
    let architectures: Vec<_> = networks.iter().map(|network| network.architecture.clone()).collect();
    traps::of_networks(&values, Some((space, &architectures))).1
}
