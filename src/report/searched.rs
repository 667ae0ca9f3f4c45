//! The search's part of a summary.

use anyhow::{Result, bail};
use fleetfoot_space::{Candidate, SearchSpace};

use super::records::SearchRecord;
use super::summary::{DecisionSummary, Search, Setting};

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
    check_probabilities(record, &space)?;
    let decisions = space.decisions().iter().zip(architecture.choices());
    let decisions = decisions.map(|(decision, chosen)| DecisionSummary {
        name: decision.name.clone(),
        candidates: decision.candidates.iter().map(Candidate::to_string).collect(),
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
    let target = record.target_ms.filter(|&target| target > 0.0);
    let missed = target.zip(record.predicted_ms).map(|(target, predicted)| (predicted / target - 1.0) * 100.0);
    Ok(Search {
        architecture: record.architecture.clone(),
        expected_ms: record.expected_ms,
        predicted_ms: record.predicted_ms,
        target_ms: record.target_ms,
        target_missed_percent: missed,
        minutes: record.seconds / 60.0,
        settings,
        decisions: decisions.collect(),
        probabilities: record.probabilities.clone(),
        curve: record.curve.clone(),
        finalists: record.finalists.clone(),
    })
}

fn check_probabilities(record: &SearchRecord, space: &SearchSpace) -> Result<()> {
    let (rows, decisions) = (&record.probabilities, space.decisions());
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
