//! The last stage of a search: a few networks that meet the target are trained from scratch for a short while, and the
//! one with the lowest cross entropy on the validation images wins.
//!
//! Weights that share a supernet rank networks of equal latency hardly better than chance; a short training ranks them
//! well. DARTS (Liu et al., ICLR 2019) chooses among the results of several searches in this way.

use std::fs;
use std::path::{Path as FilePath, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use fleetfoot_profiler::write_json;
use fleetfoot_space::{Architecture, SearchSpace};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::compute::Compute;
use crate::error::SearchError;
use crate::gates::Gates;
use crate::learning::{Learning as _, checkpoint_path, difference};
use crate::limits::Limits;
use crate::loss::{Criterion, CrossEntropy};
use crate::recipe::Recipe;
use crate::train::{Evaluation, Training};
use crate::within::Within;
use fleetfoot_dataset::Dataset;

/// How far below the target a finalist's latency may lie, as a share of it.
const ROOM: f64 = 0.05;
/// Draws for one finalist that isn't there yet, until no other is believed to exist.
const DRAWS: usize = 200;

/// A network of the last stage, and how it did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finalist {
    /// The network.
    pub architecture: String,
    /// What it needs of what is limited first: its latency in ms, by the cost matrix.
    pub predicted_ms: f64,
    /// Accuracy on the validation images, or the mean score, in percent.
    pub accuracy_percent: f64,
    /// Mean cross entropy on the validation images, or mean loss where there is another one.
    pub cross_entropy: f64,
}

/// What a [`Contest`] tells while it goes on.
#[derive(Debug)]
pub enum News<'a> {
    /// So many weight steps more.
    Steps(usize),
    /// A finalist is done.
    Done(&'a Finalist),
}

/// Finalists in training.
#[derive(Debug)]
pub struct Contest<'a> {
    /// The space.
    pub space: &'a SearchSpace,
    /// What networks may need.
    pub limits: &'a Limits,
    /// What is learned from; its test images are what is judged by.
    pub dataset: &'a Dataset,
    /// How all are trained.
    pub recipe: &'a Recipe,
    /// What they learn and are judged by.
    pub criterion: Arc<dyn Criterion>,
    /// Whether that computes blocks twice instead of keeping what their backward passes need: equal results, less memory.
    pub recompute: bool,
    /// Where results and checkpoints are.
    pub folder: PathBuf,
    /// How many are trained at a time, on a thread each.
    pub threads: usize,
    /// What computes: [ready](Compute::prepare).
    pub compute: Compute,
}

/// A file of a finalist: what came out, and by which recipe.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    recipe: Recipe,
    #[serde(default = "CrossEntropy::default_name")]
    criterion: String,
    finalist: Finalist,
}

/// Up to `count` networks for the last stage: `first`, and others drawn from those that need 95 to 100 % of what they may by
/// the square roots of the gates' probabilities, since gates that are sure of a thing may still be wrong. Fewer where
/// that many can't be found.
pub fn draw_finalists(
    first: &Architecture,
    count: usize,
    gates: &Gates,
    limits: &Limits,
    rng: &mut impl Rng,
) -> Vec<Architecture> {
    let roots = |row: Vec<f64>| row.into_iter().map(f64::sqrt).collect::<Vec<f64>>();
    let weights: Vec<Vec<f64>> = gates.probabilities().into_iter().map(roots).collect();
    let Some(sampler) = Within::new(limits, gates, 1.0 - ROOM, &weights) else { return vec![first.clone()] };
    let mut finalists = vec![first.clone()];
    while finalists.len() < count {
        let draws = std::iter::repeat_with(|| sampler.draw(rng)).take(DRAWS);
        let Some(new) = draws.flatten().find(|drawn| !finalists.contains(drawn)) else { break };
        finalists.push(new);
    }
    finalists
}

