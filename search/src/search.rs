//! The search: weights and architecture parameters learn in turn, on the task and against the device's limits.

mod begin;
mod others;
mod outcome;
mod saved;

use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Instant;

use fleetfoot_space::SearchSpace;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tch::{Tensor, no_grad};

use crate::batches::{Batch, Feed};
use crate::compute::Compute;
use crate::error::SearchError;
use crate::gate_gradient::{
    GateUpdate, by_all_gates, by_reinforce, by_two_paths, mean_of_gates, mean_of_pairs, through_softmax,
};
use crate::gates::{Cut, Gates, Path};
use crate::group::Group;
use crate::latency::{LatencyLoss, expectation_of_pairs};
use crate::learn::{Backward, check_parts, check_statistics, learn};
use crate::learning::{Account, Learning, Stopwatch, checkpoint_path};
use crate::limits::{Bound, Limits};
use crate::loss::{Criterion, CrossEntropy};
use crate::mixing::Targets;
use crate::module::{Mode, Module};
use crate::optimizer::{Sgd, cosine};
use crate::placement::Placement;
use crate::settings::{GatePoint, SearchPoint, SearchSettings};
use crate::supernet::Supernet;
use fleetfoot_dataset::{Dataset, Split};

use begin::{FROZEN, check, gate_steps, split};
pub use others::FrontPoint;
pub use outcome::{Found, Reached};

/// Sums since the last point of the curve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Sums {
    steps: usize,
    loss: f64,
    correct: f64,
}

/// Points of the curve, about.
const CURVE_POINTS: usize = 150;
/// Share of the search in which limits go from what undecided gates expect to the targets.
const TIGHTENING: f64 = 0.3;
/// Share of the gate steps for which a candidate must have been improbable before it is cut.
const PATIENCE: f64 = 0.05;
/// Networks of a step by REINFORCE, and how much of its baseline is the last step's mean reward: the authors'.
const NETWORKS: usize = 10;
const FRESH: f64 = 0.1;
/// Exponent of the reward's latency factor: the authors'.
const REWARD_EXPONENT: f64 = 0.1;
/// Sets the order of the gates' batches apart from that of the weights'.
const GATE_SEED: u64 = 0xa1fa;

/// A search in progress.
#[derive(Debug)]
pub struct Search {
    space: SearchSpace,
    dataset: String,
    limits: Limits,
    settings: SearchSettings,
    criterion: Arc<dyn Criterion>,
    recompute: bool,
    group: Arc<Group>,
    supernet: Supernet,
    gates: Gates,
    lambda: Vec<f64>,
    /// Mean reward of REINFORCE so far.
    baseline: Option<f64>,
    train: Feed,
    validation: Feed,
    gate_rng: ChaCha8Rng,
    step: usize,
    sums: Sums,
    curve: Vec<SearchPoint>,
    history: Vec<GatePoint>,
    cuts: Vec<Cut>,
    stopwatch: Stopwatch,
}

impl Search {
    /// Starts a search on the CPU; the space must take the data set's images.
    pub fn new(
        space: &SearchSpace,
        limits: Limits,
        dataset: &Dataset,
        settings: SearchSettings,
    ) -> Result<Self, SearchError> {
        Self::on(Compute::Cpu, space, limits, dataset, settings)
    }

