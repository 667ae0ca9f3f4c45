//! `fleetfoot evaluate`: predictions against networks measured now.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use clap::builder::RangedU64ValueParser;
use fleetfoot_console::count;
use fleetfoot_predictor::{Evaluation, Predictor};
use fleetfoot_profiler::{
    Agent, Context, DeviceConfig, Plan, Subject, UnitCampaign, median, relative_variance, write_json,
};
use fleetfoot_space::{Architecture, SearchSpace};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::cli::PlanOptions;
use crate::measuring::{self, Measured, Output, What};
use crate::predict::{EvidenceOptions, warn_of_estimates};

/// Options of `evaluate`.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    evidence: EvidenceOptions,
    /// Search space: a preset's name or a TOML file
    #[arg(long, value_name = "SPACE")]
    space: String,
    /// Device: a shipped configuration's name or a TOML file
    #[arg(long, value_name = "DEVICE", default_value = "local-cpu")]
    device: String,
    /// Number of random networks
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = count())]
    networks: usize,
    /// Measure every network this often, each time in a new agent: their spread is the repeatability
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = RangedU64ValueParser::<usize>::new().range(2..))]
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

#[derive(Debug, Serialize)]
struct Point {
    architecture: String,
    predicted_ms: f64,
    low_ms: f64,
    high_ms: f64,
    measured_ms: f64,
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
    let space = SearchSpace::load(&options.space)?;
    let device = DeviceConfig::load(&options.device)?;
    let predictor = options.evidence.predictor(&options.space)?;
    let (batch, precision) = (predictor.table().batch(), predictor.table().precision());
    measuring::check_precision(predictor.table(), &device)?;
    let mut rng = ChaCha8Rng::seed_from_u64(options.plan.seed);
    let architectures: Vec<Architecture> = (0..options.networks).map(|_| space.random(&mut rng)).collect();
    let mut subjects = Vec::new();
    let mut predictions = Vec::new();
    for architecture in &architectures {
        let network = space.network_at(architecture, batch, precision)?;
        predictions.push(predictor.network(&network)?);
        subjects.push(Subject::of_network(architecture.to_string(), &network)?);
    }
    let units = UnitCampaign::new(&space, batch, precision)?;
    subjects.extend(units.references(predictor.table(), options.references));
    let estimated_units = warn_of_estimates(&predictor, predictions.iter())?;
    let plan = options.plan.plan()?;
    let fewest = |rounds: u32, parts: usize| rounds.div_ceil(parts as u32).max(6);
    // The rounds are shared among the passes, but a pass may wait longer for the machine to be as fast as for the table.
    let (min_rounds, max_rounds) = (fewest(plan.min_rounds, options.passes), plan.max_rounds.max(6));
    let plan = Plan { min_rounds, max_rounds, ..plan };
    let output = |pass: usize| {
        let path = options.output.as_ref();
        let journal = format!(".pass{}.journal", pass + 1);
        path.map(|path| Output::with_journal(path, &journal, options.resume, options.force)).transpose()
    };
    let outputs = (0..options.passes).map(output).collect::<Result<Vec<_>>>()?;
    let passes = outputs
        .iter()
        .enumerate()
        .map(|(pass, output)| {
            let mut agent = Agent::start(&device)?;
            let conditions = agent.conditions(Context::Warm, plan.statistic).at_batch(batch);
            match predictor.table().conditions() {
                Some(known) => known.predicts(&conditions).with_context(|| {
                    format!("the table was measured under other conditions than device '{}' has", device.name)
                })?,
                None => eprintln!("warning: the table's conditions are unknown; they may not be this device's"),
            }
            let plan = Plan { seed: plan.seed.wrapping_add(pass as u64), ..plan.clone() };
            let Measured { subjects: measured, slower, .. } = measuring::measure(
                &mut agent,
                &subjects,
                &plan,
                What::networks(space.name()),
                &conditions,
                output.as_ref(),
            )?;
            let measured: Vec<f64> = measured.iter().map(|measurement| measurement.latency.ms()).collect();
            Ok((measured, slower))
        })
        .collect::<Result<Vec<_>>>()?;
    let of_network = |network: usize| passes.iter().map(|(measured, _)| measured[network]).collect();
    let measured: Vec<Vec<f64>> = (0..architectures.len()).map(of_network).collect();
    let slower_percent = median(passes.iter().filter_map(|(_, slower)| *slower)).map(|slower| 100.0 * (slower - 1.0));
    let points: Vec<Point> = architectures
        .iter()
        .zip(&predictions)
        .zip(&measured)
        .map(|((architecture, prediction), values)| Point {
            architecture: architecture.to_string(),
            predicted_ms: prediction.latency.ms(),
            low_ms: prediction.low.ms(),
            high_ms: prediction.high.ms(),
            measured_ms: median(values.iter().copied()).unwrap_or(f64::NAN),
        })
        .collect();
    let pairs: Vec<(f64, f64)> = points.iter().map(|point| (point.predicted_ms, point.measured_ms)).collect();
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
    let mut out = io::stdout().lock();
    if options.json {
        serde_json::to_writer(&mut out, &report)?;
        writeln!(out)?;
    } else {
        print(&mut out, &report)?;
    }
    Ok(())
}

fn repeatability(measured: &[Vec<f64>]) -> f64 {
    let variances = measured.iter().map(|values| relative_variance(values));
    100.0 * (variances.sum::<f64>() / measured.len() as f64).sqrt()
}

fn print(out: &mut impl Write, report: &Report) -> io::Result<()> {
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
