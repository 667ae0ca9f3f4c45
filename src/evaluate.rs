//! `fleetfoot evaluate`: predictions against networks measured now.

mod contexts;
mod networks;

use std::io::{self, StdoutLock, Write};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use clap::builder::RangedU64ValueParser;
use fleetfoot_console::usage;
use fleetfoot_predictor::{Evaluation, Predictor};
use fleetfoot_profiler::{Cost, DeviceConfig, Subject, median, write_json};
use fleetfoot_space::SearchSpace;
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use crate::cli::PlanOptions;
use crate::measuring::check_precision;
use crate::predict::{EvidenceOptions, warn_of_estimates};
use crate::tabulating::Work;
pub use networks::context_of;
use networks::{draw, measure, repeatability, values};

/// Options of `evaluate`.
#[derive(Debug, Args)]
pub struct Options {
    /// Latency tables of one device to compare, measured in different contexts
    #[arg(value_name = "TABLES", conflicts_with = "table")]
    tables: Vec<PathBuf>,
    /// The device's latency table
    #[arg(long, value_name = "FILE", required_unless_present = "tables")]
    table: Option<PathBuf>,
    /// Estimate units that the table hasn't, by regression
    #[arg(long)]
    estimate: bool,
    /// The regression (from `fleetfoot fit`); without it, one is fitted to the table on the spot
    #[arg(long, value_name = "FILE", requires = "estimate", conflicts_with = "tables")]
    model: Option<PathBuf>,
    /// Search space: a preset's name or a TOML file
    #[arg(long, value_name = "SPACE")]
    space: String,
    /// Device: a shipped configuration's name or a TOML file
    #[arg(long, value_name = "DEVICE", default_value = "local-cpu")]
    device: String,
    /// Number of random networks
    #[arg(long, alias = "random", value_name = "N", default_value_t = 100, value_parser = RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    networks: usize,
    /// Measure every network this often, each time in a new agent: their spread is the repeatability
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = RangedU64ValueParser::<usize>::new().range(2..=1000))]
    passes: usize,
    /// Rows of the table that are measured again between the networks: what is measured while the machine is as fast as it
    /// was for the table counts, as far as it can be had
    #[arg(long, value_name = "N", default_value_t = 10)]
    references: usize,
    #[command(flatten)]
    plan: PlanOptions,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Write the JSON with every network's figures here, too; raw samples are kept in FILE.passN.journal
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Go on with what an earlier run left, or start if there is nothing
    #[arg(long, requires = "output", conflicts_with = "force")]
    resume: bool,
    /// Replace an existing file and its journals
    #[arg(long, requires = "output")]
    force: bool,
}

/// A network, in the unit of what was predicted.
#[derive(Debug)]
struct Point {
    architecture: String,
    cost: Cost,
    predicted: f64,
    low: f64,
    high: f64,
    measured: f64,
}

impl Serialize for Point {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let amounts =
            [("predicted", self.predicted), ("low", self.low), ("high", self.high), ("measured", self.measured)];
        let mut map = serializer.serialize_map(Some(amounts.len() + 1))?;
        map.serialize_entry("architecture", &self.architecture)?;
        for (name, amount) in amounts {
            map.serialize_entry(&self.cost.column(name), &amount)?;
        }
        map.end()
    }
}

#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    evaluation: Evaluation,
    /// Standard deviation of one network's value over passes, root mean square over the networks, in percent.
    repeatability_percent: f64,
    /// By how much the machine was slower than for the table, in percent. Absent where no row of it was measured again.
    #[serde(skip_serializing_if = "Option::is_none")]
    slower_percent: Option<f64>,
    /// Units of these networks, each counted as often as it stands in one, that are estimated by regression.
    #[serde(skip_serializing_if = "is_zero")]
    estimated_units: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    points: Vec<Point>,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// How much slower or faster, in percent, a device may be than for the table without a warning.
const FAR: f64 = 3.0;

/// Runs the command.
pub fn run(options: &Options) -> Result<()> {
    match options.tables.len() {
        0 => alone(options),
        1 => Err(usage("one table to compare: name it with --table, or name others beside it")),
        _ => contexts::run(options),
    }
}

