//! Training an architecture from scratch.

use std::path::Path;
use std::sync::Arc;

use fleetfoot_space::{Architecture, SearchSpace, Weights};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tch::{Tensor, no_grad};

use crate::average::Average;
use crate::batches::{Feed, Source};
use crate::chain::Chain;
use crate::checkpoint::Checkpoint;
use crate::compute::Compute;
use crate::error::SearchError;
use crate::group::Group;
use crate::learn::{Backward, check_parts, check_statistics, learn};
use crate::learning::{Account, Learning, Stopwatch, checkpoint_path, difference};
use crate::loss::{Criterion, CrossEntropy};
use crate::mixing::{Mixing, Targets};
use crate::module::{Mode, Module};
use crate::optimizer::{Sgd, cosine};
use crate::placement::Placement;
use crate::recipe::{Init, Recipe};
use fleetfoot_dataset::{Dataset, Split};

/// How well a network does on test images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// Right answers in percent, or the mean score.
    pub accuracy_percent: f64,
    /// Mean loss: cross entropy without smoothing, or the one that there is in its place.
    pub loss: f64,
    /// Images that these are of: all that could be read.
    pub images: usize,
}

/// What the names of the classifier's tensors begin with.
pub const CLASSIFIER: &str = "head.classifier.";

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

/// Of the network's tensors in a checkpoint.
const PREFIX: &str = "network";
/// Images of a batch when nothing is learned, at most.
const EVALUATION_BATCH: usize = 500;
/// Values of such a batch, at most: 50 images of ImageNet's size, whose activations then take less than a gigabyte.
const EVALUATION_VALUES: usize = 50 * 3 * 224 * 224;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct State {
    recipe: Recipe,
    #[serde(default = "CrossEntropy::default_name")]
    criterion: String,
    space: String,
    dataset: String,
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
    dataset: String,
    architecture: Architecture,
    criterion: Arc<dyn Criterion>,
    recompute: bool,
    group: Arc<Group>,
    chain: Chain,
    average: Option<Average>,
    train: Feed,
    test: Source,
    step: usize,
    loss: f64,
    sums: (usize, f64, f64),
    curve: Vec<TrainingPoint>,
    stopwatch: Stopwatch,
}

/// Whether a space's networks take a data set's images and tell its classes apart. A set that doesn't say how many
/// classes it has may have fewer than the space, never more.
pub fn check_images(space: &SearchSpace, dataset: &Dataset) -> Result<(), SearchError> {
    let (input, classes) = (space.input(), space.classes());
    for images in [&dataset.train, &dataset.test] {
        let (channels, height, width) = images.size();
        let same = (channels, height, width) == (input.c, input.h, input.w);
        if !same || !images.classes().fit(classes) {
            let found = format!("{channels} x {height} x {width} of {}", images.classes());
            let wanted = format!("{} x {} x {} of {classes} classes", input.c, input.h, input.w);
            return Err(SearchError::Images { found, space: space.name().to_owned(), wanted });
        }
    }
    Ok(())
}

/// The training images that a seed chooses, so many, in its order.
pub fn learned_from(train: &Split, seed: u64, images: usize) -> Split {
    train.shuffled(&mut ChaCha8Rng::seed_from_u64(seed)).subset(0..images)
}

