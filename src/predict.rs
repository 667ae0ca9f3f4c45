//! `fleetfoot predict`: latencies of networks, without running them.

use std::collections::HashSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use fleetfoot_console::usage;
use fleetfoot_predictor::{
    CostMatrix, NetworkModel, Prediction, Predictor, Regression, Source, SpaceTable, TablePredictor, cost_matrix,
};
use fleetfoot_profiler::{Budget, Cost, Latency};
use fleetfoot_space::{OperatorKey, SearchSpace};
use fleetfoot_worklist::{ArchitectureOptions, Named, Unwritten};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// How near `--near` is.
const NEAR: f64 = 0.02;

/// Options of `predict`.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    evidence: EvidenceOptions,
    /// Search space: a preset's name or a TOML file; a model of whole networks knows its own
    #[arg(long, value_name = "SPACE", required_unless_present = "model")]
    space: Option<String>,
    #[command(flatten)]
    architectures: ArchitectureOptions,
    /// Predict this many random architectures of the space, too
    #[arg(long, value_name = "N", default_value_t = 0)]
    random: usize,
    /// Draw the random architectures from those predicted within 2 % of this: a latency (0.25ms, 250us), a throughput (4000/s),
    /// or what else the table is of (3.5MiB, 12mJ)
    #[arg(long, value_name = "COST", requires = "random")]
    near: Option<Budget>,
    /// Seed of the random architectures
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// List every unit's cost, interval and source instead of the networks' latencies
    #[arg(long)]
    explain: bool,
}

/// What predictions are made from.
#[derive(Debug, Args)]
pub struct EvidenceOptions {
    /// The device's latency table
    #[arg(long, value_name = "FILE", required_unless_present = "model")]
    table: Option<PathBuf>,
    /// Estimate units that the table hasn't, by regression
    #[arg(long, requires = "table")]
    estimate: bool,
    /// A model of `fleetfoot fit`: with --table and --estimate the regression (without it, one is fitted to the table on the spot);
    /// without --table a model of whole networks, which predicts them with 90 % intervals
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
}

impl EvidenceOptions {
    /// A table, and a regression where estimates are wanted.
    pub fn new(table: PathBuf, estimate: bool, model: Option<PathBuf>) -> Self {
        Self { table: Some(table), estimate, model }
    }

    /// The table.
    pub fn table(&self) -> Option<&Path> {
        self.table.as_deref()
    }

    /// The model.
    pub fn model(&self) -> Option<&Path> {
        self.model.as_deref()
    }

    /// Reads the table and, where estimates are wanted, the regression; `space` is what is asked about.
    pub fn predictor(&self, space: &str) -> Result<TablePredictor> {
        if self.model.is_some() && !self.estimate {
            return Err(usage("--model beside --table estimates units that the table hasn't: say --estimate, too"));
        }
        let table = self.table.as_deref().context("no latency table is named (--table)")?;
        let (predictor, warnings) = TablePredictor::read(table, self.model.as_deref(), self.estimate)?;
        warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
        Ok(predictor.for_space(space))
    }
}

/// Runs the command.
pub fn run(options: &Options) -> Result<()> {
    if options.architectures.is_empty() && options.random == 0 {
        return Err(usage("nothing to predict: name architectures, a file with --architectures, or --random N"));
    }
    if let (None, Some(model)) = (&options.evidence.table, &options.evidence.model) {
        return by_model(options, model);
    }
    let name = options.space.as_deref().ok_or_else(|| usage("of which space? --space"))?;
    let space = SearchSpace::load(name)?;
    let predictor = options.evidence.predictor(name)?;
    if options.explain { explained(options, &space, &predictor) } else { by_table(options, &space, &predictor) }
}

/// Hands on the architectures that are named, and the random ones.
fn each(
    options: &Options,
    space: &SearchSpace,
    costs: Option<&CostMatrix>,
    cost: Cost,
    batch: usize,
    mut take: impl FnMut(Named) -> Result<()>,
) -> Result<()> {
    options.architectures.each(space, &mut take)?;
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let near = options.near.map(|budget| budget.amount(cost, batch)).transpose()?.zip(costs);
    let near = near.map(|(amount, costs)| (amount, costs.range_ms(), costs.sampler_near(amount.ms(), NEAR)));
    for _ in 0..options.random {
        let architecture = match &near {
            None => space.random(&mut rng),
            Some((amount, (least, most), sampler)) => sampler.draw(&mut rng).with_context(|| {
                let (amount, unit) = (cost.show(*amount), cost.unit());
                format!(
                    "no network is predicted within 2 % of {amount}: the space holds {least:.4} to {most:.4} {unit}"
                )
            })?,
        };
        take(Named::Own(architecture))?;
    }
    Ok(())
}

