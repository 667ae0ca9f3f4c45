//! The search: weights and architecture parameters learn in turn, on the task and against the device's latencies.

use std::path::Path as FilePath;
use std::sync::Arc;

use fleetfoot_predictor::CostMatrix;
use fleetfoot_space::{Architecture, SearchSpace};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tch::{Tensor, no_grad};

use crate::batches::{Augmentation, Batch, Feed, Source};
use crate::checkpoint::{Checkpoint, RngState};
use crate::derive::Judge;
use crate::error::SearchError;
use crate::finalists::draw_finalists;
use crate::gates::{Gates, Path};
use crate::latency::{Constraint, expected_latency, expected_latency_of_pairs, logit_tensors, mean_latency};
use crate::layout::Layout;
use crate::learning::{Learning, Stopwatch, checkpoint_path, difference};
use crate::loss::{accuracy, cross_entropy};
use crate::module::Mode;
use crate::optimizer::{Sgd, cosine};
use crate::settings::{SearchPoint, SearchSettings};
use crate::supernet::Supernet;
use crate::train::Recipe;
use fleetfoot_dataset::{Dataset, channel_statistics};

/// What changes from step to step, tensors aside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct State {
    settings: SearchSettings,
    space: String,
    dataset: String,
    costs: CostMatrix,
    step: usize,
    lambda: f64,
    alpha: Vec<Vec<f64>>,
    adam_squares: Vec<Vec<f64>>,
    adam_steps: u64,
    gate_rng: RngState,
    sums: Sums,
    curve: Vec<SearchPoint>,
}

/// Sums since the last point of the curve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Sums {
    steps: usize,
    loss: f64,
    correct: f64,
}

/// Points of the curve, about.
const CURVE_POINTS: usize = 150;
/// Images of a batch by which exchanges are judged: large, since batch normalisation uses its statistics.
const JUDGE_BATCH: usize = 1024;
/// Share of the search in which the latency limit comes down to the target.
const TIGHTENING: f64 = 0.3;
/// Share of a finalist's training in which its learning rate rises.
const FINALIST_RISE: f64 = 0.1;
/// Sets the finalists' seed apart from the search's.
const FINALIST_SEED: u64 = 0xf17a1;
/// Sets the order of the gates' batches apart from that of the weights'.
const GATE_SEED: u64 = 0xa1fa;

/// A search in progress.
#[derive(Debug)]
pub struct Search {
    space: SearchSpace,
    dataset: String,
    costs: CostMatrix,
    settings: SearchSettings,
    supernet: Supernet,
    gates: Gates,
    constraint: Constraint,
    train: Feed,
    validation: Feed,
    gate_rng: ChaCha8Rng,
    step: usize,
    sums: Sums,
    curve: Vec<SearchPoint>,
    stopwatch: Stopwatch,
}

/// What a search found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The network: the most probable one that meets the target.
    pub architecture: Architecture,
    /// The most probable candidate everywhere.
    pub most_probable: Architecture,
    /// Expected latency of the gates at the end, in ms.
    pub expected_ms: f64,
    /// Latency of the architecture by the cost matrix, in ms.
    pub predicted_ms: f64,
    /// Softmax of the gates.
    pub probabilities: Vec<Vec<f64>>,
    /// The curves.
    pub curve: Vec<SearchPoint>,
    /// Weight of latency at the end.
    pub lambda: f64,
}