    /// Starts a search on what computes, which is [ready](Compute::prepare).
    pub fn on(
        compute: Compute,
        space: &SearchSpace,
        limits: Limits,
        dataset: &Dataset,
        settings: SearchSettings,
    ) -> Result<Self, SearchError> {
        crate::train::check_images(space, dataset)?;
        check(&limits, &settings)?;
        let placement = Placement::new(settings.channels_last, settings.amp, compute);
        let (train, validation) = split(dataset, &settings, placement)?;
        let train = Feed::new(train, settings.seed, settings.batch, Some(settings.augmentation()));
        let epochs = [settings.warmup_epochs, settings.search_epochs];
        let [warmup, search] = epochs.map(|epochs| epochs.saturating_mul(train.steps_per_epoch()));
        let gate_steps = gate_steps(search, &settings);
        if gate_steps == 0 {
            return Err(SearchError::Settings(format!(
                "gates learn after every {} of {search} steps, which is never: raise --search-epochs or lower --weight-steps or --batch",
                settings.weight_steps
            )));
        }
        let validation = Feed::new(validation, settings.seed ^ GATE_SEED, settings.gate_batch, None);
        let mut gate_rng = ChaCha8Rng::seed_from_u64(settings.seed);
        gate_rng.set_stream(1);
        let supernet = Supernet::new(space, settings.seed, placement)?;
        let lambda = vec![settings.lambda.unwrap_or(LatencyLoss::LAMBDA); limits.iter().len()];
        let search = Self {
            supernet,
            gates: Gates::new(space, &mut gate_rng),
            space: space.clone(),
            dataset: dataset.fingerprint(),
            lambda,
            limits,
            baseline: None,
            train: train.until(warmup.saturating_add(search)),
            validation: validation.until(gate_steps),
            settings,
            criterion: Arc::new(CrossEntropy),
            recompute: false,
            group: Arc::default(),
            gate_rng,
            step: 0,
            sums: Sums::default(),
            curve: Vec::new(),
            history: Vec::new(),
            cuts: Vec::new(),
            stopwatch: Stopwatch::default(),
        };
        search.check_batches()?;
        Ok(search)
    }

    /// Searches together with other ranks: each computes its share of every batch, of the weights and of the gates, and all
    /// learn the same.
    pub fn among(mut self, group: Arc<Group>) -> Result<Self, SearchError> {
        (self.train, self.validation) = (self.train.share(&group), self.validation.share(&group));
        self.group = group;
        self.check_batches()?;
        Ok(self)
    }

    /// Whether ranks can share the batches, and batch normalisation has values to go by in each share.
    fn check_batches(&self) -> Result<(), SearchError> {
        let (settings, group) = (&self.settings, &self.group);
        let networks = || self.supernet.modules().map(|(_, module)| module.network());
        let share = group.share(settings.batch, "--batch")?;
        check_parts(settings.accumulate, share)?;
        check_statistics(networks(), share / settings.accumulate, "--batch and --accumulate")?;
        check_statistics(networks(), group.share(settings.gate_batch, "--gate-batch")?, "--gate-batch")
    }

    /// Learns and judges by another loss and its score than by cross entropy and accuracy.
    pub fn with_criterion(self, criterion: Arc<dyn Criterion>) -> Self {
        Self { criterion, ..self }
    }

    /// Computes each block a second time where its gradients are due, instead of keeping what they need
    /// ([`Backward::recompute`]). The search is the same, bit by bit, and so this may change wherever it is gone on with.
    pub fn recomputing(self, recompute: bool) -> Self {
        Self { recompute, ..self }
    }

    /// The gates.
    pub fn gates(&self) -> &Gates {
        &self.gates
    }

    /// What the network may need.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The space.
    pub fn space(&self) -> &SearchSpace {
        &self.space
    }

    /// What is learned and judged by.
    pub fn criterion(&self) -> &Arc<dyn Criterion> {
        &self.criterion
    }

    /// The settings.
    pub fn settings(&self) -> &SearchSettings {
        &self.settings
    }

    /// Learning rate of the weights in the last step.
    pub fn lr(&self) -> f64 {
        self.lr_at(self.step.saturating_sub(1))
    }

    fn lr_at(&self, step: usize) -> f64 {
        match step.checked_sub(self.warmup_steps()) {
            None => cosine(step, self.warmup_steps(), 0, self.settings.warmup_lr),
            Some(step) => cosine(step, self.search_steps(), 0, self.settings.search_lr),
        }
    }

    /// The data set's [fingerprint](Dataset::fingerprint).
    pub fn fingerprint(&self) -> &str {
        &self.dataset
    }

    /// What computes.
    pub fn compute(&self) -> Compute {
        self.train.source().placement.compute
    }

    /// The supernet.
    pub fn supernet(&self) -> &Supernet {
        &self.supernet
    }

    /// Draws a path and updates its weights: the loss, and the mean score (the share of right answers).
    pub fn weight_step(&mut self, batch: &Batch, lr: f64) -> Result<(f64, f64), SearchError> {
        let path = self.gates.sample_path(&mut self.gate_rng);
        self.learn(&path, batch, lr)
    }

