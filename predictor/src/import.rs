//! Numbers of others: their tables, their lists of networks, profiles of ONNX Runtime.
//!
//! What a file says is collected as [`Entry`]s, looked at for what speaks against it ([`traps`]), and only then made to rows. What can't
//! be a row at all is a [`Fault`]: an error, unless it is to be left out. What may be none is a [`Doubt`]: it stays, marked, unless it is
//! to be left out.

mod columns;
mod lookup;
mod onnxruntime;
mod traps;

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use fleetfoot_profiler::{Context, Doubt, Doubts, Latency, LatencyTable, Provenance, Row, TableError, Z};
use fleetfoot_space::{Network, Operator, OperatorKey, Precision, SearchSpace, Shape};

use crate::whole::WholeNetworks;
use columns::NetworkEntry;
pub use columns::{Columns, ColumnsError};
pub use lookup::lookup_keys;

/// In what form a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A look-up table of ProxylessNAS or Once-for-All, in YAML.
    Lookup,
    /// A CSV with a header.
    Csv,
    /// A profile of ONNX Runtime, in JSON.
    OnnxRuntime,
}

impl Format {
    const fn name(self) -> &'static str {
        match self {
            Self::Lookup => "once-for-all",
            Self::Csv => "csv",
            Self::OnnxRuntime => "onnxruntime",
        }
    }

    /// The form of a text, by its beginning.
    pub fn recognise(text: &str) -> Option<Self> {
        let trimmed = text.trim_start();
        if trimmed.starts_with('[') {
            return Some(Self::OnnxRuntime);
        }
        let mut lines = trimmed.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let first = lines.find(|line| *line != "---")?;
        if first.starts_with('{') || first.contains("-input:") || first.ends_with(':') {
            return Some(Self::Lookup);
        }
        (first.contains(',') && !first.contains(": ")).then_some(Self::Csv)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "once-for-all" | "ofa" | "proxylessnas" | "yaml" => Ok(Self::Lookup),
            "csv" => Ok(Self::Csv),
            "onnxruntime" | "ort" | "json" => Ok(Self::OnnxRuntime),
            _ => Err(format!("'{text}' is no form: wanted once-for-all, csv or onnxruntime")),
        }
    }
}

/// What makes an entry no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// No operator of fleetfoot is that.
    Inexpressible,
    /// Part of an operator, and the other part isn't there.
    Incomplete,
    /// Nothing takes less than no time.
    Negative,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Inexpressible, Self::Incomplete, Self::Negative];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inexpressible => "inexpressible",
            Self::Incomplete => "incomplete",
            Self::Negative => "negative",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What an entry was measured of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Piece {
    /// A unit.
    Unit(OperatorKey),
    /// The head's 1x1 convolution, at batch 1 in fp32.
    Features { height: usize, width: usize, c_in: usize, c_hidden: usize },
    /// What is behind that.
    Classifier { height: usize, width: usize, c_hidden: usize, classes: usize },
}

/// A number that a file holds.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Where it stands.
    pub place: String,
    /// What the file calls it.
    pub name: String,
    /// Of what it is.
    pub piece: Piece,
    /// In milliseconds, whatever its sign.
    pub ms: f64,
    /// Standard deviation of its samples.
    pub deviation: Option<f64>,
    /// Its interval, where the file says one.
    pub interval: Option<(f64, f64)>,
    /// Samples; 0 where unknown.
    pub samples: u64,
    /// What surrounded it.
    pub measured: Option<Context>,
    /// What speaks against it.
    pub doubts: Doubts,
}

impl Entry {
    /// A number of which nothing else is known yet.
    pub(crate) fn of(ms: f64) -> Self {
        Self {
            place: String::new(),
            name: String::new(),
            piece: Piece::Classifier { height: 1, width: 1, c_hidden: 1, classes: 1 },
            ms,
            deviation: None,
            interval: None,
            samples: 0,
            measured: None,
            doubts: Doubts::NONE,
        }
    }

