//! `fleetfoot expect`: expected latency of a softmax over candidates, and its gradient.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use fleetfoot_predictor::{CostMatrix, NetworkModel, cost_matrix};
use fleetfoot_profiler::Cost;
use fleetfoot_space::SearchSpace;

use crate::predict::{EvidenceOptions, warn_of_unmeasured};

/// Options of `expect`.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    evidence: EvidenceOptions,
    /// Search space: a preset's name or a TOML file
    #[arg(long, value_name = "SPACE")]
    space: String,
    /// Logits: a JSON list with a list for each decision, a number for each of its candidates
    #[arg(long, value_name = "FILE")]
    alpha: PathBuf,
    /// Print JSON: latency_ms, and gradient and probabilities for each decision and candidate
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<()> {
    let space = SearchSpace::load(&options.space)?;
    let costs = costs(options, &space)?;
    let alpha = read(&options.alpha)?;
    let expectation = costs.expectation(&alpha).with_context(|| options.alpha.display().to_string())?;
    let mut out = io::stdout().lock();
    if options.json {
        serde_json::to_writer(&mut out, &expectation)?;
        return Ok(writeln!(out)?);
    }
    writeln!(out, "expected latency  {} ms", expectation.latency_ms)?;
    writeln!(out, "decision    candidate   probability   cost (ms)     gradient (ms)")?;
    let gradient = expectation.probabilities.iter().zip(&expectation.gradient).zip(&costs.rows);
    for (decision, ((probabilities, gradient), row)) in space.decisions().iter().zip(gradient) {
        for (((candidate, p), gradient), cost) in decision.candidates.iter().zip(probabilities).zip(gradient).zip(row) {
            let name = &decision.name;
            writeln!(out, "{name:<12}{candidate:<12}{p:<14.6}{cost:<14.6}{gradient:+.6}")?;
        }
    }
    Ok(())
}

/// The cost matrix of a table, or of a model of whole networks.
fn costs(options: &Options, space: &SearchSpace) -> Result<CostMatrix> {
    if let (None, Some(path)) = (options.evidence.table(), options.evidence.model()) {
        let model = NetworkModel::read_for(space, path)?;
        return Ok(CostMatrix { constant_ms: model.constant_ms(), rows: model.rows_ms().to_vec() });
    }
    let predictor = options.evidence.predictor(&options.space)?;
    let cost = predictor.table().cost();
    if cost != Cost::Latency {
        bail!("the table is of {cost}, not of latency");
    }
    warn_of_unmeasured(&predictor, space)?;
    let (batch, precision) = (predictor.table().batch(), predictor.table().precision());
    Ok(cost_matrix(space, &predictor, batch, precision)?)
}

fn read(path: &Path) -> Result<Vec<Vec<f64>>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("can't read the logits {}", path.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{}: wanted a list of lists of numbers, one for each decision", path.display()))
}