    fn learn(&mut self, path: &Path, batch: &Batch, lr: f64) -> Result<(f64, f64), SearchError> {
        let settings = &self.settings;
        let how = Backward {
            criterion: &*self.criterion,
            smoothing: settings.smoothing,
            recompute: self.recompute,
            parts: settings.accumulate,
            group: &self.group,
        };
        let mut update = |module: &mut Module, gradients: &[Tensor]| Sgd::default().update(module, gradients, lr);
        let targets = batch.labels.shallow_clone().into();
        let learned = learn(&mut self.supernet.chain(path), &batch.images, &targets, how, &mut update)?;
        Ok((learned.loss, learned.score))
    }

    /// Updates the gates by how much candidates lower the loss on a batch of the validation images and by what they need of
    /// what is limited; then holds what they expect at the limits. The weights stay as they are.
    pub fn gate_step(&mut self, batch: &Batch) -> Result<(), SearchError> {
        match self.settings.gate_update {
            GateUpdate::TwoPaths => {
                let pairs = self.gates.sample_pairs(&mut self.gate_rng);
                let (task, by_gates) = by_two_paths(&self.supernet, &self.gates, &pairs, batch, &*self.criterion)?;
                let (task, by_gates) = mean_of_pairs(&self.group, task, by_gates)?;
                let expectations: Vec<_> =
                    self.limits.iter().map(|limit| expectation_of_pairs(&limit.demand, &self.gates, &pairs)).collect();
                let expected: Vec<f64> = expectations.iter().map(|(expected, _)| *expected).collect();
                let (by_task, by_amount) = self.slopes(task, &expected)?;
                self.check_gates(task, by_gates.iter().map(|pair| pair.0))?;
                let mut gradients: Vec<(f64, f64)> = by_gates.iter().map(|g| (by_task * g.0, by_task * g.1)).collect();
                for ((_, rows), slope) in expectations.iter().zip(&by_amount) {
                    for (gradient, row) in gradients.iter_mut().zip(rows) {
                        *gradient = (gradient.0 + slope * row.0, gradient.1 + slope * row.1);
                    }
                }
                self.gates.step_pairs(&pairs, &gradients, self.settings.alpha_lr);
            }
            GateUpdate::AllGates => {
                let path = self.gates.sample_path(&mut self.gate_rng);
                let (task, gradients) = by_all_gates(&self.supernet, &self.gates, &path, batch, &*self.criterion)?;
                let (task, mut gradients) = mean_of_gates(&self.group, task, gradients)?;
                let p = self.gates.probabilities();
                let expectations: Vec<_> = self.limits.iter().map(|limit| limit.demand.expectation(&p)).collect();
                let expected: Vec<f64> = expectations.iter().map(|(expected, _)| *expected).collect();
                let (by_task, by_amount) = self.slopes(task, &expected)?;
                self.check_gates(task, gradients.iter().flatten().copied())?;
                gradients.iter_mut().flatten().for_each(|gradient| *gradient *= by_task);
                for ((_, rows), slope) in expectations.iter().zip(&by_amount) {
                    for ((gradients, row), p) in gradients.iter_mut().zip(rows).zip(&p) {
                        let through = through_softmax(p, row);
                        gradients.iter_mut().zip(through).for_each(|(gradient, row)| *gradient += slope * row);
                    }
                }
                self.gates.step(&gradients, self.settings.alpha_lr);
            }
            GateUpdate::Reinforce => self.reinforce(batch)?,
        }
        self.hold();
        self.prune();
        Ok(())
    }

