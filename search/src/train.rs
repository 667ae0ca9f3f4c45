//! Training an architecture from scratch.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use fleetfoot_space::{Architecture, SearchSpace, Weights};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tch::{Tensor, no_grad};

use crate::batches::{Augmentation, Epoch, Source};
use crate::checkpoint::Checkpoint;
use crate::dataset::{Dataset, channel_statistics};
use crate::error::SearchError;
use crate::layout::Layout;
use crate::module::{Mode, Module, Parameter};
use crate::optimizer::{Sgd, cosine};
use crate::search::{accuracy, cross_entropy};

/// The recipe. Networks that are to be compared are trained by one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Epochs.
    pub epochs: usize,
    /// Epochs of them in which the learning rate rises.
    pub rise_epochs: f64,
    /// Images of a step.
    pub batch: usize,
    /// Images of the training set that are used; the rest is left out.
    pub train_images: usize,
    /// Peak learning rate.
    pub lr: f64,
    /// Label smoothing.
    pub smoothing: f64,
    /// Largest shift of an image in pixels.
    pub shift: usize,
    /// Whether images are mirrored at random.
    pub flip: bool,
    /// Seed of weights, order and augmentation.
    pub seed: u64,
    /// Memory order: `channels-last` or `nchw`.
    pub channels_last: bool,
}

/// A point of the training's curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingPoint {
    /// Epochs so far.
    pub epoch: usize,
    /// Mean loss of the epoch's steps.
    pub loss: f64,
    /// Accuracy of the epoch's steps on their batches, in percent.
    pub accuracy_percent: f64,
}

/// Images of a batch when nothing is learned.
const EVALUATION_BATCH: usize = 500;
/// Seconds between checkpoints.
const CHECKPOINT_SECONDS: u64 = 60;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct State {
    recipe: Recipe,
    space: String,
    architecture: String,
    step: usize,
    sums: (usize, f64, f64),
    curve: Vec<TrainingPoint>,
}

/// A training in progress.
#[derive(Debug)]
pub struct Training {
    recipe: Recipe,
    space: String,
    architecture: Architecture,
    module: Module,
    train: Source,
    test: Source,
    step: usize,
    sums: (usize, f64, f64),
    curve: Vec<TrainingPoint>,
    epoch: Option<(usize, Epoch)>,
}

/// Whether a space's networks take a data set's images and tell its classes apart.
pub fn check_images(space: &SearchSpace, dataset: &Dataset) -> Result<(), SearchError> {
    let input = space.input();
    let wanted = (input.c, input.h, input.w, space.classes());
    for images in [&dataset.train, &dataset.test] {
        let found = (images.channels, images.height, images.width, images.classes);
        if found != wanted {
            let say =
                |(c, h, w, classes): (usize, usize, usize, usize)| format!("{c} x {h} x {w} of {classes} classes");
            let (found, wanted) = (say(found), say(wanted));
            return Err(SearchError::Images { found, space: space.name().to_owned(), wanted });
        }
    }
    Ok(())
}

