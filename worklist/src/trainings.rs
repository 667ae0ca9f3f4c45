//! One record of several trainings: `seeds.json` of one architecture, `trainings.json` of several.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::jobs::{Job, Jobs};
use crate::write_json;

/// Name of a training's record in its folder.
pub const TRAIN: &str = "train.json";
/// Name of the record of one architecture by several seeds.
pub const SEEDS: &str = "seeds.json";
/// Name of the record of several architectures.
pub const TRAININGS: &str = "trainings.json";

/// What is read of a train.json.
#[derive(Debug, Deserialize)]
struct Trained {
    space: String,
    space_toml: String,
    architecture: String,
    named: String,
    seed: u64,
    images: Images,
    test_images: usize,
    seconds: f64,
    accuracy_percent: f64,
    test_loss: f64,
    #[serde(default)]
    without_ema: Option<LastStep>,
    /// As it stands there, to be written as it stands.
    recipe: Box<RawValue>,
}

#[derive(Debug, Deserialize)]
struct Images {
    sha256: String,
}

#[derive(Debug, Deserialize)]
struct LastStep {
    accuracy_percent: f64,
    test_loss: f64,
}

/// A quantity over the seeds.
#[derive(Debug, PartialEq, Serialize)]
struct Spread {
    /// Mean.
    mean: f64,
    /// Sample standard deviation (n - 1); absent of one value.
    #[serde(skip_serializing_if = "Option::is_none")]
    sd: Option<f64>,
    /// One value a seed, in their order.
    values: Vec<f64>,
}

impl Spread {
    fn of(values: Vec<f64>) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let sd = (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt());
        Self { mean, sd, values }
    }

    /// In words, with so many digits.
    fn show(&self, digits: usize) -> String {
        let Self { mean, sd, .. } = self;
        sd.map_or_else(|| format!("{mean:.digits$}"), |sd| format!("{mean:.digits$} ± {sd:.digits$}"))
    }
}

/// How the last step's weights did, seed by seed, where averages came out.
#[derive(Debug, Serialize)]
struct LastSteps {
    accuracy_percent: Spread,
    test_loss: Spread,
}

/// One architecture over its seeds.
#[derive(Debug, Serialize)]
struct OfArchitecture<'a> {
    architecture: &'a str,
    named: &'a str,
    seeds: Vec<u64>,
    /// Where each seed's train.json is, below this file's folder.
    folders: Vec<&'a str>,
    /// Images that these are of: all test images that could be read.
    test_images: usize,
    accuracy_percent: Spread,
    test_loss: Spread,
    #[serde(skip_serializing_if = "Option::is_none")]
    without_ema: Option<LastSteps>,
}

/// seeds.json.
#[derive(Debug, Serialize)]
struct SeedsRecord<'a> {
    format: u32,
    space: &'a str,
    #[serde(flatten)]
    architecture: &'a OfArchitecture<'a>,
    seconds: f64,
    /// The first seed's.
    recipe: &'a RawValue,
}

/// trainings.json. What was spent stands in each training's own record.
#[derive(Debug, Serialize)]
struct TrainingsRecord<'a> {
    format: u32,
    space: &'a str,
    trainings: &'a [OfArchitecture<'a>],
    /// The first training's, but for its seed that of all.
    recipe: &'a RawValue,
}

/// Writes the record of all.
pub(crate) fn write(folder: &Path, jobs: &Jobs) -> Result<Vec<String>> {
    let all = jobs.jobs.iter().map(|job| Ok((job, read(folder, job)?))).collect::<Result<Vec<_>>>()?;
    let Some((_, first)) = all.first() else { bail!("there is nothing to be trained") };
    check_alike(folder, &all)?;
    let each: Vec<OfArchitecture<'_>> = all.chunk_by(|(a, _), (b, _)| a.of == b.of).map(of_architecture).collect();
    let (space, recipe) = (first.space.as_str(), &*first.recipe);
    match each.as_slice() {
        [one] => {
            let seconds = all.iter().map(|(_, trained)| trained.seconds).sum();
            write_json(&folder.join(SEEDS), &SeedsRecord { format: 1, space, architecture: one, seconds, recipe })?;
        }
        trainings => {
            write_json(&folder.join(TRAININGS), &TrainingsRecord { format: 1, space, trainings, recipe })?;
        }
    }
    Ok(each.iter().map(OfArchitecture::told).collect())
}

