//! What `fit` and `evaluate` take besides whole networks: the device's table, other devices.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use fleetfoot_predictor::{
    Costs, Evidence, NetworkModel, Regression, Repeated, TablePredictor, WholeNetworks, doubts_of_networks, repeats,
};
use fleetfoot_profiler::{Conditions, Cost, LatencyTable, csv_records};
use fleetfoot_space::{Architecture, SearchSpace, without_mark};

/// Options that name evidence beside whole networks.
#[derive(Debug, Args)]
pub struct OtherOptions {
    /// What other devices take: whole networks (CSV), a model of whole networks (JSON) or a latency table (CSV), each of one device
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub transfer_from: Vec<PathBuf>,
}

/// Refuses to write over what is read: other devices' files, and files with what each is.
pub fn keep_apart(output: &Path, inputs: &[(Option<&Path>, &str)], others: &OtherOptions) -> Result<()> {
    let Ok(output_path) = output.canonicalize() else { return Ok(()) };
    let inputs = inputs.iter().filter_map(|(input, what)| Some(((*input)?, *what)));
    let others = others.transfer_from.iter().map(|other| (other.as_path(), "the other device's file itself"));
    for (input, what) in inputs.chain(others) {
        if input.canonicalize().is_ok_and(|input| input == output_path) {
            bail!("{} is {what}: write to another file", output.display());
        }
    }
    Ok(())
}

/// Reads whole networks and says what is to be warned of.
pub fn networks(path: &Path, space: &SearchSpace) -> Result<WholeNetworks> {
    let (networks, warnings) = WholeNetworks::read(path, space)?;
    warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    doubt(path, space, &networks);
    Ok(networks)
}

/// Says what speaks against networks that somebody else has measured.
fn doubt(path: &Path, space: &SearchSpace, networks: &WholeNetworks) {
    let head = networks.provenance();
    if head.get("tool").is_none() || head.get("imported_form").is_some() {
        let doubts = doubts_of_networks(networks, space);
        doubts.iter().for_each(|doubt| eprintln!("warning: {}: {doubt}", path.display()));
    }
}

/// What evidence is for.
pub struct Purpose<'a> {
    /// The space whose networks are to be predicted.
    pub space: &'a SearchSpace,
    /// Those that were measured of them, if any.
    pub measured: Option<&'a WholeNetworks>,
    /// Architectures that are predicted later: what other devices say of them stays unknown.
    pub left_out: HashSet<Architecture>,
}

/// Reads evidence for a model of a space's networks: a table that was measured under their conditions, other devices.
pub fn read(purpose: &Purpose<'_>, table: Option<&Path>, others: &OtherOptions) -> Result<Evidence> {
    let own = table.map(|path| own_table(purpose, path)).transpose()?;
    let paths = &others.transfer_from;
    let others = paths.iter().map(|path| other(purpose, path)).collect::<Result<Vec<Costs>>>()?;
    // Said twice, it would count twice.
    let said: Vec<(&Path, &Costs)> =
        table.into_iter().zip(&own).chain(paths.iter().map(PathBuf::as_path).zip(&others)).collect();
    for (index, (path, costs)) in said.iter().enumerate() {
        if let Some((before, _)) = said[..index].iter().find(|(_, before)| before.is_copy_of(costs)) {
            bail!("{} says the same as {}: name it once", path.display(), before.display());
        }
    }
    Ok(Evidence { table: own, others })
}

fn own_table(purpose: &Purpose<'_>, path: &Path) -> Result<Costs> {
    let (table, warnings) = LatencyTable::read(path)?;
    warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    let measured = purpose.measured.and_then(|networks| Conditions::from_provenance(networks.provenance()));
    match (table.conditions(), &measured) {
        (Some(table), Some(measured)) => table.predicts(measured).with_context(|| {
            format!("{} was measured under other conditions than the whole networks", path.display())
        })?,
        _ => eprintln!("warning: whether {} and the networks are of one device isn't known", path.display()),
    }
    // Another device's may be all that is known of it, but the own one is to be of the space.
    let units = purpose.space.distinct_units(table.batch(), table.precision());
    if table.cost() == Cost::Latency && units.iter().all(|unit| table.get(unit).is_none()) {
        let name = purpose.space.name();
        bail!("{} has no row for any unit of {name}: it is a table of another space", path.display());
    }
    costs(purpose.space, path, table)
}