    /// Its 99 % interval, as far as it is known: that of its mean, and half of the step to which it is rounded.
    fn ends(&self, step: f64) -> (f64, f64) {
        let half = match self.deviation {
            Some(deviation) if self.samples > 1 => Z * deviation / (self.samples as f64).sqrt(),
            _ => 0.0,
        };
        let (low, high) = self.interval.unwrap_or((self.ms - half, self.ms + half));
        let half = if self.doubts.contains(Doubt::Coarse) { step / 2.0 } else { 0.0 };
        ((low - half).min(self.ms).max(0.0), (high + half).max(self.ms))
    }
}

/// What a file holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Collected {
    /// In the file's order.
    pub entries: Vec<Entry>,
    /// What can't be a row.
    pub faults: Vec<(Fault, String)>,
    /// What people should know.
    pub notes: Vec<String>,
    /// What the file says of where its numbers come from.
    pub provenance: Provenance,
}

impl Collected {
    pub(crate) fn fault(&mut self, fault: Fault, what: String) {
        self.faults.push((fault, what));
    }
}

/// A file that can't be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Nobody knows what it is.
    #[error(
        "{0}: neither a look-up table of Once-for-All (YAML) nor a CSV with a header nor a profile of ONNX Runtime (JSON): say with --format which it is"
    )]
    Unknown(String),
    /// It isn't in its form.
    #[error("{origin}: {what}")]
    Form {
        /// The file.
        origin: String,
        /// Where and why.
        what: String,
    },
    /// Some of it can't be a row.
    #[error("{origin}: {list}; to go on without what is so, pass --leave-out {names}")]
    Faults {
        /// The file.
        origin: String,
        /// What, a few of them.
        list: String,
        /// The faults' names.
        names: String,
    },
    /// Nothing is left.
    #[error("{0}: nothing is left to import")]
    Nothing(String),
    /// Units of a space are missing.
    #[error("{origin} lacks {count} units of {space}: {list}")]
    Missing {
        /// The file.
        origin: String,
        /// How many.
        count: usize,
        /// The space.
        space: String,
        /// Their keys.
        list: String,
    },
    /// The rows make no table.
    #[error("{origin}: {source}")]
    Table {
        /// The file.
        origin: String,
        /// Why.
        source: TableError,
    },
}

/// What is to be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaveOut {
    faults: Vec<Fault>,
    doubts: Doubts,
}

impl FromStr for LeaveOut {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = Self::default();
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            if let Some(fault) = Fault::ALL.into_iter().find(|fault| fault.name() == name) {
                all.faults.push(fault);
            } else if let Some(doubt) = Doubt::ALL.into_iter().find(|doubt| doubt.name() == name) {
                all.doubts.insert(doubt);
            } else {
                let names =
                    Fault::ALL.iter().map(|fault| fault.name()).chain(Doubt::ALL.iter().map(|doubt| doubt.name()));
                return Err(format!(
                    "'{name}' is nothing that can be left out: wanted {}",
                    names.collect::<Vec<_>>().join(", ")
                ));
            }
        }
        Ok(all)
    }
}

/// A table that was imported.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The table.
    pub table: LatencyTable,
    /// What people should know.
    pub notes: Vec<String>,
    /// What is to be warned of: what is doubtful, and what was left out.
    pub warnings: Vec<String>,
}

/// The most lines of one kind that are told.
const TOLD: usize = 8;

/// Names a few of many.
fn few(all: &[String], separator: &str) -> String {
    let mut text = all.iter().take(TOLD).cloned().collect::<Vec<_>>().join(separator);
    if all.len() > TOLD {
        text.push_str(&format!("{separator}and {} more", all.len() - TOLD));
    }
    text
}