fn alone(options: &Options) -> Result<()> {
    let space = SearchSpace::load(&options.space)?;
    let device = DeviceConfig::load(&options.device)?;
    let table = options.table.clone().context("no latency table is named")?;
    let evidence = EvidenceOptions::new(table, options.estimate, options.model.clone());
    let predictor = evidence.predictor(&options.space)?;
    let (batch, precision) = (predictor.table().batch(), predictor.table().precision());
    check_precision(predictor.table(), &device)?;
    let context = context_of(predictor.table())?;
    let architectures = draw(&space, options.networks, options.plan.seed, &[context])?;
    let mut subjects = Vec::new();
    let mut predictions = Vec::new();
    for architecture in &architectures {
        let network = space.network_at(architecture, batch, precision)?;
        predictions.push(predictor.network(&network)?);
        subjects.push(Subject::of_network(architecture.to_string(), &network)?);
    }
    let cost = predictor.table().cost();
    if cost == Cost::Latency {
        let work = Work::new(&space, batch, precision, context, cost)?;
        subjects.extend(work.references(predictor.table(), options.references));
    }
    let estimated_units = warn_of_estimates(&predictor, predictions.iter())?;
    let passes = measure(options, &space, &device, &subjects, &[predictor.table()])?;
    let measured = values(&passes, architectures.len());
    let slower_percent = median(passes.iter().filter_map(|pass| pass.slower)).map(|slower| 100.0 * (slower - 1.0));
    let points: Vec<Point> = architectures
        .iter()
        .zip(&predictions)
        .zip(&measured)
        .map(|((architecture, prediction), values)| Point {
            architecture: architecture.to_string(),
            cost,
            predicted: prediction.latency.ms(),
            low: prediction.low.ms(),
            high: prediction.high.ms(),
            measured: median(values.iter().copied()).unwrap_or(f64::NAN),
        })
        .collect();
    let pairs: Vec<(f64, f64)> = points.iter().map(|point| (point.predicted, point.measured)).collect();
    let repeatability_percent = repeatability(&measured);
    let evaluation = Evaluation::new(&pairs)?;
    let mut report = Report { evaluation, repeatability_percent, slower_percent, estimated_units, points };
    if let Some(path) = &options.output {
        write_json(path, &report).with_context(|| format!("can't write {}", path.display()))?;
    }
    // Standard output has the figures that scripts rely on, and no others.
    report.points.clear();
    report.slower_percent = None;
    if let Some(slower) = slower_percent {
        let (how, percent) = if slower < 0.0 { ("faster", -slower) } else { ("slower", slower) };
        let told =
            format!("rows of the table that were measured again: the device was {percent:.1} % {how} than for it");
        if percent > FAR {
            eprintln!("warning: {told}; let it calm down, or make the table anew with `fleetfoot profile`");
        } else {
            eprintln!("{told}");
        }
    }
    tell(options, &report, print)
}

/// On standard output: as one line of JSON, or as people read it.
fn tell<R: Serialize>(
    options: &Options,
    report: &R,
    print: fn(&mut StdoutLock<'_>, &R) -> io::Result<()>,
) -> Result<()> {
    let mut out = io::stdout().lock();
    if options.json {
        serde_json::to_writer(&mut out, report)?;
        writeln!(out)?;
    } else {
        print(&mut out, report)?;
    }
    Ok(())
}

fn print(out: &mut StdoutLock<'_>, report: &Report) -> io::Result<()> {
    let evaluation = &report.evaluation;
    let correlation = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.4}"));
    writeln!(out, "networks          {}", evaluation.networks)?;
    writeln!(out, "RMSPE             {:.2} %", evaluation.rmspe_percent)?;
    writeln!(out, "MAPE              {:.2} %", evaluation.mape_percent)?;
    writeln!(out, "within ±5 %       {:.1} %", evaluation.within_5_percent)?;
    writeln!(out, "within ±10 %      {:.1} %", evaluation.within_10_percent)?;
    writeln!(out, "Spearman          {}", correlation(evaluation.spearman))?;
    writeln!(out, "Kendall           {}", correlation(evaluation.kendall))?;
    writeln!(out, "repeatability     {:.2} % (one network's value in different agents)", report.repeatability_percent)
}