    /// Rewards are `accuracy * product over the limits of (limit / amount)^0.1`, or of the score that is in accuracy's place.
    fn reinforce(&mut self, batch: &Batch) -> Result<(), SearchError> {
        let (supernet, limits, group) = (&self.supernet, &self.limits, &self.group);
        let labels = Targets::from(batch.labels.shallow_clone());
        let mut reward = |path: &Path| {
            let logits = no_grad(|| supernet.forward(path, &batch.images, Mode::Probe))?;
            let drawn = fleetfoot_space::Architecture::new(path.0.clone());
            let shares = limits
                .iter()
                .zip(std::iter::repeat(&drawn))
                .filter_map(|(limit, drawn)| Some(limit.at_most / limit.demand.of(drawn.as_ref()?)));
            let factor: f64 = shares.map(|share| share.powf(REWARD_EXPONENT)).product();
            let mut score = [labels.score(&*self.criterion, &logits)? / labels.images()? as f64];
            group.mean(&mut score)?;
            Ok(score[0] * factor)
        };
        let (mean, gradients) = by_reinforce(&self.gates, NETWORKS, self.baseline, &mut self.gate_rng, &mut reward)?;
        self.check_gates(mean, gradients.iter().flatten().copied())?;
        self.baseline = Some(self.baseline.map_or(mean, |baseline| baseline + FRESH * (mean - baseline)));
        self.gates.step(&gradients, self.settings.alpha_lr);
        Ok(())
    }

    /// What gates would learn from must be numbers: nothing could be saved or told behind that.
    fn check_gates(&self, loss: f64, mut gradients: impl Iterator<Item = f64>) -> Result<(), SearchError> {
        if loss.is_finite() && gradients.all(f64::is_finite) {
            return Ok(());
        }
        Err(SearchError::GateLoss { step: self.step })
    }

    /// Derivatives of the gates' loss by the task's and by every limit's expected amount.
    fn slopes(&self, task: f64, expected: &[f64]) -> Result<(f64, Vec<f64>), SearchError> {
        match self.settings.loss {
            LatencyLoss::MulLog => {
                let (_, by_task, by_expected) =
                    LatencyLoss::MulLog.apply(task, expected[0], self.limits.first().at_most, 0.0)?;
                Ok((by_task, vec![by_expected]))
            }
            LatencyLoss::AddLinear => {
                Ok((1.0, self.limits.iter().zip(&self.lambda).map(|(limit, lambda)| lambda / limit.at_most).collect()))
            }
        }
    }

    /// Projects the gates onto the limits as they are at this step, and lets the multipliers follow what that took.
    fn hold(&mut self) {
        if self.settings.soft {
            return;
        }
        let limits = self.limits_now();
        let overshoot = self.limits.project(&mut self.gates, &limits);
        if self.settings.lambda.is_none() {
            let followed = self.lambda.iter_mut().zip(overshoot);
            followed.for_each(|(lambda, overshoot)| *lambda = (*lambda + overshoot).max(0.0));
        }
    }

    /// Cuts what has long been improbable, as far as the limits can be met and reached without it.
    fn prune(&mut self) {
        if self.settings.cut_below <= 0.0 {
            return;
        }
        let patience = (PATIENCE * self.gate_steps() as f64).ceil() as u64;
        let (limits, soft) = (&self.limits, self.settings.soft);
        let reachable = limits.can_be_reached(self.gates.live());
        let needed =
            |live: &[Vec<bool>]| !limits.can_be_met(live) || (reachable && !soft && !limits.can_be_reached(live));
        let cut = self.gates.cut(self.settings.cut_below, patience, needed);
        for &(decision, candidate) in &cut {
            self.supernet.cut(decision, candidate);
            self.cuts.push(Cut { step: self.step, decision, candidate });
        }
        if !cut.is_empty() {
            // What is left shares the probability of what is gone.
            let now = self.limits_now();
            if !soft {
                self.limits.project(&mut self.gates, &now);
            }
        }
    }

    fn warmup_steps(&self) -> usize {
        self.settings.warmup_epochs.saturating_mul(self.train.steps_per_epoch())
    }

    fn gate_steps(&self) -> usize {
        gate_steps(self.search_steps(), &self.settings)
    }

    fn search_steps(&self) -> usize {
        self.total_steps().saturating_sub(self.warmup_steps())
    }

    /// How much of the search behind the warm-up is done, 0 to 1.
    fn progress(&self) -> f64 {
        self.step.saturating_sub(self.warmup_steps()) as f64 / self.search_steps().max(1) as f64
    }