impl Search {
    /// Starts a search; the space must take the data set's images, the target lie within the space.
    pub fn new(
        space: &SearchSpace,
        costs: CostMatrix,
        dataset: &Dataset,
        settings: SearchSettings,
    ) -> Result<Self, SearchError> {
        crate::train::check_images(space, dataset)?;
        let (fastest_ms, slowest_ms) = costs.range_ms();
        let target_ms = settings.target_ms;
        if !(fastest_ms..=slowest_ms).contains(&target_ms) {
            return Err(SearchError::Target { target_ms, fastest_ms, slowest_ms });
        }
        if settings.inherit_after > settings.warmup_epochs {
            let (after, warmup) = (settings.inherit_after, settings.warmup_epochs);
            let what =
                format!("candidates inherit after {after} epochs, but the warm-up has {warmup}: wanted at most that");
            return Err(SearchError::Settings(what));
        }
        let layout = if settings.channels_last { Layout::ChannelsLast } else { Layout::Nchw };
        let (train, validation) = split(dataset, &settings, layout)?;
        let augmentation = Augmentation { shift: settings.shift, flip: settings.flip };
        let gate_seed = settings.seed ^ GATE_SEED;
        let mut gate_rng = ChaCha8Rng::seed_from_u64(settings.seed);
        gate_rng.set_stream(1);
        Ok(Self {
            supernet: Supernet::new(space, settings.seed, layout)?,
            gates: Gates::new(space, &mut gate_rng),
            space: space.clone(),
            dataset: dataset.fingerprint(),
            costs,
            constraint: settings.constraint,
            train: Feed::new(train, settings.seed, settings.batch, augmentation),
            validation: Feed::new(validation, gate_seed, settings.gate_batch, Augmentation::NONE),
            settings,
            gate_rng,
            step: 0,
            sums: Sums::default(),
            curve: Vec::new(),
            stopwatch: Stopwatch::after(0.0),
        })
    }

    /// The gates.
    pub fn gates(&self) -> &Gates {
        &self.gates
    }

    /// The data set's [fingerprint](Dataset::fingerprint).
    pub fn fingerprint(&self) -> &str {
        &self.dataset
    }

    /// The supernet.
    pub fn supernet(&self) -> &Supernet {
        &self.supernet
    }

    /// Draws a path and updates its weights: the loss, and the share of right answers.
    pub fn weight_step(&mut self, batch: &Batch, lr: f64) -> Result<(f64, f64), SearchError> {
        let path = self.gates.sample_path(&mut self.gate_rng);
        self.learn(&path, batch, lr)
    }

    fn learn(&mut self, path: &Path, batch: &Batch, lr: f64) -> Result<(f64, f64), SearchError> {
        let logits = self.supernet.forward(path, &batch.images, Mode::Train)?;
        let loss = cross_entropy(&logits, &batch.labels, self.settings.smoothing)?;
        let mut parameters = self.supernet.trainable_mut(path);
        let values: Vec<&Tensor> = parameters.iter().map(|parameter| &parameter.value).collect();
        let gradients = Tensor::f_run_backward(&[&loss], &values, false, false)?;
        Sgd::default().step(&mut parameters, &gradients, lr)?;
        Ok((loss.f_double_value(&[])?, accuracy(&logits, &batch.labels)?))
    }

    /// Draws two candidates everywhere and updates their gates, by how much each lowers the loss on a batch of the
    /// validation images and by what each costs on the device.
    ///
    /// With the gradient dL/dy behind a decision in hand, `g_j = sum(o_j dL/dy)` for both candidates' outputs o_j;
    /// the inactive one's is computed without a graph, one decision after the other. Then
    /// `dL/dalpha_i = sum_j g_j q_j (delta_ij - q_i)`, plus latency's share.
    pub fn gate_step(&mut self, batch: &Batch) -> Result<(), SearchError> {
        let pairs = self.gates.sample_pairs(&mut self.gate_rng);
        let path = Path(pairs.iter().map(|pair| pair.map_or(0, |pair| pair.active)).collect());
        let trace = self.supernet.trace(&path, &batch.images)?;
        let ce = cross_entropy(&trace.logits, &batch.labels, 0.0)?;
        let slopes = Tensor::f_run_backward(&[&ce], &trace.outputs, false, false)?;
        let (expected, by_latency) = expected_latency_of_pairs(&pairs, &self.costs);
        let target = self.settings.target_ms;
        let lambda = self.constraint.weight(self.held_ms(), self.limit_ms());
        let (_, by_ce, by_expected) = self.settings.loss.apply(ce.f_double_value(&[])?, expected, target, lambda)?;
        let mut gradients = Vec::with_capacity(pairs.len());
        for (decision, pair) in pairs.iter().enumerate() {
            let Some(pair) = pair else {
                gradients.push((0.0, 0.0));
                continue;
            };
            let other =
                no_grad(|| self.supernet.candidate(decision, pair.other, &trace.inputs[decision], Mode::Probe))?;
            let gate = |output: &Tensor| output.f_detach()?.f_mul(&slopes[decision])?.f_sum(None)?.f_double_value(&[]);
            let (g, h) = (gate(&trace.outputs[decision])?, gate(&other)?);
            // sum_j g_j q_j (delta_ij - q_i) for two: q_a q_b (g_a - g_b), and its negative.
            let by_gate = pair.q.0 * pair.q.1 * (g - h);
            let latency = by_latency[decision];
            gradients.push((by_ce * by_gate + by_expected * latency.0, -by_ce * by_gate + by_expected * latency.1));
        }
        self.gates.step(&pairs, &gradients, self.settings.alpha_lr);
        self.constraint.follow(self.held_ms(), self.limit_ms());
        Ok(())
    }

