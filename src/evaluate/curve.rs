//! Learning curves: how good predictions are as a function of the number of networks that were measured.

use std::io::{self, StdoutLock, Write};
use std::path::Path;

use anyhow::{Context as _, Result};
use fleetfoot_console::{claim, usage};
use fleetfoot_predictor::{CurvePoint, Protocol, Spread, learning_curve};
use fleetfoot_profiler::write_json;
use fleetfoot_space::SearchSpace;
use serde::Serialize;

use super::repeated::Repeated;
use super::{Options, tell};
use crate::evidence::{self, Purpose};
use crate::picture;

/// The share of the networks that is predicted, and how many at most, unless told.
const TEST: (usize, usize) = (5, 1000);

#[derive(Debug, Serialize)]
struct Curve {
    space: String,
    networks: String,
    #[serde(flatten)]
    protocol: Protocol,
    /// Of the networks that are predicted.
    #[serde(flatten)]
    repeated: Option<Repeated>,
    points: Vec<CurvePoint>,
}

/// Runs the command.
pub fn run(options: &Options, path: &Path) -> Result<()> {
    let space = SearchSpace::load(&options.space)?;
    let networks = evidence::networks(path, &space)?;
    let count = networks.networks().len();
    if options.learning_curve.contains(&0) {
        return Err(usage("--learning-curve: a model can't be fitted to 0 networks"));
    }
    let protocol = Protocol {
        samples: options.learning_curve.clone(),
        test: options.test.unwrap_or((count / TEST.0).min(TEST.1)),
        windows: options.windows,
        seed: options.plan.seed as usize,
        shuffle: options.shuffle,
    };
    for written in [&options.output, &options.picture].into_iter().flatten() {
        claim(written, options.force, "or replace it with --force")?;
    }
    // Shuffled, each is predicted in some window.
    let tested = networks.networks().iter().rev().take(if protocol.shuffle { count } else { protocol.test });
    let left_out = tested.map(|network| network.architecture.clone()).collect();
    let purpose = Purpose { space: &space, measured: Some(&networks), left_out };
    let evidence = evidence::read(&purpose, options.table.as_deref(), &options.others)?;
    let repeated = Repeated::new(&space, (&networks, path), &options.again, |architecture| {
        purpose.left_out.contains(architecture)
    })?;
    let points = learning_curve(&space, &networks, &evidence, &protocol)?;
    let (name, file) = (space.name().to_owned(), path.display().to_string());
    let curve = Curve { space: name, networks: file, protocol, repeated, points };
    if let Some(path) = &options.output {
        write_json(path, &curve).with_context(|| format!("can't write {}", path.display()))?;
    }
    if let Some(path) = &options.picture {
        picture::learning_curve(path, &curve.points)?;
    }
    tell(options, &curve, print)
}

fn print(out: &mut StdoutLock<'_>, curve: &Curve) -> io::Result<()> {
    let Protocol { test, windows, seed, shuffle, .. } = &curve.protocol;
    let (tested, others) =
        if *shuffle { (format!("{test} random"), "") } else { (format!("its last {test}"), " consecutive") };
    writeln!(
        out,
        "{}: {tested} networks, predicted by models of N{others} others; means of {windows} windows (seed {seed}), least to most",
        curve.networks
    )?;
    writeln!(
        out,
        "    N          RMSE (ms)          RMSPE (%)             MAPE (%)  within 5 %  within 10 %        Spearman  Kendall  in 90 % interval  half width (%)"
    )?;
    let figure = |spread: &Spread, digits: usize| {
        format!("{:.digits$} ({:.digits$}-{:.digits$})", spread.mean, spread.low, spread.high)
    };
    let correlation = |spread: &Option<Spread>| spread.map_or("-".to_owned(), |spread| format!("{:.3}", spread.mean));
    for point in &curve.points {
        writeln!(
            out,
            "{:5}{:>19.4}{:>19}{:>21.2}{:>12.1}{:>13.1}{:>16}{:>9}{:>18.1}{:>16.2}",
            point.samples,
            point.rmse_ms.mean,
            figure(&point.rmspe_percent, 2),
            point.mape_percent.mean,
            point.within_5_percent.mean,
            point.within_10_percent.mean,
            correlation(&point.spearman),
            correlation(&point.kendall),
            point.covered_percent.mean,
            point.half_width_percent.mean,
        )?;
    }
    curve.repeated.map_or(Ok(()), |repeated| repeated.print(out))
}
