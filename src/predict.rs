//! `fleetfoot predict`: latencies of networks, without running them.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use fleetfoot_console::usage;
use fleetfoot_predictor::{NetworkEstimate, NetworkModel, Prediction, Predictor, Source, TablePredictor, cost_matrix};
use fleetfoot_profiler::{Budget, Cost};
use fleetfoot_space::SearchSpace;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::cli::ArchitectureOptions;

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

    /// Reads the table and, where estimates are wanted, the regression; `space` is what is asked about.
    pub fn predictor(&self, space: &str) -> Result<TablePredictor> {
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
    match (&options.evidence.table, &options.evidence.model) {
        (None, Some(model)) => return by_model(options, model),
        (Some(_), Some(_)) if !options.evidence.estimate => {
            return Err(usage("--model beside --table estimates units that the table hasn't: say --estimate, too"));
        }
        _ => {}
    }
    let name = options.space.as_deref().ok_or_else(|| usage("of which space? --space"))?;
    let space = SearchSpace::load(name)?;
    let predictor = options.evidence.predictor(name)?;
    let (batch, precision) = (predictor.table().batch(), predictor.table().precision());
    let mut predictions = Vec::new();
    for (label, space, architecture) in options.architectures.resolve(&space)? {
        let network = space.network_at(&architecture, batch, precision)?;
        predictions.push((label, predictor.network(&network)?));
    }
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let cost = predictor.table().cost();
    let costs = options.near.map(|_| cost_matrix(&space, &predictor, batch, precision)).transpose()?;
    let near = options.near.map(|budget| budget.amount(cost, batch)).transpose()?.zip(costs.as_ref());
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
        let network = space.network_at(&architecture, batch, precision)?;
        predictions.push((architecture.to_string(), predictor.network(&network)?));
    }
    warn_of_estimates(&predictor, predictions.iter().map(|(_, prediction)| prediction))?;
    let out = if options.explain { explain(cost, &predictions)? } else { csv(cost, &predictions)? };
    io::stdout().lock().write_all(&out)?;
    Ok(())
}

/// By a model of whole networks.
fn by_model(options: &Options, path: &Path) -> Result<()> {
    if options.near.is_some() || options.explain {
        return Err(usage("--near and --explain are for tables (--table): a model of whole networks knows no units"));
    }
    let model = NetworkModel::read(path)?;
    let own = model.space()?;
    if let Some(name) = &options.space {
        let asked = SearchSpace::load(name)?;
        if asked.signature() != own.signature() {
            bail!("model {} is for networks of space {}, not of {}", path.display(), own.name(), asked.name());
        }
    }
    let mut all = Vec::new();
    for (label, space, architecture) in options.architectures.resolve(&own)? {
        if space.decisions() != own.decisions() || space.back() != own.back() {
            bail!("{label} has widths of its own: model {} is for those of space {}", path.display(), own.name());
        }
        all.push((label, architecture));
    }
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    all.extend((0..options.random).map(|_| own.random(&mut rng)).map(|drawn| (drawn.to_string(), drawn)));
    let mut writer = csv::Writer::from_writer(io::stdout().lock());
    writer.write_record(["architecture", "latency_ms", "low_ms", "high_ms"])?;
    for (label, architecture) in all {
        let NetworkEstimate { ms, low_ms, high_ms } = model.predict(&architecture)?;
        writer.write_record([label, ms.to_string(), low_ms.to_string(), high_ms.to_string()])?;
    }
    Ok(writer.flush()?)
}

/// Warns of units that were never measured, since predictions with them are worth less: their number.
pub fn warn_of_estimates<'a>(
    predictor: &TablePredictor,
    predictions: impl Iterator<Item = &'a Prediction>,
) -> Result<usize> {
    let units = predictions.flat_map(|prediction| &prediction.units);
    let estimated: Vec<_> = units.filter(|unit| unit.estimate.source == Source::Regression).collect();
    let (Some(first), Some(regression)) = (estimated.first(), predictor.regression()) else { return Ok(0) };
    eprintln!("warning: {} units are estimated by regression, such as {}", estimated.len(), first.key);
    for unit in &estimated {
        if let Some(feature) = regression.extrapolates(&unit.key)? {
            eprintln!("warning: {} lies outside of what the regression was fitted to (by {feature})", unit.key);
            break;
        }
    }
    Ok(estimated.len())
}

fn csv(cost: Cost, predictions: &[(String, Prediction)]) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let [own, low, high, ..] = cost.columns();
    writer.write_record(["architecture", own, low, high])?;
    for (architecture, prediction) in predictions {
        let times = [prediction.latency, prediction.low, prediction.high].map(|latency| latency.ms().to_string());
        writer.write_record([&[architecture.clone()][..], &times[..]].concat())?;
    }
    Ok(writer.into_inner().map_err(csv::IntoInnerError::into_error)?)
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