/// Imports a text as a latency table. `columns` say which columns of a CSV mean what; `space`, where given, is what the table is for: it
/// must hold all units, and tells a profile's padded channels apart.
pub fn import_table(
    text: &str,
    origin: &str,
    format: Format,
    (columns, space): (&Columns, Option<&SearchSpace>),
    leave_out: &LeaveOut,
    mut provenance: Provenance,
) -> Result<Imported, ImportError> {
    let form = |what: String| ImportError::Form { origin: origin.to_owned(), what };
    let mut collected = match format {
        Format::Lookup => lookup::read(text).map_err(form)?,
        Format::Csv => columns::read(text, columns).map_err(form)?,
        Format::OnnxRuntime => onnxruntime::read(text, space).map_err(form)?,
    };
    let mut warnings = Vec::new();
    if !text.ends_with('\n') && format == Format::Lookup && !text.trim_start().starts_with('{') {
        warnings.push(format!("{origin}: its last line doesn't end: it may be cut"));
    }
    for entry in collected.entries.extract_if(.., |entry| entry.ms < 0.0) {
        collected.faults.push((Fault::Negative, format!("{}, {}: {} ms", entry.place, entry.name, entry.ms)));
    }
    let found = traps::look(&mut collected.entries);
    warnings.extend(found.warnings.into_iter().map(|warning| format!("{origin}: {warning}")));
    let before = collected.entries.len();
    collected.entries.retain(|entry| !entry.doubts.iter().any(|doubt| leave_out.doubts.contains(doubt)));
    if before > collected.entries.len() {
        warnings.push(format!("{origin}: {} doubtful entries are left out", before - collected.entries.len()));
    }
    let rows = joined(&mut collected, found.step);
    warnings.extend(settle(std::mem::take(&mut collected.faults), leave_out, origin)?);
    if rows.is_empty() {
        return Err(ImportError::Nothing(origin.to_owned()));
    }
    collected.provenance.iter().for_each(|(name, value)| provenance.set(name, value));
    provenance.set("imported_form", format);
    let table = LatencyTable::new(provenance, Latency::ZERO, rows)
        .map_err(|source| ImportError::Table { origin: origin.to_owned(), source })?;
    let mut notes = collected.notes;
    if let Some(space) = space {
        let units = space.distinct_units(table.batch(), table.precision());
        let missing = units.iter().filter(|unit| unit.operator != Operator::Zero && table.get(unit).is_none());
        let missing: Vec<String> = missing.map(|unit| name_in(unit, format)).collect();
        match missing.len() {
            0 => {}
            // It is of one network.
            count if format == Format::OnnxRuntime => {
                notes.push(format!("{count} units of {} are not in it: profile other networks, too", space.name()));
            }
            count => {
                let (space, list) = (space.name().to_owned(), few(&missing, ", "));
                return Err(ImportError::Missing { origin: origin.to_owned(), count, space, list });
            }
        }
    }
    Ok(Imported { table, notes, warnings })
}

/// A unit, and what it is called in a file of this form.
fn name_in(unit: &OperatorKey, format: Format) -> String {
    let keys = if format == Format::Lookup { lookup_keys(unit) } else { Vec::new() };
    if keys.is_empty() { unit.to_string() } else { format!("{unit} ({})", keys.join(" and ")) }
}

