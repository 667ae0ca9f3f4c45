//! What goes into a search and what is logged on its way.

use serde::{Deserialize, Serialize};

use crate::gate_gradient::GateUpdate;
use crate::latency::LatencyLoss;
use crate::learn::whole;
use fleetfoot_dataset::{Augmentation, Jitter};

/// The settings of a search. Equal settings, limits and seed give the same search on the same number of threads of the same
/// processor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchSettings {
    /// Epochs in which only weights learn, along paths drawn by the untrained gates.
    pub warmup_epochs: usize,
    /// Epochs in which gates learn, too.
    pub search_epochs: usize,
    /// Epochs of the warm-up in which only the [seeds](crate::Supernet::sample_seeds) learn; then the others inherit
    /// their weights ([`Supernet::inherit`](crate::Supernet::inherit)). With 0, all learn from the start, each from its own random weights.
    pub inherit_after: usize,
    /// Images of a step.
    pub batch: usize,
    /// Parts that a step's batch is computed in, one after the other; their gradients are averaged. Batch normalisation sees
    /// one part at a time.
    #[serde(default = "whole")]
    pub accumulate: usize,
    /// Images of a gate step: more of them, less noise in the gates' gradients.
    pub gate_batch: usize,
    /// Images that weights learn from.
    pub train_images: usize,
    /// Images, of the training set too, that gates learn from.
    pub validation_images: usize,
    /// Peak learning rate of the weights in the warm-up and in the search.
    pub warmup_lr: f64,
    /// See `warmup_lr`.
    pub search_lr: f64,
    /// Learning rate of the gates.
    pub alpha_lr: f64,
    /// Weight steps for one gate step.
    pub weight_steps: usize,
    /// How the gates' gradients are estimated.
    #[serde(default)]
    pub gate_update: GateUpdate,
    /// How what is limited enters the gates' loss.
    pub loss: LatencyLoss,
    /// Its weight in `add#linear`; none: a multiplier for each limit follows how far expectations go beyond it (dual
    /// ascent).
    #[serde(default)]
    pub lambda: Option<f64>,
    /// Leaves the limits to the loss alone while gates learn, as the paper does; otherwise the gates are projected onto them
    /// behind every step.
    #[serde(default)]
    pub soft: bool,
    /// Probability below which a candidate is cut once it has stayed there; 0: none is.
    #[serde(default)]
    pub cut_below: f64,
    /// Computes in [mixed precision](crate::Placement::amp).
    #[serde(default)]
    pub amp: bool,
    /// Label smoothing of weight steps.
    pub smoothing: f64,
    /// What is done to images of weight steps: largest shift, mirroring.
    pub shift: usize,
    /// See `shift`.
    pub flip: bool,
    /// See [`Augmentation`].
    #[serde(default)]
    pub crop: Option<f64>,
    /// See [`Augmentation`].
    #[serde(default)]
    pub jitter: Jitter,
    /// Seed of everything random.
    pub seed: u64,
    /// Memory order: `channels-last` or `nchw`.
    pub channels_last: bool,
}

impl Default for SearchSettings {
    /// The authors' schedule, with a hard target and cuts; 5000 validation images. How many images there are to learn from is
    /// to be filled in.
    fn default() -> Self {
        Self {
            warmup_epochs: 40,
            search_epochs: 120,
            inherit_after: 0,
            batch: 128,
            accumulate: 1,
            gate_batch: 128,
            train_images: 0,
            validation_images: 5000,
            warmup_lr: 0.05,
            search_lr: 0.025,
            alpha_lr: 1e-3,
            weight_steps: 5,
            gate_update: GateUpdate::TwoPaths,
            loss: LatencyLoss::AddLinear,
            lambda: None,
            soft: false,
            cut_below: 0.01,
            amp: false,
            smoothing: 0.1,
            shift: 0,
            flip: true,
            crop: None,
            jitter: Jitter::NONE,
            seed: 0,
            channels_last: true,
        }
    }
}

impl SearchSettings {
    /// What is done to images of weight steps at random.
    pub fn augmentation(&self) -> Augmentation {
        let Self { shift, flip, crop, jitter, .. } = *self;
        Augmentation { shift, flip, crop, jitter }
    }
}

/// A point of the search's curves, a mean over some steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchPoint {
    /// Weight steps so far.
    pub step: usize,
    /// Epochs so far.
    pub epoch: f64,
    /// `warm-up` or `search`.
    pub phase: String,
    /// Loss of weight steps.
    pub loss: f64,
    /// Accuracy of weight steps' paths on their batches, in percent.
    pub accuracy_percent: f64,
    /// Expected latency of the gates, in ms, or of what else is limited first.
    pub expected_ms: f64,
    /// The same of the most probable network.
    pub most_probable_ms: f64,
    /// Entropy of the gates, 0 to 1.
    pub entropy: f64,
    /// Weight of latency.
    pub lambda: f64,
    /// Candidates that weren't cut.
    #[serde(default)]
    pub candidates: usize,
}

/// The gates at a point of the curves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GatePoint {
    /// Weight steps so far.
    pub step: usize,
    /// Softmax of the gates: `[decision][candidate]`.
    pub probabilities: Vec<Vec<f64>>,
    /// Expected amounts, one a limit.
    pub expected: Vec<f64>,
    /// Where the limits were at this point: they come down, or up, to the targets.
    pub limits: Vec<f64>,
    /// Multipliers, one a limit.
    pub lambda: Vec<f64>,
}