impl Contest<'_> {
    /// Trains all, as far as they aren't trained yet, and gives them in the order of their cross entropy, best first.
    /// Every finalist is on disk before `watch` hears of it.
    pub fn run(
        &self,
        finalists: &[Architecture],
        stop: &AtomicBool,
        watch: &(dyn Fn(News<'_>) + Sync),
    ) -> Result<Vec<Finalist>, SearchError> {
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let results = Mutex::new(Vec::with_capacity(finalists.len()));
        let work = || {
            // A thread's own setting. Equal results whatever `threads` is: each training has one.
            tch::set_num_threads(1);
            while !failed.load(Ordering::Relaxed) {
                let Some(architecture) = finalists.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
                let result = self.train(architecture, stop, watch);
                failed.fetch_or(result.is_err(), Ordering::Relaxed);
                // A thread that panicked ends the whole: what it held doesn't matter.
                results.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(result);
            }
        };
        thread::scope(|scope| {
            for _ in 0..self.threads.clamp(1, finalists.len().max(1)) {
                scope.spawn(work);
            }
        });
        let results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut finalists = results.into_iter().collect::<Result<Vec<Finalist>, SearchError>>()?;
        finalists.sort_by(|a, b| {
            a.cross_entropy.total_cmp(&b.cross_entropy).then_with(|| a.architecture.cmp(&b.architecture))
        });
        Ok(finalists)
    }

    /// Weight steps of all of them.
    pub fn steps(&self, finalists: usize) -> usize {
        finalists * self.recipe.epochs * (self.recipe.train_images / self.recipe.batch)
    }

    fn train(
        &self,
        architecture: &Architecture,
        stop: &AtomicBool,
        watch: &(dyn Fn(News<'_>) + Sync),
    ) -> Result<Finalist, SearchError> {
        let folder = self.folder.join(architecture.to_string());
        let file = folder.with_extension("json");
        if let Some(finalist) = self.read(&file)? {
            watch(News::Steps(self.steps(1)));
            watch(News::Done(&finalist));
            return Ok(finalist);
        }
        fs::create_dir_all(&folder).map_err(SearchError::io(&folder))?;
        let training = Training::on(self.compute, self.space, architecture, self.dataset, self.recipe.clone())?;
        let mut training = training.with_criterion(Arc::clone(&self.criterion)).recomputing(self.recompute);
        if checkpoint_path(&folder).exists() {
            training.restore(&folder)?;
            watch(News::Steps(training.step()));
        }
        training.run(&folder, stop, &mut |_| watch(News::Steps(1)))?;
        let Evaluation { accuracy_percent, loss: cross_entropy, .. } = training.evaluate()?;
        let predicted_ms = self.limits.first().demand.of(architecture);
        let finalist =
            Finalist { architecture: architecture.to_string(), predicted_ms, accuracy_percent, cross_entropy };
        let record = Record { recipe: self.recipe.clone(), criterion: self.criterion.name(), finalist };
        write_json(&file, &record).map_err(SearchError::io(&file))?;
        fs::remove_dir_all(&folder).map_err(SearchError::io(&folder))?;
        watch(News::Done(&record.finalist));
        Ok(record.finalist)
    }

    /// What came out before, if it did.
    fn read(&self, file: &FilePath) -> Result<Option<Finalist>, SearchError> {
        if !file.exists() {
            return Ok(None);
        }
        let broken = |what: String| SearchError::Checkpoint { path: file.to_path_buf(), what };
        let bytes = fs::read(file).map_err(SearchError::io(file))?;
        let record: Record = serde_json::from_slice(&bytes).map_err(|error| broken(error.to_string()))?;
        let differing = [
            ("another recipe", record.recipe != *self.recipe),
            ("another loss", record.criterion != self.criterion.name()),
        ];
        if let Some(difference) = difference(&differing) {
            return Err(broken(format!("it was trained by {difference}")));
        }
        Ok(Some(record.finalist))
    }
}
