//! From a run folder to its summary: every derived number is computed here.

use anyhow::{Context, Result, bail};
use fleetfoot_profiler::median;
use fleetfoot_space::{Architecture, SearchSpace};

use super::blocks::blocks;
use super::checks;
use super::folder::{BASELINE, FOUND, RunFolder, Training};
use super::searched::search;
use super::summary::{Network, Sources, Summary, TrainingSummary};
use super::tables::{Interval, Measured};
use super::timeline::Timeline;
use super::way::Limit;

/// Version of summary.json.
const FORMAT: u64 = 1;

/// The summary of a run.
pub fn summarise(run: &RunFolder) -> Result<Summary> {
    let search_file = run.path.join("search/search.json");
    let space = SearchSpace::from_toml(&run.search.space, &search_file.display().to_string())?;
    let search = search(&run.search, &space).with_context(|| search_file.display().to_string())?;
    let mut networks = Vec::new();
    for (role, trainings) in &run.trainings {
        networks.push(network(run, &space, role, trainings)?);
    }
    let mut take = |name: &str| match networks.iter().position(|network| network.name == name) {
        Some(index) => Ok(networks.remove(index)),
        None => bail!("train/{name} is missing"),
    };
    let (mut found, mut baseline) = (take(FOUND)?, take(BASELINE)?);
    if found.architecture != search.architecture {
        bail!(
            "train/{FOUND} is architecture {}, but the search found {}: train that one (`fleetfoot train`)",
            found.architecture,
            search.architecture
        );
    }
    let (milliseconds, need, accuracy) = (baseline.measured_ms, baseline.needs.first().copied(), baseline.accuracy);
    for network in [&mut found, &mut baseline].into_iter().chain(&mut networks) {
        network.speedup = ratio(milliseconds, network.measured_ms);
        network.need_ratio = ratio(network.needs.first().copied(), need);
        network.accuracy_difference = network.accuracy - accuracy;
    }
    for network in std::iter::once(&mut baseline).chain(&mut networks) {
        network.found_lead = Some(found.accuracy - network.accuracy);
        network.found_lead_standard_error =
            standard_error(&found, network).or_else(|| standard_error_of_sampling(&found, network));
    }
    let device = device(run);
    let mut summary = Summary {
        format: FORMAT,
        tool: format!("fleetfoot {}", env!("CARGO_PKG_VERSION")),
        device: device.unwrap_or("unknown").to_owned(),
        dataset: found.recipe.dataset.clone(),
        space: space.name().to_owned(),
        speedup: found.speedup,
        need_ratio: found.need_ratio,
        speedup_low: ratio(baseline.measured_low_ms, found.measured_high_ms),
        speedup_high: ratio(baseline.measured_high_ms, found.measured_low_ms),
        accuracy_difference: found.accuracy_difference,
        accuracy_difference_standard_error: standard_error(&found, &baseline),
        baseline,
        found,
        controls: networks,
        search,
        evaluation: run.evaluation.clone(),
        timeline: Timeline::read(&run.path.join("table.csv.journal"))?,
        provenance: Sources { table: run.table.clone().unwrap_or_default(), measured: run.measuring.clone() },
        warnings: Vec::new(),
    };
    summary.warnings = checks::warnings(run, &summary, &space);
    Ok(summary)
}

/// What the table says, else what the measurements say.
fn device(run: &RunFolder) -> Option<&str> {
    let mut pairs = run.table.iter().flatten().chain(&run.measuring);
    pairs.find(|pair| pair.key == "device").map(|pair| pair.value.as_str())
}

fn ratio(above: Option<f64>, below: Option<f64>) -> Option<f64> {
    Some(above? / below.filter(|&below| below > 0.0)?)
}

/// `sqrt(sd_a^2 / n_a + sd_b^2 / n_b)`.
fn standard_error(a: &Network, b: &Network) -> Option<f64> {
    let variance = |network: &Network| Some(network.accuracy_sd?.powi(2) / network.seeds? as f64);
    Some((variance(a)? + variance(b)?).sqrt())
}

/// The binomial errors of both, as if each had a test set of its own.
fn standard_error_of_sampling(a: &Network, b: &Network) -> Option<f64> {
    Some(a.accuracy_sampling_error?.hypot(b.accuracy_sampling_error?))
}