/// Why a network of other widths than the space's can't be predicted.
fn widened(named: &Named, error: anyhow::Error) -> anyhow::Error {
    match named {
        Named::Own(_) => error,
        Named::Widened { label, .. } => error.context(format!(
            "{label} has widths of its own, whose units are in the profile of a space file with these widths (width_multiplier)"
        )),
    }
}

/// Latencies by a table, written as they come: files may have millions of lines.
fn by_table(options: &Options, space: &SearchSpace, predictor: &TablePredictor) -> Result<()> {
    let (batch, precision, cost) = (predictor.table().batch(), predictor.table().precision(), predictor.table().cost());
    let costs = options.near.map(|_| cost_matrix(space, predictor, batch, precision)).transpose()?;
    // A table without some of the space's units predicts those networks that do without them.
    let whole = SpaceTable::new(space, predictor, batch, precision).ok();
    let [own, low, high, ..] = cost.columns();
    let mut rows = Rows::new(["architecture", own, low, high])?;
    let mut estimates = Estimates::new(predictor);
    let done = each(options, space, costs.as_ref(), cost, batch, |named| {
        let (label, space, architecture) = match (&named, &whole) {
            (Named::Own(architecture), Some(whole)) => {
                let foreign = || format!("{architecture} isn't one of space {}", space.name());
                estimates.count(whole.estimated(architecture.choices()))?;
                let estimate = whole.predict(architecture.choices()).with_context(foreign)?;
                return rows.push(&architecture.to_string(), [estimate.ms, estimate.low_ms, estimate.high_ms]);
            }
            (Named::Own(architecture), None) => (architecture.to_string(), space, architecture),
            (Named::Widened { label, space, architecture }, _) => (label.clone(), &**space, architecture),
        };
        let network = space.network_at(architecture, batch, precision)?;
        let prediction = predictor.network(&network).map_err(|error| widened(&named, error.into()))?;
        estimates.count(estimated(&prediction))?;
        rows.push(&label, [prediction.latency, prediction.low, prediction.high].map(Latency::ms))
    });
    if done.is_ok() {
        estimates.tell();
    }
    rows.finish(done)
}

/// Every unit's share by a table.
fn explained(options: &Options, space: &SearchSpace, predictor: &TablePredictor) -> Result<()> {
    let (batch, precision, cost) = (predictor.table().batch(), predictor.table().precision(), predictor.table().cost());
    let costs = options.near.map(|_| cost_matrix(space, predictor, batch, precision)).transpose()?;
    let mut predictions = Vec::new();
    each(options, space, costs.as_ref(), cost, batch, |named| {
        let (label, space, architecture) = match &named {
            Named::Own(architecture) => (architecture.to_string(), space, architecture),
            Named::Widened { label, space, architecture } => (label.clone(), &**space, architecture),
        };
        let network = space.network_at(architecture, batch, precision)?;
        predictions.push((label, predictor.network(&network).map_err(|error| widened(&named, error.into()))?));
        Ok(())
    })?;
    warn_of_estimates(predictor, predictions.iter().map(|(_, prediction)| prediction))?;
    Ok(io::stdout().lock().write_all(&explain(cost, &predictions)?)?)
}

/// By a model of whole networks.
fn by_model(options: &Options, path: &Path) -> Result<()> {
    if options.near.is_some() || options.explain {
        return Err(usage("--near and --explain are for tables (--table): a model of whole networks knows no units"));
    }
    let model = match &options.space {
        Some(name) => NetworkModel::read_for(&SearchSpace::load(name)?, path)?,
        None => NetworkModel::read(path)?,
    };
    let own = model.space()?;
    let mut rows = Rows::new(["architecture", "latency_ms", "low_ms", "high_ms"])?;
    let mut beyond = (0, None);
    let done = each(options, &own, None, Cost::Latency, 1, |named| {
        let architecture = match named {
            Named::Own(architecture) => architecture,
            Named::Widened { label, .. } => {
                bail!("{label} has widths of its own: model {} is for those of space {}", path.display(), own.name())
            }
        };
        let (estimate, furthest) = model.predict_within(&architecture)?;
        if let Some(total) = furthest {
            beyond = (beyond.0 + 1, beyond.1.take().or_else(|| Some((architecture.to_string(), total.to_owned()))));
        }
        rows.push(&architecture.to_string(), [estimate.ms, estimate.low_ms, estimate.high_ms])
    });
    if let (true, (count, Some((first, total)))) = (done.is_ok(), beyond) {
        eprintln!(
            "warning: {count} networks lie outside of what the model was fitted to, such as {first} (by its {total}): their intervals are \
             wider, and they may lie outside all the same"
        );
    }
    rows.finish(done)
}

