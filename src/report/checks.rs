//! What a reader should know before believing a run's numbers.

use std::collections::HashSet;

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
    if run.table.is_empty() {
        warnings.push("table.csv says nothing of where its numbers come from: provenance unknown".to_owned());
    }
    warnings.extend(conflicts(&run.table, &run.measuring));
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
    let (a, b) = (&network.recipe, &baseline.recipe);
    let fields = [
        ("dataset", a.dataset.clone(), b.dataset.clone()),
        ("epochs", a.epochs.to_string(), b.epochs.to_string()),
        ("train_images", a.train_images.to_string(), b.train_images.to_string()),
        ("test_images", a.test_images.to_string(), b.test_images.to_string()),
        ("batch", a.batch.to_string(), b.batch.to_string()),
        ("lr", a.lr.to_string(), b.lr.to_string()),
    ];
    let differing = fields.iter().filter(|(_, a, b)| a != b).map(|(key, a, b)| format!("{key} {a} instead of {b}"));
    let list: Vec<String> = differing.collect();
    (!list.is_empty()).then(|| {
        format!(
            "{} was trained differently from the baseline ({}): their accuracies can't be compared",
            network.name,
            list.join(", ")
        )
    })
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
        if training.recipe != network.recipe {
            doubts.push(format!("train/{folder} was trained differently from the other seeds of {}", network.name));
        }
        if training.measured_ms.is_none() {
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
