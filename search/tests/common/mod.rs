//! A small space, noise to learn from, and settings of short searches.

#![allow(dead_code)] // not every test program uses all of it

use fleetfoot_predictor::CostMatrix;
use fleetfoot_search::{Classes, Criterion, Dataset, Images, Limit, Limits, SearchError, SearchSettings};
use fleetfoot_space::SearchSpace;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

/// A space that is small enough for exact comparisons.
pub const TINY: &str = r#"
name = "tiny"
classes = 4
input = { channels = 1, height = 12, width = 12 }
candidates = ["k3e2", "k5e1", "k3e3", "zero"]
stem = { channels = 8 }
first_block = { channels = 8 }
stages = [{ channels = 8, depth = 2, stride = 1 }, { channels = 12, depth = 2, stride = 2 }]
head = { channels = 16 }
"#;

pub fn tiny() -> SearchSpace {
    SearchSpace::from_toml(TINY, "tiny").unwrap()
}

pub fn images(n: i64, seed: u64) -> (Tensor, Tensor) {
    // libtorch's own generator is shared by all threads, and tests run in several.
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let pixels: Vec<f32> = (0..n * 144).map(|_| rng.random_range(-1.7..1.7)).collect();
    let labels: Vec<i64> = (0..n).map(|_| rng.random_range(0..4)).collect();
    (Tensor::from_slice(&pixels).reshape([n, 1, 12, 12]), Tensor::from_slice(&labels))
}

pub fn largest_difference(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

pub fn costs() -> CostMatrix {
    let full = vec![2.0, 1.5, 3.0, 0.0];
    CostMatrix::new(1.0, vec![full.clone(), full.clone(), vec![2.0, 2.5, 3.0], full]).unwrap()
}

/// The costs with a target.
pub fn limits(target_ms: f64) -> Limits {
    Limits::new(vec![Limit::latency(costs(), target_ms)]).unwrap()
}

pub fn noise(n: usize) -> Dataset {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut set = |n: usize| Images {
        channels: 1,
        height: 12,
        width: 12,
        classes: Classes::Exactly(4),
        pixels: (0..n * 144).map(|_| rng.random()).collect(),
        labels: (0..n).map(|i| (i % 4) as u16).collect(),
    };
    Dataset { name: "noise".into(), train: set(n).into(), test: set(16).into() }
}

/// A loss of one's own for classes in an order: the squared distance from the label to the class that the softmax expects.
/// A class' score is worse the further it is from the label; or nothing is worth anything.
#[derive(Clone, Copy, Debug)]
pub struct Ordinal {
    pub scored: bool,
}

impl Criterion for Ordinal {
    fn name(&self) -> String {
        format!("ordinal, scored: {}", self.scored)
    }

    fn losses(&self, logits: &Tensor, labels: &Tensor, _: f64) -> Result<Tensor, SearchError> {
        let classes = Tensor::f_arange(logits.size()[1], (Kind::Float, Device::Cpu))?;
        Ok(logits.f_softmax(1, Kind::Float)?.f_mv(&classes)?.f_sub(labels)?.f_square()?)
    }

    fn scores(&self, logits: &Tensor, labels: &Tensor) -> Result<Tensor, SearchError> {
        let off = logits.f_argmax(1, false)?.f_sub(labels)?.f_abs()?;
        let most = (logits.size()[1] - 1) as f64;
        Ok((off / -most + 1.0) * f64::from(u8::from(self.scored)))
    }
}

pub fn settings() -> SearchSettings {
    SearchSettings {
        warmup_epochs: 1,
        search_epochs: 1,
        batch: 8,
        gate_batch: 8,
        train_images: 40,
        validation_images: 24,
        warmup_lr: 0.05,
        search_lr: 0.025,
        alpha_lr: 0.01,
        weight_steps: 1,
        cut_below: 0.0,
        shift: 1,
        seed: 11,
        ..SearchSettings::default()
    }
}