/// A role's trainings in one; `speedup` and `accuracy_difference` are set when the baseline is known.
fn network(run: &RunFolder, searched: &SearchSpace, role: &str, trainings: &[Training]) -> Result<Network> {
    let Some(first) = trainings.first() else { bail!("train/{role} is missing") };
    let record = &first.record;
    let text = &record.architecture;
    let (space, architecture) = resolve(first, searched)?;
    for training in trainings {
        if resolve(training, searched)?.0.signature() != space.signature() {
            bail!(
                "{}: of other widths than train/{}: seeds of a role train one",
                training.path.display(),
                first.folder
            );
        }
    }
    // A network that has widths of its own goes by its name.
    let plain = space.signature() == searched.signature();
    let predicted = prediction(run, role, if plain { text } else { &record.named })?;
    let measured = measurements(run, trainings)?;
    if measured.is_empty() && run.measured.is_some() {
        let file = run.path.join("measured.csv");
        bail!("{}: no row for train/{}: run `fleetfoot measure` on its model", file.display(), first.folder);
    }
    let accuracies: Vec<f64> = trainings.iter().map(|training| training.record.accuracy_percent).collect();
    let accuracy = accuracies.iter().sum::<f64>() / accuracies.len() as f64;
    let measured_ms = median(measured.iter().map(|m| m.latency.latency_ms));
    let way = &run.search.way;
    let own = Some(&architecture).filter(|_| plain);
    let several = trainings.len() > 1;
    Ok(Network {
        name: role.to_owned(),
        architecture: text.clone(),
        accuracy,
        accuracy_sd: several.then(|| sample_sd(&accuracies, accuracy)),
        seeds: several.then_some(trainings.len()),
        accuracy_sampling_error: sampling_error(accuracy, record.recipe().test_images),
        predicted_ms: predicted.map(|interval| interval.latency_ms),
        predicted_low_ms: predicted.and_then(|interval| interval.low_ms),
        predicted_high_ms: predicted.and_then(|interval| interval.high_ms),
        measured_ms,
        measured_low_ms: median(measured.iter().filter_map(|m| m.latency.low_ms)),
        measured_high_ms: median(measured.iter().filter_map(|m| m.latency.high_ms)),
        prediction_error_percent: ratio(predicted.map(|interval| interval.latency_ms), measured_ms)
            .map(|ratio| (ratio - 1.0) * 100.0),
        speedup: None,
        needs: needs(way.limits.iter(), own),
        weighted_needs: needs(way.weighted.iter().map(|weighted| &weighted.limit), own),
        need_ratio: None,
        accuracy_difference: 0.0,
        found_lead: None,
        found_lead_standard_error: None,
        macs: record.macs,
        macs_millions: record.macs as f64 / 1e6,
        params: record.params,
        params_thousands: record.params as f64 / 1e3,
        recipe: record.recipe(),
        trainings: trainings.iter().map(|training| training_summary(run, training)).collect(),
        blocks: blocks(&space, &architecture)?,
    })
}

/// What predicted.csv says of a network, where there is one.
fn prediction(run: &RunFolder, role: &str, name: &str) -> Result<Option<Interval>> {
    let Some(predicted) = &run.predicted else { return Ok(None) };
    let Some(interval) = predicted.get(name) else {
        let file = run.path.join("predicted.csv");
        bail!("{}: no row for {name} (train/{role}): run `fleetfoot predict` on it", file.display());
    };
    Ok(Some(*interval))
}

/// What a network needs of each of these limits; nothing where it isn't one of the space's own widths, or a record doesn't
/// tell it.
fn needs<'a>(limits: impl Iterator<Item = &'a Limit>, network: Option<&Architecture>) -> Vec<f64> {
    limits.map(|limit| Some(limit.demand.as_ref()?.of(network?))).collect::<Option<_>>().unwrap_or_default()
}

/// The space that a network was trained in, in the widths that its name stands for, and the network. It must be the one
/// that was searched.
pub fn resolve(training: &Training, searched: &SearchSpace) -> Result<(SearchSpace, Architecture)> {
    let origin = training.path.display().to_string();
    let own = SearchSpace::from_toml(&training.record.space, &origin)?;
    if own.decisions() != searched.decisions() || own.name() != searched.name() {
        bail!("{origin}: space '{}' isn't the one that was searched: train it in that space", own.name());
    }
    own.resolve(&training.record.named).with_context(|| origin)
}

/// The measurements of the trainings' models; a model that isn't what was trained is an error.
fn measurements<'a>(run: &'a RunFolder, trainings: &[Training]) -> Result<Vec<&'a Measured>> {
    let mut all = Vec::new();
    for training in trainings {
        let Some(measured) = run.measured.as_ref().and_then(|all| all.get(&training.folder)) else { continue };
        let (trained, model) = (&training.record.architecture, &measured.architecture);
        if !model.is_empty() && model != trained {
            let (file, folder) = (run.path.join("measured.csv"), &training.folder);
            bail!("{}: train/{folder} was measured as {model}, but is {trained}: measure it again", file.display());
        }
        all.push(measured);
    }
    Ok(all)
}

fn training_summary(run: &RunFolder, training: &Training) -> TrainingSummary {
    let (record, measured) = (&training.record, run.measured.as_ref().and_then(|all| all.get(&training.folder)));
    TrainingSummary {
        folder: training.folder.clone(),
        seed: record.seed,
        accuracy: record.accuracy_percent,
        test_loss: record.test_loss,
        minutes: record.seconds / 60.0,
        measured_ms: measured.map(|measured| measured.latency.latency_ms),
        measured_n: measured.map(|measured| measured.n),
        recipe: record.recipe(),
        onnx: record.onnx.clone(),
        curve: record.curve.clone(),
    }
}

/// `sqrt(p (1 - p) / n)` in points.
fn sampling_error(percent: f64, images: u64) -> Option<f64> {
    let p = percent / 100.0;
    (images > 0).then(|| (p * (1.0 - p) / images as f64).sqrt() * 100.0)
}

/// Standard deviation with n - 1.
fn sample_sd(values: &[f64], mean: f64) -> f64 {
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (values.len() as f64 - 1.0)).sqrt()
}
