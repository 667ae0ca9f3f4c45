//! The search's part of a summary.

use anyhow::{Context as _, Result, bail};
use fleetfoot_space::{Candidate, SearchSpace};

use super::ranking::Ranking;
use super::records::SearchRecord;
use super::summary::{DecisionSummary, Search, Setting};
use super::way::{Cut, Way};

/// Settings in the order in which they are shown; others follow.
const SETTINGS: [&str; 13] = [
    "dataset",
    "train_images",
    "validation_images",
    "warmup_epochs",
    "search_epochs",
    "batch",
    "loss",
    "lambda",
    "refine_images",
    "finalist_count",
    "finalist_epochs",
    "seed",
    "threads",
];

/// What a record says beside its settings of how long learning waited for images.
const WAITED: &str = "waited_seconds";

/// What a search record says, checked against its space.
pub fn search(record: &SearchRecord, space: &SearchSpace) -> Result<Search> {
    let (space, architecture) = space.resolve(&record.architecture)?;
    check_probabilities(&record.probabilities, &space)?;
    check_way(&record.way, &space)?;
    let decisions = space.decisions().iter().zip(architecture.choices());
    let decisions = decisions.map(|(decision, chosen)| DecisionSummary {
        name: decision.name.clone(),
        candidates: decision.candidates.iter().map(Candidate::to_string).collect(),
        kernels: decision.candidates.iter().map(|candidate| extents(candidate).0).collect(),
        expansions: decision.candidates.iter().map(|candidate| extents(candidate).1).collect(),
        chosen,
    });
    let rank = |key: &str| SETTINGS.iter().position(|&setting| setting == key).unwrap_or(SETTINGS.len());
    let scalars = record
        .settings
        .iter()
        .filter(|(key, value)| *key != WAITED && !(value.is_null() || value.is_array() || value.is_object()));
    let mut settings: Vec<Setting> =
        scalars.map(|(key, value)| Setting { key: key.clone(), value: value.clone() }).collect();
    settings.sort_by_key(|setting| rank(&setting.key));
    let target = record.target.filter(|&target| target > 0.0);
    let missed = target.zip(record.predicted).map(|(target, predicted)| (predicted / target - 1.0) * 100.0);
    Ok(Search {
        architecture: record.architecture.clone(),
        limited_first: record.limited_first(),
        expected: record.expected,
        predicted: record.predicted,
        target: record.target,
        target_missed_percent: missed,
        minutes: record.seconds / 60.0,
        settings,
        decisions: decisions.collect(),
        probabilities: record.probabilities.clone(),
        curve: record.curve.clone(),
        finalists: record.finalists.clone(),
        ranking: record.diagnosis.clone().map(Ranking::of),
        way: record.way.clone(),
    })
}

/// Kernel size and expansion ratio.
fn extents(candidate: &Candidate) -> (Option<usize>, Option<usize>) {
    match *candidate {
        Candidate::MbConv { kernel, expansion, .. } => (Some(kernel), Some(expansion.unwrap_or(1))),
        Candidate::Skip | Candidate::Zero => (None, None),
    }
}

/// What a search says of its way must be of its space and its limits.
fn check_way(way: &Way, space: &SearchSpace) -> Result<()> {
    let limits = way.limits.len();
    for limit in way.limits.iter().chain(way.weighted.iter().map(|weighted| &weighted.limit)) {
        if limit.demand.as_ref().is_some_and(|demand| !demand.fits(space)) {
            bail!("limits: {}: its amounts aren't one for each candidate of space '{}'", limit.of.name, space.name());
        }
    }
    for point in &way.history {
        let step = point.step;
        check_probabilities(&point.probabilities, space).with_context(|| format!("history, step {step}"))?;
        if [&point.expected, &point.limits, &point.lambda].iter().any(|amounts| amounts.len() != limits) {
            bail!("history, step {step}: wanted one expected amount, limit and multiplier for each of {limits} limits");
        }
    }
    for Cut { step, decision, candidate } in &way.cuts {
        let known = space.decisions().get(*decision).is_some_and(|decision| *candidate < decision.candidates.len());
        if !known {
            bail!("cuts, step {step}: space '{}' has no candidate {candidate} of decision {decision}", space.name());
        }
    }
    if let Some(point) = way.pareto.iter().find(|point| point.needs.len() != limits) {
        bail!("pareto: {} has {} amounts for {limits} limits", point.architecture, point.needs.len());
    }
    Ok(())
}

fn check_probabilities(rows: &[Vec<f64>], space: &SearchSpace) -> Result<()> {
    let decisions = space.decisions();
    if rows.len() != decisions.len() {
        bail!("{} rows of probabilities, but space '{}' has {} decisions", rows.len(), space.name(), decisions.len());
    }
    for (row, decision) in rows.iter().zip(decisions) {
        let (name, want) = (&decision.name, decision.candidates.len());
        if row.len() != want {
            bail!("decision {name} has {} probabilities, but {want} candidates in space '{}'", row.len(), space.name());
        }
        if let Some(value) = row.iter().find(|value| !(0.0..=1.0).contains(*value)) {
            bail!("decision {name}: {value} is not a probability");
        }
        let sum: f64 = row.iter().sum();
        if (sum - 1.0).abs() > 1e-3 {
            bail!("decision {name}: the probabilities sum up to {sum}, not to 1");
        }
    }
    Ok(())
}
