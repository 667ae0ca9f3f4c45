//! Several tables of one device, held against the same networks: which context tells the truth?

use std::io::{self, StdoutLock, Write};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use fleetfoot_console::usage;
use fleetfoot_predictor::{Evaluation, Predictor, TablePredictor};
use fleetfoot_profiler::{Context, Cost, DeviceConfig, Subject, median, write_json};
use fleetfoot_space::SearchSpace;
use serde::Serialize;

use super::networks::{context_of, draw, measure, repeatability, values};
use super::{Options, tell};
use crate::predict::EvidenceOptions;
use crate::tabulating::Work;

#[derive(Debug, Serialize)]
struct Judged {
    table: String,
    context: Context,
    #[serde(flatten)]
    evaluation: Evaluation,
    /// Mean of `predicted / measured - 1`, in percent.
    bias_percent: f64,
    /// By how much the device was slower than for the table, in percent, by what of it was measured again.
    slower_percent: Option<f64>,
    /// RMSPE of predictions that are slower by as much.
    at_its_speed_rmspe_percent: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Point {
    architecture: String,
    measured_ms: f64,
    /// In the order of the tables.
    predicted_ms: Vec<f64>,
}

#[derive(Debug, Serialize)]
struct Report {
    networks: usize,
    repeatability_percent: f64,
    tables: Vec<Judged>,
    /// The table that is nearest: at its own speed, where that is known of all.
    winner: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    points: Vec<Point>,
}

/// A table with what it predicts and what of it is measured again.
struct Candidate {
    path: PathBuf,
    context: Context,
    predictor: TablePredictor,
    predicted: Vec<f64>,
    /// What the references took for the table, and where they begin among the subjects.
    then: Vec<f64>,
    first: usize,
}

/// Runs the comparison.
pub fn run(options: &Options, count: usize) -> Result<()> {
    let space = SearchSpace::load(&options.space)?;
    let device = DeviceConfig::load(&options.device)?;
    let mut candidates = Vec::new();
    for path in &options.tables {
        let evidence = EvidenceOptions::new(path.clone(), options.estimate, options.model.clone());
        let predictor = evidence.predictor(&options.space)?;
        let checked = device.check_precision(predictor.table().precision(), "--device");
        checked.with_context(|| path.display().to_string())?;
        let context = context_of(predictor.table()).with_context(|| path.display().to_string())?;
        if predictor.table().cost() != Cost::Latency {
            let (path, cost) = (path.display(), predictor.table().cost());
            return Err(usage(format!(
                "{path} is of {cost}: contexts are compared of latencies, name it with --table"
            )));
        }
        let (predicted, then) = (Vec::new(), Vec::new());
        candidates.push(Candidate { path: path.clone(), context, predictor, predicted, then, first: 0 });
    }
    let batch = candidates.first().map_or(1, |candidate| candidate.predictor.table().batch());
    let contexts: Vec<Context> = candidates.iter().map(|candidate| candidate.context).collect();
    let architectures = draw(&space, count, options.plan.seed, &contexts)?;
    let mut subjects = Vec::new();
    for architecture in &architectures {
        let network = space.network_at(architecture, batch, device.precision)?;
        for candidate in &mut candidates {
            let predicted = candidate.predictor.network(&network);
            let predicted = predicted.with_context(|| candidate.path.display().to_string())?;
            candidate.predicted.push(predicted.latency.ms());
        }
        subjects.push(Subject::of_network(architecture.to_string(), &network)?);
    }
    for candidate in &mut candidates {
        let work = Work::new(&space, batch, device.precision, candidate.context, Cost::Latency)?;
        candidate.first = subjects.len();
        for reference in work.references(candidate.predictor.table(), options.references) {
            candidate.then.extend(reference.reference.map(|latency| latency.ms()));
            // No table's speed is preferred: it is only looked at.
            subjects.push(Subject { reference: None, ..reference });
        }
    }
    let tables: Vec<_> = candidates.iter().map(|candidate| candidate.predictor.table()).collect();
    let passes = measure(options, &space, &device, &subjects, &tables)?;
    let all = values(&passes, subjects.len());
    let measured: Vec<f64> = all.iter().map(|values| median(values.iter().copied()).unwrap_or(f64::NAN)).collect();
    let judged = candidates.iter().map(|candidate| judge(candidate, &measured)).collect::<Result<Vec<_>>>()?;
    let point = |(index, architecture): (usize, &fleetfoot_space::Architecture)| Point {
        architecture: architecture.to_string(),
        measured_ms: measured[index],
        predicted_ms: candidates.iter().map(|candidate| candidate.predicted[index]).collect(),
    };
    let mut report = Report {
        networks: architectures.len(),
        repeatability_percent: repeatability(&all[..architectures.len()]),
        winner: winner(&judged),
        tables: judged,
        points: architectures.iter().enumerate().map(point).collect(),
    };
    if let Some(path) = &options.output {
        write_json(path, &report).with_context(|| format!("can't write {}", path.display()))?;
    }
    report.points.clear();
    tell(options, &report, print)
}

fn judge(candidate: &Candidate, measured: &[f64]) -> Result<Judged> {
    let pairs = |slower: f64| {
        let predicted = candidate.predicted.iter().map(|ms| ms * slower);
        predicted.zip(measured.iter().copied()).collect::<Vec<(f64, f64)>>()
    };
    let now = &measured[candidate.first..];
    let slower = median(candidate.then.iter().zip(now).map(|(then, now)| now / then));
    let at_its_speed = slower.map(|slower| Evaluation::new(&pairs(slower))).transpose()?;
    let plain = pairs(1.0);
    let errors = plain.iter().map(|(predicted, measured)| predicted / measured - 1.0);
    Ok(Judged {
        table: candidate.path.display().to_string(),
        context: candidate.context,
        bias_percent: 100.0 * errors.sum::<f64>() / plain.len() as f64,
        evaluation: Evaluation::new(&plain)?,
        slower_percent: slower.map(|slower| 100.0 * (slower - 1.0)),
        at_its_speed_rmspe_percent: at_its_speed.map(|evaluation| evaluation.rmspe_percent),
    })
}

fn winner(judged: &[Judged]) -> String {
    let at_speed = judged.iter().all(|table| table.at_its_speed_rmspe_percent.is_some());
    let rmspe = |table: &Judged| match table.at_its_speed_rmspe_percent {
        Some(rmspe) if at_speed => rmspe,
        _ => table.evaluation.rmspe_percent,
    };
    let best = judged.iter().min_by(|a, b| rmspe(a).total_cmp(&rmspe(b)));
    best.map(|table| table.table.clone()).unwrap_or_default()
}

fn print(out: &mut StdoutLock<'_>, report: &Report) -> io::Result<()> {
    let or_dash = |value: Option<f64>, digits: usize| value.map_or("-".to_owned(), |value| format!("{value:.digits$}"));
    writeln!(
        out,
        "{:<8} {:>7} {:>7} {:>6} {:>6} {:>9} {:>8} {:>13}  table",
        "context", "RMSPE %", "bias %", "±5 %", "±10 %", "Spearman", "slower %", "RMSPE % then"
    )?;
    for Judged { table, context, evaluation, bias_percent, slower_percent, at_its_speed_rmspe_percent } in
        &report.tables
    {
        writeln!(
            out,
            "{context:<8} {:>7.2} {bias_percent:>+7.2} {:>6.1} {:>6.1} {:>9} {:>8} {:>13}  {table}",
            evaluation.rmspe_percent,
            evaluation.within_5_percent,
            evaluation.within_10_percent,
            or_dash(evaluation.spearman, 4),
            or_dash(*slower_percent, 2),
            or_dash(*at_its_speed_rmspe_percent, 2),
        )?;
    }
    let Report { networks, repeatability_percent, winner, .. } = report;
    writeln!(out, "{networks} networks, repeatability {repeatability_percent:.2} %; nearest: {winner}")
}