fn of_architecture<'a>(all: &'a [(&'a Job, Trained)]) -> OfArchitecture<'a> {
    let (_, one) = &all[0];
    let last_steps = all.iter().map(|(_, trained)| trained.without_ema.as_ref()).collect::<Option<Vec<&LastStep>>>();
    let over = |of: fn(&Trained) -> f64| Spread::of(all.iter().map(|(_, trained)| of(trained)).collect());
    OfArchitecture {
        architecture: &one.architecture,
        named: &one.named,
        seeds: all.iter().map(|(job, _)| job.seed).collect(),
        folders: all.iter().map(|(job, _)| job.folder.as_str()).collect(),
        test_images: one.test_images,
        accuracy_percent: over(|trained| trained.accuracy_percent),
        test_loss: over(|trained| trained.test_loss),
        without_ema: last_steps.map(|last| LastSteps {
            accuracy_percent: Spread::of(last.iter().map(|last| last.accuracy_percent).collect()),
            test_loss: Spread::of(last.iter().map(|last| last.test_loss).collect()),
        }),
    }
}

impl OfArchitecture<'_> {
    fn told(&self) -> String {
        let (accuracy, loss) = (&self.accuracy_percent, &self.test_loss);
        let over = match self.seeds.len() {
            1 => String::new(),
            count => format!(" over {count} seeds (mean ± sd)"),
        };
        format!(
            "{}: test accuracy {} %, loss {}{over} on {} test images",
            self.named,
            accuracy.show(2),
            loss.show(4),
            self.test_images
        )
    }
}

fn read(folder: &Path, job: &Job) -> Result<Trained> {
    let path = folder.join(&job.folder).join(TRAIN);
    let text = fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
    let trained: Trained = serde_json::from_str(&text)
        .with_context(|| format!("{}: it isn't the record of a training; train it again", path.display()))?;
    if (&trained.named, trained.seed) != (&job.of, job.seed) {
        bail!(
            "{} is of {} by seed {}, wanted {} by seed {}: it lies in another's folder",
            path.display(),
            trained.named,
            trained.seed,
            job.of,
            job.seed
        );
    }
    Ok(trained)
}

/// All trainings are by one recipe, but for their seeds, of one space and one data set.
fn check_alike(folder: &Path, all: &[(&Job, Trained)]) -> Result<()> {
    let without_seed = |trained: &Trained| -> Result<Value> {
        let mut recipe: Value = serde_json::from_str(trained.recipe.get())?;
        recipe.as_object_mut().map(|recipe| recipe.remove("seed"));
        Ok(recipe)
    };
    let Some((first_job, first)) = all.first() else { return Ok(()) };
    let wanted = without_seed(first)?;
    for (job, trained) in all {
        let recipe = without_seed(trained)?;
        let differing = differing(&wanted, &recipe);
        let what = match () {
            () if trained.space_toml != first.space_toml => "another space".to_owned(),
            () if trained.images.sha256 != first.images.sha256 => "another data set".to_owned(),
            () if recipe != wanted => format!("another recipe ({differing})"),
            () => continue,
        };
        bail!(
            "{} is of {what} than {}: train one of them again, with --force in its own folder",
            folder.join(&job.folder).join(TRAIN).display(),
            folder.join(&first_job.folder).join(TRAIN).display()
        );
    }
    Ok(())
}

/// Which members of two objects differ, with their values.
pub(crate) fn differing(ours: &Value, theirs: &Value) -> String {
    let (Some(ours), Some(theirs)) = (ours.as_object(), theirs.as_object()) else {
        return format!("{ours} against {theirs}");
    };
    let names: std::collections::BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    let differing = names.into_iter().filter(|name| ours.get(*name) != theirs.get(*name));
    let shown = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), Value::to_string);
    let each: Vec<String> = differing
        .map(|name| format!("{name}: {} against {}", shown(ours.get(name)), shown(theirs.get(name))))
        .collect();
    each.join("; ")
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn the_spread_over_seeds_is_that_of_a_sample() {
        let spread = Spread::of(vec![91.0, 92.0, 93.0]);
        assert_eq!((spread.mean, spread.sd), (92.0, Some(1.0)));
        assert_eq!(Spread::of(vec![1.0, 1.0]).sd, Some(0.0));
        assert_eq!((Spread::of(vec![1.0]).sd, Spread::of(vec![1.0]).show(1)), (None, "1.0".to_owned()));
    }
}
