//! Predictions against networks that a file holds: nothing is measured.

use std::io::{self, StdoutLock, Write};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use fleetfoot_console::claim;
use fleetfoot_predictor::{Evaluation, NetworkModel, Predictor, WholeNetworks};
use fleetfoot_profiler::{Conditions, Cost, median, write_json};
use fleetfoot_space::SearchSpace;
use serde::Serialize;

use super::{Options, Point, print_evaluation, tell};
use crate::predict::{EvidenceOptions, warn_of_estimates};

#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    evaluation: Evaluation,
    /// What part of the measured values lies in its interval, in percent: 99 % intervals of tables, 90 % of models of whole networks.
    covered_percent: f64,
    /// Half of the interval, in percent of the prediction, in the median.
    half_width_percent: f64,
    interval_percent: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    points: Vec<Point>,
}

/// Runs the command.
pub fn run(options: &Options, path: &Path) -> Result<()> {
    let space = SearchSpace::load(&options.space)?;
    let (networks, warnings) = WholeNetworks::read(path, &space)?;
    warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    if let Some(output) = &options.output {
        claim(output, options.force, "or replace it with --force")?;
    }
    let measured_under = Conditions::from_provenance(networks.provenance());
    let (interval_percent, predicted) = match (&options.table, &options.model) {
        (Some(table), _) => {
            let evidence = EvidenceOptions::new(table.clone(), options.estimate, options.model.clone());
            let predictor = evidence.predictor(&options.space)?;
            let table = predictor.table();
            if table.cost() != Cost::Latency {
                bail!("the table is of {}, the networks of latency", table.cost());
            }
            if let (Some(table), Some(measured)) = (table.conditions(), &measured_under) {
                table.predicts(measured).context("the table was measured under other conditions than the networks")?;
            }
            let predicted = networks.networks().iter().map(|network| {
                Ok(predictor.network(&space.network_at(&network.architecture, table.batch(), table.precision())?)?)
            });
            let predicted = predicted.collect::<Result<Vec<_>>>()?;
            warn_of_estimates(&predictor, predicted.iter())?;
            (99, predicted.iter().map(|p| (p.latency.ms(), p.low.ms(), p.high.ms())).collect::<Vec<_>>())
        }
        (None, Some(model)) => {
            let path = model;
            let model = NetworkModel::read(path)?;
            if model.space()?.signature() != space.signature() {
                bail!("model {} is for networks of another space than {}", path.display(), space.name());
            }
            model.check(measured_under.as_ref())?;
            let predicted = networks.networks().iter().map(|network| {
                let estimate = model.predict(&network.architecture)?;
                Ok((estimate.ms, estimate.low_ms, estimate.high_ms))
            });
            (90, predicted.collect::<Result<Vec<_>>>()?)
        }
        (None, None) => bail!("predicted by what? --table or --model"),
    };
    let points = networks.networks().iter().zip(predicted).map(|(network, (predicted, low, high))| Point {
        architecture: network.architecture.to_string(),
        cost: Cost::Latency,
        predicted,
        low,
        high,
        measured: network.latency.ms(),
    });
    let points: Vec<Point> = points.collect();
    let pairs: Vec<(f64, f64)> = points.iter().map(|point| (point.predicted, point.measured)).collect();
    let covered = points.iter().filter(|point| (point.low..=point.high).contains(&point.measured)).count();
    let widths = points.iter().map(|point| 50.0 * (point.high - point.low) / point.predicted.max(f64::MIN_POSITIVE));
    let mut report = Report {
        evaluation: Evaluation::new(&pairs)?,
        covered_percent: 100.0 * covered as f64 / points.len() as f64,
        half_width_percent: median(widths).unwrap_or_default(),
        interval_percent,
        points,
    };
    if let Some(path) = &options.output {
        write_json(path, &report).with_context(|| format!("can't write {}", path.display()))?;
    }
    report.points.clear();
    tell(options, &report, print)
}

fn print(out: &mut StdoutLock<'_>, report: &Report) -> io::Result<()> {
    print_evaluation(out, &report.evaluation)?;
    let Report { covered_percent, half_width_percent, interval_percent, .. } = report;
    writeln!(
        out,
        "intervals         {covered_percent:.1} % within their {interval_percent} % interval of ±{half_width_percent:.2} %"
    )
}