/// A table's costs.
fn costs(space: &SearchSpace, path: &Path, table: LatencyTable) -> Result<Costs> {
    if table.cost() != Cost::Latency {
        bail!("{} is a table of {}, not of latency", path.display(), table.cost());
    }
    let mut predictor = TablePredictor::new(table, None).for_space(space.name());
    let unmeasured = predictor.unmeasured(space).len();
    if unmeasured > 0 {
        let regression = Regression::fit(predictor.table(), 0)
            .with_context(|| format!("{} has no row for {unmeasured} units of {}", path.display(), space.name()))?;
        eprintln!("warning: {unmeasured} units of {} that {} hasn't are estimated", space.name(), path.display());
        predictor = TablePredictor::new(predictor.table().clone(), Some(regression));
    }
    Ok(Costs::of_table(space, predictor.table(), &predictor)?)
}

/// What another device says.
fn other(purpose: &Purpose<'_>, path: &Path) -> Result<Costs> {
    let Purpose { space, left_out, .. } = purpose;
    let text = std::fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
    let text = without_mark(&text);
    if text.trim_start().starts_with('{') {
        let model = NetworkModel::read_for(space, path)?;
        let known = model.networks();
        refuse_repeated(purpose, path, known.iter().map(|(architecture, ms)| (architecture, *ms)))?;
        let is_judge = known.iter().any(|(architecture, _)| left_out.contains(architecture));
        if left_out.is_empty() {
            if known.is_empty() {
                eprintln!(
                    "warning: {} doesn't say what it was fitted to: it may be this device itself",
                    path.display()
                );
            }
        } else if model.knows_others() || is_judge {
            let how = if is_judge { "knows" } else { "may know" };
            bail!(
                "model {} {how} networks that are to be predicted: name the networks that it was fitted to",
                path.display()
            );
        }
        return Ok(Costs::of_model(&model));
    }
    if !csv_records(text).headers().is_ok_and(|header| header.iter().any(|column| column == "architecture")) {
        let (table, warnings) = LatencyTable::parse(text, path)?;
        warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
        return costs(space, path, table);
    }
    let (networks, warnings) = WholeNetworks::parse(text, path, space)?;
    warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    doubt(path, space, &networks);
    refuse_repeated(purpose, path, networks.pairs())?;
    let networks = networks.without(left_out);
    let model = NetworkModel::fit(space, &networks, &Evidence::default())
        .with_context(|| format!("other device {}", path.display()))?;
    Ok(Costs::of_model(&model))
}

/// Refuses the device's own latencies as another device's: a model would count them twice, and be too sure.
fn refuse_repeated<'a>(
    purpose: &Purpose<'_>,
    path: &Path,
    other: impl Iterator<Item = (&'a Architecture, f64)>,
) -> Result<()> {
    let Some(own) = purpose.measured else { return Ok(()) };
    let (shared, how) = match repeats(own.pairs(), other) {
        None => return Ok(()),
        Some(Repeated::Same(shared)) => bail!(
            "{} is no other device: the {shared} networks that it shares with those of --networks take the same there, to the last digit",
            path.display()
        ),
        Some(Repeated::Alike(shared)) => (shared, "take the same, as far as such coarse values tell"),
        Some(Repeated::Scaled(shared)) => (shared, "take the same but for a factor"),
    };
    eprintln!(
        "warning: {} may be no other device: the {shared} networks that it shares with those of --networks {how}; if they are one \
         measurement, intervals will be too narrow",
        path.display()
    );
    Ok(())
}