    /// How much of the search behind the warm-up is done, 0 to 1.
    fn progress(&self) -> f64 {
        let warmup = self.settings.warmup_epochs * self.train.steps_per_epoch();
        self.step.saturating_sub(warmup) as f64 / self.total_steps().saturating_sub(warmup).max(1) as f64
    }

    /// The latency that the constraint's weight holds at its limit: the expected latency at first, that of the most
    /// probable network at last, in between a mean of both. It's the network that must meet the target, and while gates
    /// are undecided it may be far from what they expect.
    fn held_ms(&self) -> f64 {
        let progress = self.progress();
        (1.0 - progress) * self.expected_ms() + progress * self.most_probable_ms()
    }

    fn expected_ms(&self) -> f64 {
        mean_latency(&self.gates.probabilities(), &self.costs)
    }

    fn most_probable_ms(&self) -> f64 {
        // None only where there is nothing to decide.
        self.gates.most_probable().map_or(self.costs.constant_ms, |network| self.costs.latency_ms(&network))
    }

    /// The limit: it comes down from the latency of undecided gates to the target, lest every block be cut alike before
    /// the gates have learned which of them matter.
    fn limit_ms(&self) -> f64 {
        let (target, undecided) = (self.settings.target_ms, self.costs.mean_ms());
        let down = (self.progress() / TIGHTENING).min(1.0);
        target + (undecided - target).max(0.0) * (1.0 - down)
    }

    fn record(&mut self, loss: f64, correct: f64, warming: bool) {
        self.sums.steps += 1;
        self.sums.loss += loss;
        self.sums.correct += correct;
        let every = self.total_steps().div_ceil(CURVE_POINTS).max(1);
        if self.step.is_multiple_of(every) || self.step == self.total_steps() {
            let steps = self.sums.steps as f64;
            self.curve.push(SearchPoint {
                step: self.step,
                epoch: self.step as f64 / self.train.steps_per_epoch() as f64,
                phase: if warming { "warm-up" } else { "search" }.to_owned(),
                loss: self.sums.loss / steps,
                accuracy_percent: 100.0 * self.sums.correct / steps,
                expected_ms: self.expected_ms(),
                most_probable_ms: self.most_probable_ms(),
                entropy: self.gates.entropy(),
                lambda: self.constraint.lambda,
            });
            self.sums = Sums::default();
        }
    }

    /// The result bettered by single exchanges, judged on this many validation images; 0 leaves it as it is. `watch` is told of every exchange.
    pub fn refined(&self, images: usize, watch: &mut dyn FnMut(&str)) -> Result<Found, SearchError> {
        let mut found = self.found()?;
        let mut judges = self.validation.source().clone();
        judges.indices = Arc::new(judges.indices.iter().copied().take(images).collect());
        let batches = judges.in_order(JUDGE_BATCH).collect::<Result<Vec<Batch>, _>>()?;
        if !batches.is_empty() {
            let judge = Judge::new(&self.supernet, &self.costs, batches);
            found.architecture = judge.refine(&found.architecture, self.settings.target_ms, watch)?;
            found.predicted_ms = self.costs.latency_ms(&found.architecture);
        }
        Ok(found)
    }