    /// The limits at this step: they go from what undecided gates expect to the targets, lest every block be cut alike
    /// before the gates have learned which of them matter. Beside a target, caps that undecided gates keep stay where they are.
    fn limits_now(&self) -> Vec<f64> {
        let even: Vec<Vec<f64>> =
            self.gates.logits().iter().map(|row| vec![1.0 / row.len() as f64; row.len()]).collect();
        let left = 1.0 - (self.progress() / TIGHTENING).min(1.0);
        let caps = self.limits.iter().all(|limit| limit.bound == Bound::Cap);
        let now = self.limits.iter().zip(self.limits.expected(&even)).map(|(limit, undecided)| {
            let above = undecided - limit.at_most;
            limit.at_most + left * if limit.bound == Bound::Cap && !caps { above.max(0.0) } else { above }
        });
        now.collect()
    }

    fn record(&mut self, loss: f64, correct: f64, warming: bool) {
        self.sums.steps += 1;
        self.sums.loss += loss;
        self.sums.correct += correct;
        let every = self.total_steps().div_ceil(CURVE_POINTS).max(1);
        if !self.step.is_multiple_of(every) && self.step != self.total_steps() {
            return;
        }
        let steps = self.sums.steps as f64;
        let probabilities = self.gates.probabilities();
        let expected = self.limits.expected(&probabilities);
        let first = &self.limits.first().demand;
        self.curve.push(SearchPoint {
            step: self.step,
            epoch: self.step as f64 / self.train.steps_per_epoch() as f64,
            phase: if warming { "warm-up" } else { "search" }.to_owned(),
            loss: self.sums.loss / steps,
            accuracy_percent: 100.0 * self.sums.correct / steps,
            expected_ms: expected[0],
            most_probable_ms: self.gates.most_probable().map_or(expected[0], |network| first.of(&network)),
            entropy: self.gates.entropy(),
            lambda: self.lambda[0],
            candidates: self.gates.live().iter().flatten().filter(|live| **live).count(),
        });
        self.history.push(GatePoint {
            step: self.step,
            probabilities,
            expected,
            limits: if warming { self.limits.amounts() } else { self.limits_now() },
            lambda: self.lambda.clone(),
        });
        self.sums = Sums::default();
    }

    /// The curves so far.
    pub fn curve(&self) -> &[SearchPoint] {
        &self.curve
    }

    /// The gates at the points of the curves.
    pub fn history(&self) -> &[GatePoint] {
        &self.history
    }

    /// The candidates that were cut so far.
    pub fn cuts(&self) -> &[Cut] {
        &self.cuts
    }
}

impl Learning for Search {
    fn total_steps(&self) -> usize {
        let epochs = self.settings.warmup_epochs.saturating_add(self.settings.search_epochs);
        epochs.saturating_mul(self.train.steps_per_epoch())
    }

    fn step(&self) -> usize {
        self.step
    }

    fn seconds(&self) -> f64 {
        self.stopwatch.seconds()
    }

    fn account(&self) -> Account {
        self.stopwatch.account(&[&self.train, &self.validation], self.group.size())
    }

    fn group(&self) -> &Arc<Group> {
        &self.group
    }

    fn images(&self) -> &Split {
        &self.train.source().images
    }

    fn level(&mut self) -> Result<(), SearchError> {
        let parameters = self.supernet.modules().flat_map(|(_, module)| module.parameters());
        let statistics = parameters.filter(|parameter| !parameter.trainable).map(|parameter| &parameter.value);
        self.group.copy_first(&statistics.collect::<Vec<_>>())
    }

    /// One weight step, and a gate step where it is due.
    fn advance(&mut self, folder: &FilePath) -> Result<(), SearchError> {
        let warmup = self.warmup_steps();
        let warming = self.step < warmup;
        let lr = self.lr_at(self.step);
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
        let thawed = self.step.saturating_sub(warmup + self.search_steps() / FROZEN);
        if thawed > 0 && thawed.is_multiple_of(self.settings.weight_steps) {
            let batch = self.validation.batch(thawed / self.settings.weight_steps - 1)?;
            // Not the rest of the weight step, which a GPU may still be at.
            self.compute().synchronize();
            let start = Instant::now();
            self.gate_step(&batch)?;
            self.compute().synchronize();
            self.stopwatch.add_gates(start.elapsed().as_secs_f64());
        }
        self.record(loss, correct, warming);
        Ok(())
    }

    fn save(&self, folder: &FilePath) -> Result<(), SearchError> {
        self.checkpoint()?.write(&checkpoint_path(folder), &self.state())
    }
}