/// The rows: units as they are, heads of their two parts.
fn joined(collected: &mut Collected, step: f64) -> Vec<Row> {
    let latency = |ms: f64| Latency::from_ms(ms).unwrap_or_default();
    let row = |key: OperatorKey, parts: &[&Entry]| {
        let sum = |value: &dyn Fn(&Entry) -> f64| parts.iter().map(|part| value(part)).sum::<f64>();
        Row {
            key,
            latency: latency(sum(&|part| part.ms)),
            low: latency(sum(&|part| part.ends(step).0)),
            high: latency(sum(&|part| part.ends(step).1)),
            samples: parts.iter().map(|part| part.samples).min().unwrap_or_default(),
            raw: None,
            boundary: None,
            measured: parts[0].measured,
            doubts: parts.iter().fold(Doubts::NONE, |all, part| all.union(part.doubts)),
        }
    };
    let mut rows = Vec::new();
    let mut classifiers: HashMap<(usize, usize, usize), Vec<&Entry>> = HashMap::new();
    for entry in &collected.entries {
        if let Piece::Classifier { height, width, c_hidden, .. } = entry.piece {
            classifiers.entry((height, width, c_hidden)).or_default().push(entry);
        }
    }
    let mut faults = Vec::new();
    for entry in &collected.entries {
        match entry.piece {
            Piece::Unit(key) => rows.push(row(key, &[entry])),
            Piece::Features { height, width, c_in, c_hidden } => {
                let behind = classifiers.get(&(height, width, c_hidden));
                for classifier in behind.into_iter().flatten() {
                    let Piece::Classifier { classes, .. } = classifier.piece else { continue };
                    let input = Shape::new(1, c_in, height, width);
                    let key = OperatorKey {
                        operator: Operator::Head { c_in, c_hidden, classes },
                        input,
                        precision: Precision::Fp32,
                    };
                    rows.push(row(key, &[entry, classifier]));
                }
                if behind.is_none() {
                    let wanted = format!("Logits-input:{height}x{width}x{c_hidden}-output:CLASSES");
                    faults
                        .push(format!("{}, {}: the head's other half, {wanted}, isn't there", entry.place, entry.name));
                }
            }
            Piece::Classifier { height, width, c_hidden, .. } => {
                let is_in_front = |other: &Entry| matches!(other.piece, Piece::Features { height: h, width: w, c_hidden: c, .. } if (h, w, c) == (height, width, c_hidden));
                if !collected.entries.iter().any(is_in_front) {
                    let wanted = format!("Conv_1-input:{height}x{width}xCHANNELS-output:{height}x{width}x{c_hidden}");
                    faults
                        .push(format!("{}, {}: the head's other half, {wanted}, isn't there", entry.place, entry.name));
                }
            }
        }
    }
    for what in faults {
        collected.fault(Fault::Incomplete, what);
    }
    rows
}