    /// The networks of the last stage: `first`, and others by what the gates learned. See [`draw_finalists`].
    pub fn finalists(&self, first: &Architecture, count: usize) -> Vec<Architecture> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.settings.seed);
        rng.set_stream(3);
        draw_finalists(first, count, &self.gates, (&self.costs, self.settings.target_ms), &mut rng)
    }

    /// The search's own split of the training images: what weights learned from, and, as test images, what gates learned
    /// from.
    pub fn split(&self) -> Dataset {
        let subset = |source: &Source| Arc::new(source.images.subset(&source.indices));
        let name = self.space.name().to_owned();
        Dataset { name, train: subset(self.train.source()), test: subset(self.validation.source()) }
    }

    /// How finalists are trained: as the weights of the warm-up are, within this many epochs. Their seed isn't the search's,
    /// lest luck with one seed be chosen and a training by that seed then profit from it.
    pub fn finalist_recipe(&self, epochs: usize) -> Recipe {
        let settings = &self.settings;
        Recipe {
            epochs,
            rise_epochs: FINALIST_RISE * epochs as f64,
            batch: settings.batch,
            train_images: settings.train_images,
            lr: settings.warmup_lr,
            smoothing: settings.smoothing,
            decay: Sgd::default().decay,
            decay_bn: Sgd::default().decay_bn,
            ema: None,
            mixup: None,
            cutmix: None,
            init: None,
            shift: settings.shift,
            flip: settings.flip,
            seed: settings.seed ^ FINALIST_SEED,
            channels_last: settings.channels_last,
        }
    }

    /// The curves so far.
    pub fn curve(&self) -> &[SearchPoint] {
        &self.curve
    }

    /// The result as it stands.
    pub fn found(&self) -> Result<Found, SearchError> {
        let settings = |what: &str| SearchError::Settings(what.to_owned());
        let most_probable = self.gates.most_probable().ok_or_else(|| settings("the space has no decisions"))?;
        let fitting = self.gates.most_probable_within(&self.costs, self.settings.target_ms);
        let architecture = fitting.ok_or_else(|| settings("no network meets the target"))?;
        let expected = expected_latency(&logit_tensors(self.gates.logits()), &self.costs)?;
        Ok(Found {
            predicted_ms: self.costs.latency_ms(&architecture),
            architecture,
            most_probable,
            expected_ms: expected.f_double_value(&[])?,
            probabilities: self.gates.probabilities(),
            curve: self.curve.clone(),
            lambda: self.constraint.lambda,
        })
    }

    fn state(&self) -> State {
        let (squares, steps) = self.gates.adam();
        State {
            settings: self.settings.clone(),
            space: self.space.signature(),
            dataset: self.dataset.clone(),
            costs: self.costs.clone(),
            step: self.step,
            lambda: self.constraint.lambda,
            alpha: self.gates.logits().to_vec(),
            adam_squares: squares.to_vec(),
            adam_steps: steps,
            gate_rng: RngState::of(&self.gate_rng),
            sums: self.sums,
            curve: self.curve.clone(),
        }
    }

    fn checkpoint(&self) -> Result<Checkpoint, SearchError> {
        let mut checkpoint = Checkpoint::after(self.seconds());
        self.supernet.modules().try_for_each(|(name, module)| checkpoint.add(&name, module))?;
        Ok(checkpoint)
    }

    /// Goes on from a folder's checkpoint, which must belong to the same settings, space and costs.
    pub fn restore(&mut self, folder: &FilePath) -> Result<(), SearchError> {
        let path = checkpoint_path(folder);
        let broken = |what: &str| SearchError::Checkpoint { path: path.clone(), what: what.to_owned() };
        let (checkpoint, state) = Checkpoint::read::<State>(&path)?;
        let ours = self.state();
        let differing = [
            ("other settings", state.settings != ours.settings),
            ("another space", state.space != ours.space),
            ("another data set", state.dataset != ours.dataset),
            ("another table", state.costs != ours.costs),
        ];
        if let Some(difference) = difference(&differing) {
            return Err(broken(&format!("it belongs to {difference}")));
        }
        for (name, module) in self.supernet.modules_mut() {
            checkpoint.restore(&name, module)?;
        }
        self.gate_rng = state.gate_rng.generator().ok_or_else(|| broken("its random state can't be read"))?;
        self.gates = Gates::restore(state.alpha, state.adam_squares, state.adam_steps);
        self.constraint.lambda = state.lambda;
        (self.step, self.sums, self.curve) = (state.step, state.sums, state.curve);
        self.stopwatch = Stopwatch::after(checkpoint.seconds);
        self.train.rewind();
        self.validation.rewind();
        Ok(())
    }

    /// SHA-256 over weights, BN's statistics, momentum, gates, Adam, lambda and random state.
    pub fn hash(&self) -> Result<String, SearchError> {
        Ok(self.checkpoint()?.hash(&self.state()))
    }
}

