//! What goes into a search and what is logged on its way.

use serde::{Deserialize, Serialize};

use crate::latency::{Constraint, LatencyLoss};
use fleetfoot_dataset::{Augmentation, Jitter};

/// The settings of a search. Equal settings and seed give the same search on the same number of threads.
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
    /// How latency enters.
    pub loss: LatencyLoss,
    /// Its weight.
    pub constraint: Constraint,
    /// The latency to meet, in ms.
    pub target_ms: f64,
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
    /// Expected latency of the gates, in ms.
    pub expected_ms: f64,
    /// Latency of the most probable network, in ms.
    pub most_probable_ms: f64,
    /// Entropy of the gates, 0 to 1.
    pub entropy: f64,
    /// Weight of latency.
    pub lambda: f64,
}