/// Whole networks that were imported: the text of a file that `fleetfoot fit --networks` reads.
#[derive(Clone, Debug)]
pub struct ImportedNetworks {
    /// The file's text.
    pub csv: Vec<u8>,
    /// How many networks it holds.
    pub count: usize,
    /// What is to be warned of.
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
    let mut networks = columns::read_networks(text, columns).map_err(form)?;
    let mut faults = Vec::new();
    for network in networks.extract_if(.., |network| network.ms <= 0.0) {
        let what = format!("line {}, {}: {} ms", network.line, network.architecture, network.ms);
        faults.push((Fault::Negative, what));
    }
    let mut architectures = Vec::new();
    if let Some(space) = space {
        networks.retain(|network| match space.parse_architecture(&network.architecture) {
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
    let mut warnings = settle(faults, leave_out, origin)?;
    let values: Vec<f64> = networks.iter().map(|network| network.ms).collect();
    let (doubts, found) = traps::of_networks(&values, space.map(|space| (space, architectures.as_slice())));
    warnings.extend(found.into_iter().map(|warning| format!("{origin}: {warning}")));
    let rows: Vec<(NetworkEntry, Doubts)> = networks.into_iter().zip(doubts).collect();
    let before = rows.len();
    let rows: Vec<_> =
        rows.into_iter().filter(|(_, doubts)| !doubts.iter().any(|doubt| leave_out.doubts.contains(doubt))).collect();
    if rows.len() < before {
        warnings.push(format!("{origin}: {} doubtful networks are left out", before - rows.len()));
    }
    if rows.is_empty() {
        return Err(ImportError::Nothing(origin.to_owned()));
    }
    provenance.set("imported_form", Format::Csv);
    let has = |wanted: fn(&(NetworkEntry, Doubts)) -> bool| rows.iter().any(wanted);
    let (intervals, samples, doubted) = (
        rows.iter().all(|(network, _)| network.interval.is_some()),
        has(|(network, _)| network.samples.is_some()),
        has(|(_, doubts)| !doubts.is_empty()),
    );
    let optional = [(intervals, "low_ms"), (intervals, "high_ms"), (samples, "n"), (doubted, "doubts")];
    let mut header = vec!["architecture", "latency_ms"];
    header.extend(optional.iter().filter(|(wanted, _)| *wanted).map(|(_, name)| *name));
    let mut writer = csv::Writer::from_writer(provenance.to_head().into_bytes());
    let failed = |error: csv::Error| ImportError::Form { origin: origin.to_owned(), what: error.to_string() };
    writer.write_record(&header).map_err(failed)?;
    for (network, doubts) in &rows {
        let (low, high) = network.interval.unwrap_or_default();
        let mut record = vec![network.architecture.clone(), network.ms.to_string()];
        let optional = [
            (intervals, low.to_string()),
            (intervals, high.to_string()),
            (samples, network.samples.clone().unwrap_or_default()),
            (doubted, doubts.to_string()),
        ];
        record.extend(optional.into_iter().filter(|(wanted, _)| *wanted).map(|(_, text)| text));
        writer.write_record(&record).map_err(failed)?;
    }
    let csv = writer.into_inner().map_err(|error| failed(error.into_error().into()))?;
    Ok(ImportedNetworks { csv, count: rows.len(), warnings })
}

/// What speaks against networks of a space, in the order in which they were measured, for people.
pub fn doubts_of_networks(networks: &WholeNetworks, space: &SearchSpace) -> Vec<String> {
    let networks = networks.networks();
    let values: Vec<f64> = networks.iter().map(|network| network.latency.ms()).collect();
    let architectures: Vec<_> = networks.iter().map(|network| network.architecture.clone()).collect();
    traps::of_networks(&values, Some((space, &architectures))).1
}

/// Refuses what can't be a row, but for what is to be left out: a warning.
fn settle(faults: Vec<(Fault, String)>, leave_out: &LeaveOut, origin: &str) -> Result<Vec<String>, ImportError> {
    let (out, wrong): (Vec<_>, Vec<_>) = faults.into_iter().partition(|(fault, _)| leave_out.faults.contains(fault));
    let list = |faults: &[(Fault, String)]| {
        let all: Vec<String> = faults.iter().map(|(fault, what)| format!("{what} ({fault})")).collect();
        few(&all, "; ")
    };
    if !wrong.is_empty() {
        let mut names: Vec<&str> = wrong.iter().map(|(fault, _)| fault.name()).collect();
        names.sort_unstable();
        names.dedup();
        let (origin, list, names) = (origin.to_owned(), list(&wrong), names.join(","));
        return Err(ImportError::Faults { origin, list, names });
    }
    Ok(match out.len() {
        0 => Vec::new(),
        count => vec![format!("{origin}: {count} entries are left out: {}", list(&out))],
    })
}

/// What a piece computes and moves: its network; the classifier's as the linear layer that it mostly is.
pub(crate) fn network_of(piece: &Piece) -> Option<Network> {
    let key = match *piece {
        Piece::Unit(key) => key,
        Piece::Features { height, width, c_in, c_hidden } => OperatorKey {
            operator: Operator::Conv { kernel: 1, stride: 1, c_in, c_out: c_hidden, groups: 1 },
            input: Shape::new(1, c_in, height, width),
            precision: Precision::Fp32,
        },
        Piece::Classifier { c_hidden, classes, .. } => OperatorKey {
            operator: Operator::Conv { kernel: 1, stride: 1, c_in: c_hidden, c_out: classes, groups: 1 },
            input: Shape::new(1, c_hidden, 1, 1),
            precision: Precision::Fp32,
        },
    };
    Network::of_unit(&key, 1e-3).ok()
}