/// SHA-256 over tensors, in hexadecimal.
fn digest(weights: &Weights) -> String {
    let mut hash = Sha256::new();
    for (name, tensor) in weights.iter() {
        hash.update(format!("{name} {:?} ", tensor.dims));
        tensor.data.iter().for_each(|value| hash.update(value.to_bits().to_le_bytes()));
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Training {
    /// Starts a training on the CPU.
    pub fn new(
        space: &SearchSpace,
        architecture: &Architecture,
        dataset: &Dataset,
        recipe: Recipe,
    ) -> Result<Self, SearchError> {
        Self::on(Compute::Cpu, space, architecture, dataset, recipe)
    }

    /// Starts a training on what computes, which is [ready](Compute::prepare).
    pub fn on(
        compute: Compute,
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
        let placement = Placement::new(recipe.channels_last, recipe.amp, compute);
        check_parts(recipe.accumulate, recipe.batch)?;
        let statistics = dataset.train.channel_statistics()?;
        let source = |images: Split| Source { images, statistics: statistics.clone(), placement };
        let train = source(learned_from(&dataset.train, recipe.seed, recipe.train_images));
        let train = Feed::new(train, recipe.seed, recipe.batch, Some(recipe.augmentation()));
        let steps = recipe.epochs * train.steps_per_epoch();
        // What a training needs of memory besides activations is there when it begins.
        let network = space.network(architecture)?;
        // A batch of one image is asked for in so many words; parts of one come of a division.
        if recipe.accumulate > 1 {
            check_statistics(std::iter::once(&network), recipe.batch / recipe.accumulate, "--batch and --accumulate")?;
        }
        let chain = Chain::initial(network, recipe.seed, placement)?.with_momentum()?;
        Ok(Self {
            average: recipe.ema.map(|decay| Average::of(&chain, decay)).transpose()?,
            chain,
            criterion: Arc::new(CrossEntropy),
            recompute: false,
            group: Arc::default(),
            train: train.until(steps),
            test: source(dataset.test.clone()),
            recipe,
            space: space.signature(),
            dataset: dataset.fingerprint(),
            architecture: architecture.clone(),
            step: 0,
            loss: 0.0,
            sums: (0, 0.0, 0.0),
            curve: Vec::new(),
            stopwatch: Stopwatch::default(),
        })
    }

    /// Learns and is tested by another loss and its score than by cross entropy and accuracy.
    pub fn with_criterion(self, criterion: Arc<dyn Criterion>) -> Self {
        Self { criterion, ..self }
    }

    /// Computes each block a second time where its gradients are due, instead of keeping what they need
    /// ([`Backward::recompute`]). The training is the same, bit by bit, and so this may change wherever it is gone on with.
    pub fn recomputing(self, recompute: bool) -> Self {
        Self { recompute, ..self }
    }

    /// Trains together with other ranks: each computes its share of every batch, and all learn the same.
    pub fn among(mut self, group: Arc<Group>) -> Result<Self, SearchError> {
        let share = group.share(self.recipe.batch, "--batch")?;
        check_parts(self.recipe.accumulate, share)?;
        if group.size() > 1 {
            let network = std::iter::once(self.chain.network());
            check_statistics(network, share / self.recipe.accumulate, "--batch and --accumulate")?;
        }
        self.train = self.train.share(&group);
        self.group = group;
        Ok(self)
    }

    /// Starts from given weights instead of random ones; with `new_classifier`, all but the classifier's. Returns the names
    /// of those that the network has no place for. The first tensor of the network that is missing or has other extents is
    /// the error.
    pub fn start_from(&mut self, weights: &Weights, new_classifier: bool) -> Result<Vec<String>, SearchError> {
        let mut start = Weights::default();
        for parameter in self.chain.parameters() {
            let own = parameter.to_weights()?;
            let kept = new_classifier && parameter.name.starts_with(CLASSIFIER);
            let tensor = if kept { own } else { weights.get(&parameter.name, &own.dims)?.clone() };
            start.insert(parameter.name.clone(), tensor);
        }
        self.chain = self.chain.with(&start)?.with_momentum()?;
        self.average = self.recipe.ema.map(|decay| Average::of(&self.chain, decay)).transpose()?;
        self.recipe.init = Some(Init { sha256: digest(weights), new_classifier });
        let unused = weights.iter().map(|(name, _)| name).filter(|name| !start.has(name));
        Ok(unused.map(str::to_owned).collect())
    }

    /// What is learned and tested by.
    pub fn criterion(&self) -> &Arc<dyn Criterion> {
        &self.criterion
    }

    /// The recipe, with the weights that it started from.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Learning rate of the last step.
    pub fn lr(&self) -> f64 {
        self.lr_at(self.step.saturating_sub(1))
    }

    fn lr_at(&self, step: usize) -> f64 {
        let rise = (self.recipe.rise_epochs * self.train.steps_per_epoch() as f64) as usize;
        cosine(step, self.total_steps(), rise, self.recipe.lr)
    }

    /// Loss of the last step.
    pub fn loss(&self) -> f64 {
        self.loss
    }

    /// The curve so far.
    pub fn curve(&self) -> &[TrainingPoint] {
        &self.curve
    }

    /// The data set's [fingerprint](Dataset::fingerprint).
    pub fn fingerprint(&self) -> &str {
        &self.dataset
    }

    /// What is trained.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// The network that comes out: in its average weights, where there is an average.
    pub fn chain(&self) -> &Chain {
        self.average.as_ref().map_or(&self.chain, Average::chain)
    }

    /// Mean and standard deviation of each channel of the training images, of values in 0..1.
    pub fn statistics(&self) -> &[(f32, f32)] {
        &self.train.source().statistics
    }

    /// How well the network that [comes out](Self::chain) does on the test images. A loss that is no number is an
    /// error: batches of one image leave BN's variance undefined where a layer has one pixel, and no training loss shows it.
    pub fn evaluate(&self) -> Result<Evaluation, SearchError> {
        self.judge(self.chain())
    }

    /// The same of the weights of the last step, where the average of all comes out.
    pub fn evaluate_without_average(&self) -> Result<Option<Evaluation>, SearchError> {
        self.average.as_ref().map(|_| self.judge(&self.chain)).transpose()
    }

    fn judge(&self, chain: &Chain) -> Result<Evaluation, SearchError> {
        let (channels, height, width) = self.test.images.size();
        let batch = (EVALUATION_VALUES / (channels * height * width).max(1)).clamp(1, EVALUATION_BATCH);
        no_grad(|| {
            let (mut right, mut loss, mut seen) = (0.0, 0.0, 0.0);
            for batch in self.test.share_in_order(batch, &self.group) {
                let batch = batch?;
                let logits = chain.forward(&batch.images, Mode::Eval)?;
                let count = batch.labels.size1()? as f64;
                let labels = Targets::from(batch.labels);
                right += labels.score(&*self.criterion, &logits)?;
                loss += count * labels.loss(&*self.criterion, &logits, 0.0)?.f_double_value(&[])?;
                seen += count;
            }
            let mut sums = [right, loss, seen];
            self.group.sum(&mut sums)?;
            let [right, loss, seen] = sums;
            let found = self.group.gather(&self.test.images.corrupt())?;
            self.test.images.remember(&found.concat());
            let (accuracy_percent, loss) = (100.0 * right / seen, loss / seen);
            if !loss.is_finite() {
                let architecture = self.architecture.to_string();
                return Err(SearchError::Untestable { architecture, loss, step: self.step });
            }
            Ok(Evaluation { accuracy_percent, loss, images: seen as usize })
        })
    }

    /// The weights of the network that [comes out](Self::chain).
    pub fn weights(&self) -> Result<Weights, SearchError> {
        Ok(self.chain().weights()?)
    }

    fn state(&self) -> State {
        State {
            recipe: self.recipe.clone(),
            criterion: self.criterion.name(),
            space: self.space.clone(),
            dataset: self.dataset.clone(),
            architecture: self.architecture.to_string(),
            step: self.step,
            sums: self.sums,
            curve: self.curve.clone(),
        }
    }

    fn checkpoint(&self) -> Result<Checkpoint, SearchError> {
        let mut checkpoint = Checkpoint::of(self.account());
        self.chain.save(PREFIX, &mut checkpoint)?;
        if let Some(average) = &self.average {
            average.save(&mut checkpoint)?;
        }
        Ok(checkpoint)
    }

    /// Goes on from a folder's checkpoint, which must belong to the same recipe and architecture.
    pub fn restore(&mut self, folder: &Path) -> Result<(), SearchError> {
        let path = checkpoint_path(folder);
        let (checkpoint, state) = Checkpoint::read::<State>(&path, &self.group)?;
        let ours = self.state();
        let differing = [
            ("another recipe", state.recipe != ours.recipe),
            ("another loss", state.criterion != ours.criterion),
            ("another space", state.space != ours.space),
            ("another architecture", state.architecture != ours.architecture),
            ("another data set", state.dataset != ours.dataset),
        ];
        if let Some(difference) = difference(&differing) {
            let what = format!("it belongs to {difference}");
            return Err(SearchError::Checkpoint { path, what });
        }
        self.chain.restore(PREFIX, &checkpoint)?;
        if let Some(average) = &mut self.average {
            average.restore(&checkpoint)?;
        }
        (self.step, self.sums, self.curve) = (state.step, state.sums, state.curve);
        self.stopwatch = Stopwatch::after(&checkpoint.account);
        self.train.rewind();
        self.train.source().images.remember(&checkpoint.account.corrupt);
        Ok(())
    }

    /// SHA-256 over weights, BN's statistics, momentum and state.
    pub fn hash(&self) -> Result<String, SearchError> {
        Ok(self.checkpoint()?.hash(&self.state()))
    }
}

impl Learning for Training {
    fn total_steps(&self) -> usize {
        self.recipe.epochs * self.train.steps_per_epoch()
    }

    fn step(&self) -> usize {
        self.step
    }

    fn seconds(&self) -> f64 {
        self.stopwatch.seconds()
    }

    fn account(&self) -> Account {
        self.stopwatch.account(&[&self.train], self.group.size())
    }

    fn group(&self) -> &Arc<Group> {
        &self.group
    }

    fn images(&self) -> &Split {
        &self.train.source().images
    }

    fn level(&mut self) -> Result<(), SearchError> {
        let average = self.average.iter().flat_map(|average| average.chain().parameters());
        let statistics = self.chain.parameters().chain(average).filter(|parameter| !parameter.trainable);
        self.group.copy_first(&statistics.map(|parameter| &parameter.value).collect::<Vec<_>>())
    }

    fn advance(&mut self, folder: &Path) -> Result<(), SearchError> {
        let per_epoch = self.train.steps_per_epoch();
        let lr = self.lr_at(self.step);
        let mixing = Mixing { mixup: self.recipe.mixup, cutmix: self.recipe.cutmix };
        let part = (self.step, self.group.rank());
        let (images, targets) = mixing.apply(self.train.batch(self.step)?, self.recipe.seed, part)?;
        let Recipe { smoothing, accumulate: parts, decay, decay_bn, .. } = self.recipe;
        let sgd = Sgd { decay, decay_bn, ..Sgd::default() };
        let mut update = |module: &mut Module, gradients: &[Tensor]| sgd.update(module, gradients, lr);
        let (criterion, recompute, group) = (&*self.criterion, self.recompute, &*self.group);
        let how = Backward { criterion, smoothing, recompute, parts, group };
        let learned = learn(&mut self.chain.modules_mut(), &images, &targets, how, &mut update)?;
        self.loss = learned.loss;
        self.step += 1;
        if !self.loss.is_finite() {
            return Err(SearchError::diverged(self.loss, self.step, lr, folder));
        }
        if let Some(average) = &mut self.average {
            average.update(&self.chain, self.step - 1)?;
        }
        self.sums = (self.sums.0 + 1, self.sums.1 + self.loss, self.sums.2 + learned.score);
        if self.step.is_multiple_of(per_epoch) {
            let (steps, loss, right) = self.sums;
            let mean = |sum: f64| sum / steps as f64;
            let epoch = self.step / per_epoch;
            self.curve.push(TrainingPoint { epoch, loss: mean(loss), accuracy_percent: 100.0 * mean(right) });
            self.sums = (0, 0.0, 0.0);
        }
        Ok(())
    }

    fn save(&self, folder: &Path) -> Result<(), SearchError> {
        self.checkpoint()?.write(&checkpoint_path(folder), &self.state())
    }
}
