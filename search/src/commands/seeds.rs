//! One recipe by several seeds, each in a folder of its own.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use fleetfoot_search::{Group, Recipe, checkpoint_path};
use serde::Serialize;

use super::train::{LastStep, RECORD, Record};
use super::{FolderOptions, write_json};

/// Name of the record of all seeds in a run folder.
pub const SEEDS: &str = "seeds.json";

/// A quantity over the seeds.
#[derive(Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Mean.
    pub mean: f64,
    /// Sample standard deviation (n - 1).
    pub sd: f64,
    /// One value a seed, in their order.
    pub values: Vec<f64>,
}

impl Spread {
    /// Of two values or more.
    fn of(values: Vec<f64>) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Self { mean, sd: (squares / (count - 1.0)).sqrt(), values }
    }
}

/// How the last step's weights did, seed by seed, where averages came out.
#[derive(Debug, Serialize)]
struct LastSteps {
    accuracy_percent: Spread,
    test_loss: Spread,
}

/// seeds.json.
#[derive(Debug, Serialize)]
struct SeedsRecord<'a> {
    format: u32,
    space: &'a str,
    architecture: &'a str,
    named: &'a str,
    seeds: Vec<u64>,
    /// Where each seed's train.json is, below this file's folder.
    folders: Vec<String>,
    /// Images that these are of: all test images that could be read.
    test_images: usize,
    accuracy_percent: Spread,
    test_loss: Spread,
    #[serde(skip_serializing_if = "Option::is_none")]
    without_ema: Option<LastSteps>,
    seconds: f64,
    /// The first seed's.
    recipe: &'a Recipe,
}

/// The folder of a seed's training below the run's.
fn folder_name(seed: u64) -> String {
    format!("seed{seed}")
}

/// Where a run of several seeds has its first training; `None` for other folders.
pub fn first_of(run: &Path) -> Option<PathBuf> {
    let record: serde_json::Value = serde_json::from_slice(&std::fs::read(run.join(SEEDS)).ok()?).ok()?;
    Some(run.join(record["folders"][0].as_str()?))
}

/// A run folder holds one training or several, not both.
pub fn check_alone(folder: &FolderOptions, several: bool) -> Result<()> {
    let path = folder.path();
    let (one, many) = (path.join(RECORD).exists() || checkpoint_path(path).exists(), path.join(SEEDS).exists());
    let holds = match (several, one, many) {
        (true, true, _) => "the run of one seed: go on with it without --seeds",
        (false, _, true) => "a run of several seeds: go on with it by --seeds",
        _ => return Ok(()),
    };
    bail!("{} holds {holds}, or name another folder", path.display())
}

/// Trains by `count` seeds from the first on, those that aren't trained yet, and writes their record.
pub fn train(
    group: &Group,
    folder: &FolderOptions,
    first: u64,
    count: usize,
    mut train_one: impl FnMut(&FolderOptions, u64) -> Result<Option<Record>>,
) -> Result<()> {
    group.led(|| check_alone(folder, true))?;
    folder.open(group, SEEDS, &folder.path().join(folder_name(first)).join(RECORD))?;
    let seeds: Vec<u64> = (0..count as u64).map(|index| first.wrapping_add(index)).collect();
    let train_below = |&seed: &u64| train_one(&folder.below(&folder_name(seed)), seed);
    let records = seeds.iter().map(train_below).collect::<Result<Vec<Option<Record>>>>()?;
    // Rank 0 alone has any.
    let Some(records) = records.into_iter().collect::<Option<Vec<Record>>>() else { return Ok(()) };
    let Some(one) = records.first() else { bail!("no seed to train by") };
    let last_steps = records.iter().map(|record| record.without_ema.as_ref()).collect::<Option<Vec<&LastStep>>>();
    let record = SeedsRecord {
        format: 1,
        space: &one.space,
        architecture: &one.architecture,
        named: &one.named,
        folders: seeds.iter().map(|&seed| folder_name(seed)).collect(),
        seeds,
        test_images: one.test_images,
        accuracy_percent: Spread::of(records.iter().map(|record| record.accuracy_percent).collect()),
        test_loss: Spread::of(records.iter().map(|record| record.test_loss).collect()),
        without_ema: last_steps.map(|last| LastSteps {
            accuracy_percent: Spread::of(last.iter().map(|last| last.accuracy_percent).collect()),
            test_loss: Spread::of(last.iter().map(|last| last.test_loss).collect()),
        }),
        seconds: records.iter().map(|record| record.seconds).sum(),
        recipe: &one.recipe,
    };
    write_json(&folder.path().join(SEEDS), &record)?;
    let (accuracy, loss) = (&record.accuracy_percent, &record.test_loss);
    eprintln!(
        "{}: test accuracy {:.2} ± {:.2} %, loss {:.4} ± {:.4} over {count} seeds (mean ± sd) on {} test images",
        one.named, accuracy.mean, accuracy.sd, loss.mean, loss.sd, record.test_images
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn the_spread_over_seeds_is_that_of_a_sample() {
        let spread = Spread::of(vec![91.0, 92.0, 93.0]);
        assert_eq!((spread.mean, spread.sd), (92.0, 1.0));
        assert_eq!(Spread::of(vec![1.0, 1.0]).sd, 0.0);
    }
}