impl Training {
    /// Starts a training.
    pub fn new(
        space: &SearchSpace,
        architecture: &Architecture,
        dataset: &Dataset,
        recipe: Recipe,
    ) -> Result<Self, SearchError> {
        check_images(space, dataset)?;
        if recipe.train_images > dataset.train.len() || recipe.train_images < recipe.batch || recipe.batch == 0 {
            return Err(SearchError::Settings(format!(
                "{} training images in batches of {}, of a set of {}: wanted at least a batch and at most the set",
                recipe.train_images,
                recipe.batch,
                dataset.train.len()
            )));
        }
        let layout = if recipe.channels_last { Layout::ChannelsLast } else { Layout::Nchw };
        let mut order: Vec<usize> = (0..dataset.train.len()).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(recipe.seed));
        order.truncate(recipe.train_images);
        let statistics = channel_statistics(&dataset.train);
        let source = |images: &crate::dataset::Images, indices: Vec<usize>| Source {
            images: Arc::new(images.clone()),
            indices: Arc::new(indices),
            statistics: statistics.clone(),
            layout,
        };
        Ok(Self {
            module: Module::initial(space.network(architecture)?, recipe.seed, layout)?,
            train: source(&dataset.train, order),
            test: source(&dataset.test, (0..dataset.test.len()).collect()),
            recipe,
            space: space.name().to_owned(),
            architecture: architecture.clone(),
            step: 0,
            sums: (0, 0.0, 0.0),
            curve: Vec::new(),
            epoch: None,
        })
    }

    /// Steps in all.
    pub fn total_steps(&self) -> usize {
        self.recipe.epochs * self.train.batches(self.recipe.batch)
    }

    /// Steps so far.
    pub fn step(&self) -> usize {
        self.step
    }

    /// The curve so far.
    pub fn curve(&self) -> &[TrainingPoint] {
        &self.curve
    }

    /// The network.
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// Mean and standard deviation of each channel of the training images, of values in 0..1.
    pub fn statistics(&self) -> &[(f32, f32)] {
        &self.train.statistics
    }

    /// Goes on until the end, or until `stop`. Checkpoints go to `folder`; `watch` is told of every step's loss.
    pub fn run(
        &mut self,
        folder: &Path,
        stop: &AtomicBool,
        watch: &mut dyn FnMut(usize, f64),
    ) -> Result<(), SearchError> {
        let mut saved = Instant::now();
        while self.step < self.total_steps() {
            let loss = self.advance(folder)?;
            watch(self.step, loss);
            let stopping = stop.load(Ordering::Relaxed);
            if stopping || saved.elapsed().as_secs() >= CHECKPOINT_SECONDS || self.step == self.total_steps() {
                self.save(folder)?;
                saved = Instant::now();
            }
            if stopping && self.step < self.total_steps() {
                return Err(SearchError::Interrupted { folder: folder.to_path_buf() });
            }
        }
        Ok(())
    }

    /// One step: its loss.
    pub fn advance(&mut self, folder: &Path) -> Result<f64, SearchError> {
        let per_epoch = self.train.batches(self.recipe.batch);
        let rise = (self.recipe.rise_epochs * per_epoch as f64) as usize;
        let lr = cosine(self.step, self.total_steps(), rise, self.recipe.lr);
        let (number, position) = (self.step / per_epoch, self.step % per_epoch);
        if self.epoch.as_ref().is_none_or(|(under_way, _)| *under_way != number) {
            let augmentation = Augmentation { shift: self.recipe.shift, flip: self.recipe.flip };
            let (seed, size) = (self.recipe.seed, self.recipe.batch);
            self.epoch = Some((number, self.train.epoch(seed, number as u64, position, size, augmentation)));
        }
        let batch = self.epoch.as_mut().and_then(|(_, batches)| batches.next());
        let batch = batch.ok_or_else(|| SearchError::Settings("the images ended early".to_owned()))??;
        let logits = self.module.forward(&batch.images, Mode::Train)?;
        let loss = cross_entropy(&logits, &batch.labels, self.recipe.smoothing)?;
        let mut parameters: Vec<&mut Parameter> =
            self.module.parameters_mut().iter_mut().filter(|parameter| parameter.trainable).collect();
        let values: Vec<&Tensor> = parameters.iter().map(|parameter| &parameter.value).collect();
        let gradients = Tensor::f_run_backward(&[&loss], &values, false, false)?;
        Sgd::default().step(&mut parameters, &gradients, lr)?;
        let loss = loss.f_double_value(&[])?;
        self.step += 1;
        if !loss.is_finite() {
            return Err(SearchError::Diverged { loss, step: self.step, lr, folder: folder.to_path_buf() });
        }
        let right = accuracy(&logits, &batch.labels)?;
        self.sums = (self.sums.0 + 1, self.sums.1 + loss, self.sums.2 + right);
        if self.step.is_multiple_of(per_epoch) {
            let (steps, loss, right) = self.sums;
            let mean = |sum: f64| sum / steps as f64;
            let epoch = self.step / per_epoch;
            self.curve.push(TrainingPoint { epoch, loss: mean(loss), accuracy_percent: 100.0 * mean(right) });
            self.sums = (0, 0.0, 0.0);
        }
        Ok(loss)
    }

    /// Accuracy in percent and mean cross entropy on the test images.
    pub fn evaluate(&self) -> Result<(f64, f64), SearchError> {
        no_grad(|| {
            let (mut right, mut loss, mut seen) = (0.0, 0.0, 0.0);
            for batch in self.test.in_order(EVALUATION_BATCH) {
                let batch = batch?;
                let logits = self.module.forward(&batch.images, Mode::Eval)?;
                let count = batch.labels.size1()? as f64;
                right += count * accuracy(&logits, &batch.labels)?;
                loss += count * cross_entropy(&logits, &batch.labels, 0.0)?.f_double_value(&[])?;
                seen += count;
            }
            Ok((100.0 * right / seen, loss / seen))
        })
    }

    /// The weights as they are.
    pub fn weights(&self) -> Result<Weights, SearchError> {
        let mut weights = Weights::default();
        self.module.collect(&mut weights)?;
        Ok(weights)
    }

    fn state(&self) -> State {
        State {
            recipe: self.recipe.clone(),
            space: self.space.clone(),
            architecture: self.architecture.to_string(),
            step: self.step,
            sums: self.sums,
            curve: self.curve.clone(),
        }
    }

    fn checkpoint(&self) -> Result<Checkpoint, SearchError> {
        let mut checkpoint = Checkpoint::default();
        checkpoint.add("network", &self.module)?;
        Ok(checkpoint)
    }

    /// Where a run folder's checkpoint is.
    pub fn checkpoint_path(folder: &Path) -> PathBuf {
        folder.join("checkpoint.safetensors")
    }

    /// Writes the checkpoint.
    pub fn save(&self, folder: &Path) -> Result<(), SearchError> {
        self.checkpoint()?.write(&Self::checkpoint_path(folder), &self.state())
    }

    /// Goes on from a folder's checkpoint, which must belong to the same recipe and architecture.
    pub fn restore(&mut self, folder: &Path) -> Result<(), SearchError> {
        let path = Self::checkpoint_path(folder);
        let (checkpoint, state) = Checkpoint::read::<State>(&path)?;
        let ours = self.state();
        if (&state.recipe, &state.space, &state.architecture) != (&ours.recipe, &ours.space, &ours.architecture) {
            let what = "it belongs to another recipe or architecture: use the same, or start anew with --force";
            return Err(SearchError::Checkpoint { path, what: what.to_owned() });
        }
        checkpoint.restore("network", &mut self.module)?;
        (self.step, self.sums, self.curve, self.epoch) = (state.step, state.sums, state.curve, None);
        Ok(())
    }

    /// SHA-256 over weights, BN's statistics, momentum and state.
    pub fn hash(&self) -> Result<String, SearchError> {
        Ok(self.checkpoint()?.hash(&self.state()))
    }
}
