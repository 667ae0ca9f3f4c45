//! What a reader should know before believing a run's numbers.

use std::collections::{BTreeSet, HashSet};

use fleetfoot_profiler::{Conditions, Differences};
use fleetfoot_space::SearchSpace;

use super::collect::resolve;
use super::folder::{RunFolder, Training};
use super::summary::{Network, Summary};
use super::tables::Provenance;

/// An output of an exported model may differ from the trained one's by this much, relative to max(1, |output|): what
/// `fleetfoot export` permits.
const EXPORT_TOLERANCE: f64 = 1e-4;

/// The warnings of a run, one sentence each.
pub fn warnings(run: &RunFolder, summary: &Summary, space: &SearchSpace) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(table) = &run.table {
        if table.is_empty() {
            warnings.push("table.csv says nothing of where its numbers come from: provenance unknown".to_owned());
        }
        if run.predicted.is_some() && run.measured.is_some() {
            warnings.extend(conflicts(table, &run.measuring));
        }
        warnings.extend(other_device(table, &run.search.devices));
    }
    if let Some(first) = run.search.estimated.first() {
        let count = run.search.estimated.len();
        warnings.push(format!(
            "{count} units of the space were never measured, such as {first}: their costs are estimates"
        ));
    }
    let searched = summary.search.settings.iter().find(|setting| setting.key == "dataset");
    if let Some(dataset) = searched.and_then(|setting| setting.value.as_str()).filter(|&name| name != summary.dataset) {
        warnings.push(format!("the search used dataset {dataset}, but found was trained on {}", summary.dataset));
    }
    for (_, network) in summary.networks() {
        warnings.extend(recipe_difference(network, &summary.baseline));
        warnings.extend(seed_difference(network, &summary.baseline));
        warnings.extend(training_doubts(network));
    }
    for training in run.trainings.values().flatten() {
        warnings.extend(work_difference(training, space));
        warnings.extend(images_difference(training, run));
    }
    warnings.extend(run.unfinished.iter().map(|folder| format!("train/{folder} has no train.json: left out")));
    warnings
}

/// Conditions that the table and the measurements state differently.
fn conflicts(table: &[Provenance], measured: &[Provenance]) -> Vec<String> {
    let head = |file: &[Provenance]| {
        let mut head = fleetfoot_profiler::Provenance::default();
        file.iter().for_each(|pair| head.set(&pair.key, &pair.value));
        head
    };
    let Differences(differing) = Conditions::contradictions(&head(table), &head(measured));
    let sentence = |(key, a, b): (&str, String, String)| {
        format!("{key} is {a} in table.csv, but {b} in measured.csv: predictions and measurements differ")
    };
    differing.into_iter().map(sentence).collect()
}

/// What makes two accuracies incomparable.
fn recipe_difference(network: &Network, baseline: &Network) -> Option<String> {
    let list = network.recipe.differences(&baseline.recipe);
    (!list.is_empty()).then(|| {
        format!(
            "{} was trained differently from the baseline ({}): their accuracies can't be compared",
            network.name,
            list.join(", ")
        )
    })
}

/// Networks of which no two trainings had a seed, and with it the order of the images and what was done to them, in common.
fn seed_difference(network: &Network, baseline: &Network) -> Option<String> {
    let seeds = |network: &Network| network.trainings.iter().map(|training| training.seed).collect::<BTreeSet<u64>>();
    let (own, other) = (seeds(network), seeds(baseline));
    let list = |seeds: &BTreeSet<u64>| seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    own.is_disjoint(&other).then(|| {
        format!(
            "{} and the baseline have no seed in common ({}; {}): part of their difference is the seeds'",
            network.name,
            list(&own),
            list(&other)
        )
    })
}

/// A table of a device that the search wasn't for.
fn other_device(table: &[Provenance], searched: &[String]) -> Option<String> {
    let device = &table.iter().find(|pair| pair.key == "device")?.value;
    let other = !searched.is_empty() && !searched.contains(device);
    other.then(|| format!("table.csv is of {device}, but the search was for {}", searched.join(", ")))
}

/// A training record whose MACs or parameters aren't its architecture's.
fn work_difference(training: &Training, space: &SearchSpace) -> Option<String> {
    let (space, architecture) = resolve(training, space).ok()?;
    let graph = space.network(&architecture).ok()?;
    let record = &training.record;
    let differs = (graph.macs(), graph.params()) != (record.macs, record.params);
    differs.then(|| {
        let (macs, params) = (graph.macs(), graph.params());
        format!(
            "{}: train.json says {} MACs and {} parameters, but {} has {macs} and {params}",
            training.folder, record.macs, record.params, record.architecture
        )
    })
}

/// A training on other images than the search's, whatever their names say.
fn images_difference(training: &Training, run: &RunFolder) -> Option<String> {
    let (searched, trained) = (run.search.images.as_ref()?, training.record.images.as_ref()?);
    (searched != trained).then(|| format!("train/{} learned from other images than the search", training.folder))
}

fn training_doubts(network: &Network) -> Vec<String> {
    let mut doubts = Vec::new();
    let mut seeds = HashSet::new();
    for training in &network.trainings {
        let folder = &training.folder;
        if !seeds.insert(training.seed) {
            doubts.push(format!("train/{folder} has seed {} once more: it is no further sample", training.seed));
        }
        let differing = training.recipe.differences(&network.recipe);
        if !differing.is_empty() {
            let (name, list) = (&network.name, differing.join(", "));
            doubts.push(format!("train/{folder} was trained differently from the other seeds of {name} ({list})"));
        }
        if training.measured_ms.is_none() && network.measured_ms.is_some() {
            doubts.push(format!(
                "train/{folder} wasn't measured: the latency of {} is that of its other seeds",
                network.name
            ));
        }
        match &training.onnx {
            None => doubts.push(format!("train/{folder} has no check of its exported model")),
            Some(export) if export.max_abs_difference > EXPORT_TOLERANCE => doubts.push(format!(
                "train/{folder}: the exported model's outputs differ by up to {} from the trained one's",
                export.max_abs_difference
            )),
            Some(_) => {}
        }
    }
    doubts
}