impl Learning for Search {
    fn total_steps(&self) -> usize {
        (self.settings.warmup_epochs + self.settings.search_epochs) * self.train.steps_per_epoch()
    }

    fn step(&self) -> usize {
        self.step
    }

    fn seconds(&self) -> f64 {
        self.stopwatch.seconds()
    }

    /// One weight step, and a gate step where it is due.
    fn advance(&mut self, folder: &FilePath) -> Result<(), SearchError> {
        let warmup = self.settings.warmup_epochs * self.train.steps_per_epoch();
        let warming = self.step < warmup;
        let lr = if warming {
            cosine(self.step, warmup, 0, self.settings.warmup_lr)
        } else {
            cosine(self.step - warmup, self.total_steps() - warmup, 0, self.settings.search_lr)
        };
        let batch = self.train.batch(self.step)?;
        let alone = self.settings.inherit_after * self.train.steps_per_epoch();
        let (loss, correct) = if self.step < alone {
            let path = self.supernet.sample_seeds(&mut self.gate_rng);
            self.learn(&path, &batch, lr)?
        } else {
            if self.step == alone && alone > 0 {
                self.supernet.inherit()?;
            }
            self.weight_step(&batch, lr)?
        };
        self.step += 1;
        if !loss.is_finite() {
            return Err(SearchError::diverged(loss, self.step, lr, folder));
        }
        if !warming && (self.step - warmup).is_multiple_of(self.settings.weight_steps) {
            let batch = self.validation.batch((self.step - warmup) / self.settings.weight_steps - 1)?;
            self.gate_step(&batch)?;
        }
        self.record(loss, correct, warming);
        Ok(())
    }

    fn save(&self, folder: &FilePath) -> Result<(), SearchError> {
        self.checkpoint()?.write(&checkpoint_path(folder), &self.state())
    }
}

/// Training and validation images, drawn from the training set without overlap.
fn split(dataset: &Dataset, settings: &SearchSettings, layout: Layout) -> Result<(Source, Source), SearchError> {
    let wanted = settings.train_images + settings.validation_images;
    let too_few = settings.train_images < settings.batch || settings.validation_images < settings.gate_batch;
    if too_few || wanted > dataset.train.len() {
        return Err(SearchError::Settings(format!(
            "{} training images in batches of {} and {} validation images in batches of {}, of a set of {}: each needs \
             at least a batch, both together at most the set",
            settings.train_images,
            settings.batch,
            settings.validation_images,
            settings.gate_batch,
            dataset.train.len()
        )));
    }
    let mut order: Vec<usize> = (0..dataset.train.len()).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
    rng.set_stream(2);
    order.shuffle(&mut rng);
    let images = Arc::clone(&dataset.train);
    let statistics = channel_statistics(&images);
    let source = |indices: &[usize]| Source {
        images: Arc::clone(&images),
        indices: Arc::new(indices.to_vec()),
        statistics: statistics.clone(),
        layout,
    };
    let (train, rest) = order.split_at(settings.train_images);
    Ok((source(train), source(&rest[..settings.validation_images])))
}