/// A CSV on standard output: written in parts, so that nothing is written yet when a short input turns out to be wrong, and all that came
/// before where a long one does.
struct Rows {
    writer: csv::Writer<Vec<u8>>,
    held: usize,
    has_written: bool,
}

impl Rows {
    /// Rows that are held back at most.
    const HELD: usize = 8192;

    fn new(header: [&str; 4]) -> Result<Self> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(header)?;
        Ok(Self { writer, held: 0, has_written: false })
    }

    fn push(&mut self, label: &str, numbers: [f64; 3]) -> Result<()> {
        let [own, low, high] = numbers.map(|number| number.to_string());
        self.writer.write_record([label, &own, &low, &high])?;
        self.held += 1;
        if self.held == Self::HELD {
            self.held = 0;
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<()> {
        let writer = std::mem::replace(&mut self.writer, csv::Writer::from_writer(Vec::new()));
        let bytes = writer.into_inner().map_err(csv::IntoInnerError::into_error)?;
        let mut out = io::stdout().lock();
        out.write_all(&bytes).and_then(|()| out.flush()).map_err(Unwritten::from)?;
        self.has_written = true;
        Ok(())
    }

    /// Writes what is held, be it that something behind it was wrong.
    fn finish(mut self, done: Result<()>) -> Result<()> {
        if done.is_ok() || self.has_written {
            self.write()?;
        }
        done
    }
}

/// Counts units that were never measured, since predictions with them are worth less.
struct Estimates<'a> {
    regression: Option<&'a Regression>,
    count: usize,
    first: Option<OperatorKey>,
    checked: HashSet<OperatorKey>,
    /// The first that the regression has to extrapolate for, and by which feature.
    beyond: Option<(OperatorKey, &'a str)>,
}

impl<'a> Estimates<'a> {
    fn new(predictor: &'a TablePredictor) -> Self {
        Self { regression: predictor.regression(), count: 0, first: None, checked: HashSet::new(), beyond: None }
    }

    fn count<'k>(&mut self, keys: impl Iterator<Item = &'k OperatorKey>) -> Result<()> {
        for key in keys {
            self.count += 1;
            self.first.get_or_insert(*key);
            if let (None, Some(regression), true) = (self.beyond, self.regression, self.checked.insert(*key)) {
                self.beyond = regression.extrapolates(key)?.map(|feature| (*key, feature));
            }
        }
        Ok(())
    }

    fn tell(&self) -> usize {
        if let Some(first) = self.first {
            eprintln!("warning: {} units are estimated by regression, such as {first}", self.count);
        }
        if let Some((key, feature)) = self.beyond {
            eprintln!("warning: {key} lies outside of what the regression was fitted to (by {feature})");
        }
        self.count
    }
}

fn estimated(prediction: &Prediction) -> impl Iterator<Item = &OperatorKey> {
    prediction.units.iter().filter(|unit| unit.estimate.source == Source::Regression).map(|unit| &unit.key)
}

/// Warns of a space's units that were never measured.
pub fn warn_of_unmeasured(predictor: &TablePredictor, space: &SearchSpace) -> Result<()> {
    let mut estimates = Estimates::new(predictor);
    if predictor.regression().is_some() {
        estimates.count(predictor.unmeasured(space).iter())?;
    }
    estimates.tell();
    Ok(())
}

/// Warns of units that were never measured: their number.
pub fn warn_of_estimates<'a>(
    predictor: &TablePredictor,
    predictions: impl Iterator<Item = &'a Prediction>,
) -> Result<usize> {
    let mut estimates = Estimates::new(predictor);
    for prediction in predictions {
        estimates.count(estimated(prediction))?;
    }
    Ok(estimates.tell())
}

fn explain(cost: Cost, predictions: &[(String, Prediction)]) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let [own, low, high, ..] = cost.columns();
    writer.write_record(["architecture", "unit", own, low, high, "source", "key"])?;
    for (architecture, prediction) in predictions {
        let overhead = prediction.overhead.ms().to_string();
        let call = [architecture, "call", &overhead, &overhead, &overhead, "measured", "empty graph"];
        writer.write_record(call)?;
        for unit in &prediction.units {
            let estimate = unit.estimate;
            let [latency, low, high] = [estimate.latency, estimate.low, estimate.high].map(|l| l.ms().to_string());
            let (source, key) = (estimate.source.to_string(), unit.key.to_string());
            writer.write_record([architecture, &unit.name, &latency, &low, &high, &source, &key])?;
        }
    }
    Ok(writer.into_inner().map_err(csv::IntoInnerError::into_error)?)
}
