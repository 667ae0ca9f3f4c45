//! How a network is trained.

use serde::{Deserialize, Serialize};

use crate::learn::whole;
use crate::optimizer::Sgd;
use fleetfoot_dataset::{Augmentation, Jitter};

/// The recipe. Networks that are to be compared are trained by one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Epochs.
    pub epochs: usize,
    /// Epochs of them in which the learning rate rises.
    pub rise_epochs: f64,
    /// Images of a step.
    pub batch: usize,
    /// Parts that a step's batch is computed in, one after the other; their gradients are averaged. Batch normalisation sees
    /// one part at a time.
    #[serde(default = "whole")]
    pub accumulate: usize,
    /// Images of the training set that are used; the rest is left out.
    pub train_images: usize,
    /// Peak learning rate.
    pub lr: f64,
    /// Label smoothing (Szegedy et al., CVPR 2016).
    pub smoothing: f64,
    /// Weight decay.
    #[serde(default = "default_decay")]
    pub decay: f64,
    /// Whether BN's weights and biases decay, too.
    #[serde(default = "default_decay_bn")]
    pub decay_bn: bool,
    /// Decay of the weights' moving [`Average`](crate::Average); without one, the weights of the last step are the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<f64>,
    /// α of mixup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mixup: Option<f64>,
    /// α of CutMix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cutmix: Option<f64>,
    /// Which weights it starts from, where not from random ones ([`Training::start_from`](crate::Training::start_from) says it).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<Init>,
    /// Largest shift of an image in pixels.
    pub shift: usize,
    /// Whether images are mirrored at random.
    pub flip: bool,
    /// Random-resized crops: the least share of an image's area; none: no such crops.
    #[serde(default)]
    pub crop: Option<f64>,
    /// Changes of colour.
    #[serde(default)]
    pub jitter: Jitter,
    /// Seed of weights, order and augmentation.
    pub seed: u64,
    /// Memory order: `channels-last` or `nchw`.
    pub channels_last: bool,
    /// Learns in [mixed precision](crate::Placement::amp).
    #[serde(default)]
    pub amp: bool,
}

impl Default for Recipe {
    /// The command line's defaults for small images. How many images there are to learn from is to be filled in.
    fn default() -> Self {
        let Sgd { decay, decay_bn, .. } = Sgd::default();
        Self {
            epochs: 30,
            rise_epochs: 1.0,
            batch: 128,
            accumulate: whole(),
            train_images: 0,
            lr: 0.1,
            smoothing: 0.1,
            decay,
            decay_bn,
            ema: None,
            mixup: None,
            cutmix: None,
            init: None,
            shift: 2,
            flip: true,
            crop: None,
            jitter: Jitter::NONE,
            seed: 0,
            channels_last: true,
            amp: false,
        }
    }
}

impl Recipe {
    /// What is done to training images at random.
    pub fn augmentation(&self) -> Augmentation {
        let Self { shift, flip, crop, jitter, .. } = *self;
        Augmentation { shift, flip, crop, jitter }
    }
}

/// Weights that a training started from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Init {
    /// SHA-256 over the tensors with their names and extents.
    pub sha256: String,
    /// Whether the classifier started at random all the same.
    pub new_classifier: bool,
}

/// What every training had before it could be chosen.
fn default_decay() -> f64 {
    Sgd::default().decay
}

fn default_decay_bn() -> bool {
    Sgd::default().decay_bn
}
