//! Predictions against networks that a file holds: nothing is measured.

use std::collections::HashSet;
use std::io::{self, StdoutLock, Write};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use fleetfoot_console::claim;
use fleetfoot_predictor::{Coverage, Evaluation, NetworkEstimate, NetworkModel, Prediction, Predictor};
use fleetfoot_profiler::{Conditions, Cost, Latency, write_json};
use fleetfoot_space::{Architecture, SearchSpace};
use serde::Serialize;

use super::repeated::Repeated;
use super::{Options, Point, print_evaluation, tell};
use crate::evidence;
use crate::predict::{EvidenceOptions, warn_of_estimates};

#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    evaluation: Evaluation,
    #[serde(flatten)]
    coverage: Coverage,
    #[serde(flatten)]
    repeated: Option<Repeated>,
    /// What intervals are meant to hold: 99 % those of tables, 90 % those of models of whole networks.
    interval_percent: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    points: Vec<Point>,
}

/// Runs the command.
pub fn run(options: &Options, path: &Path) -> Result<()> {
    let space = SearchSpace::load(&options.space)?;
    let networks = evidence::networks(path, &space)?;
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
            let estimate = |own: &Prediction| {
                let [ms, low_ms, high_ms] = [own.latency, own.low, own.high].map(Latency::ms);
                NetworkEstimate { ms, low_ms, high_ms }
            };
            (99, predicted.iter().map(estimate).collect())
        }
        (None, Some(model)) => {
            let model = NetworkModel::read_for(&space, model)?;
            model.check(measured_under.as_ref())?;
            let fitted: HashSet<Architecture> =
                model.networks().into_iter().map(|(architecture, _)| architecture).collect();
            let known = networks.pairs().filter(|(architecture, _)| fitted.contains(architecture)).count();
            if known > 0 {
                eprintln!(
                    "warning: {known} of these {} networks are among those that the model was fitted to: figures are better than those of \
                     new ones",
                    networks.networks().len()
                );
            }
            let predicted = networks.networks().iter().map(|network| Ok(model.predict(&network.architecture)?));
            (90, predicted.collect::<Result<Vec<_>>>()?)
        }
        (None, None) => bail!("predicted by what? --table or --model"),
    };
    let measured = networks.networks().iter().map(|network| network.latency.ms());
    let pairs: Vec<(NetworkEstimate, f64)> = predicted.into_iter().zip(measured).collect();
    let means: Vec<(f64, f64)> = pairs.iter().map(|(estimate, measured)| (estimate.ms, *measured)).collect();
    let points = networks.networks().iter().zip(&pairs).map(|(network, (estimate, measured))| Point {
        architecture: network.architecture.to_string(),
        cost: Cost::Latency,
        predicted: estimate.ms,
        low: estimate.low_ms,
        high: estimate.high_ms,
        measured: *measured,
    });
    let mut report = Report {
        evaluation: Evaluation::new(&means)?,
        coverage: Coverage::new(&pairs),
        repeated: {
            let evaluated: HashSet<&Architecture> =
                networks.networks().iter().map(|network| &network.architecture).collect();
            Repeated::new(&space, (&networks, path), &options.again, |architecture| evaluated.contains(architecture))?
        },
        interval_percent,
        points: points.collect(),
    };
    if let Some(path) = &options.output {
        write_json(path, &report).with_context(|| format!("can't write {}", path.display()))?;
    }
    report.points.clear();
    tell(options, &report, print)
}

fn print(out: &mut StdoutLock<'_>, report: &Report) -> io::Result<()> {
    print_evaluation(out, &report.evaluation)?;
    let Report { coverage: Coverage { covered_percent, half_width_percent }, interval_percent, .. } = report;
    writeln!(
        out,
        "intervals         {covered_percent:.1} % within their {interval_percent} % interval of ±{half_width_percent:.2} %"
    )?;
    report.repeated.map_or(Ok(()), |repeated| repeated.print(out))
}
