//! Eight-bit integers: scales and zero points.

use std::collections::HashMap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::inference::Step;
use crate::network::{Network, Source};
use crate::reference::activations;
use crate::weights::{Tensor, WeightsError};

/// Seed of the images that ranges are taken from: equal models in equal bytes.
const SEED: u64 = 0;
/// Small inputs are calibrated on several images, so that there are about so many values of each.
const VALUES: usize = 1 << 16;
/// At most so many images.
const IMAGES: usize = 8;

/// How the numbers of an activation become bytes: `q = round(x / scale) + zero`, saturating at 0 and 255.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantisation {
    /// The real number that a byte more stands for.
    pub scale: f32,
    /// The byte that stands for 0.
    pub zero: u8,
}

impl Quantisation {
    /// The finest that holds 0 exactly and reaches over the range.
    pub fn of_range((low, high): (f32, f32)) -> Self {
        let (low, high) = (low.min(0.0), high.max(0.0));
        let scale = (high - low) / 255.0;
        if scale.is_normal() && scale.is_finite() {
            Self { scale, zero: (-low / scale).round() as u8 }
        } else {
            Self { scale: 1.0, zero: 0 }
        }
    }

    /// What is left of a number that went through a byte.
    pub fn round_trip(self, x: f32) -> f32 {
        let zero = f32::from(self.zero);
        (((x / self.scale).round_ties_even() + zero).clamp(0.0, 255.0) - zero) * self.scale
    }
}

/// The range, lowest and highest value, of the network's input and of nodes' outputs.
pub type Ranges = HashMap<Source, (f32, f32)>;

/// The quantisation of everything that the steps take or make, by given ranges.
pub(super) fn quantisations(
    network: &Network,
    steps: &[Step],
    ranges: &Ranges,
) -> Result<HashMap<Source, Quantisation>, WeightsError> {
    let of = |source: Source| match ranges.get(&source) {
        Some(&range) => Ok((source, Quantisation::of_range(range))),
        None => Err(WeightsError::Range(match source {
            Source::Input => "input".to_owned(),
            Source::Node(node) => network.nodes()[node].name.clone(),
        })),
    };
    std::iter::once(Source::Input).chain(steps.iter().map(|step| Source::Node(step.node))).map(of).collect()
}

/// Random calibration, for networks with random weights: images of even noise between -1 and 1, which is what is measured
/// with, are run through the network, and the ranges are those of what they become.
pub(super) fn ranges_of_noise(network: &Network, steps: &[Step]) -> Ranges {
    let elements = network.input().with_batch(1).elements();
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let mut ranges = Ranges::new();
    for _ in 0..(VALUES / elements).clamp(1, IMAGES) {
        let image: Vec<f32> = (0..elements).map(|_| rng.random_range(-1.0..=1.0)).collect();
        let outputs = activations(network, steps, &image);
        let nodes = outputs.iter().enumerate().map(|(node, values)| (Source::Node(node), values));
        for (source, values) in nodes.chain([(Source::Input, &image)]) {
            let range = ranges.entry(source).or_insert((0.0, 0.0));
            *range = values.iter().fold(*range, |(low, high), &x| (low.min(x), high.max(x)));
        }
    }
    ranges
}

/// A weight and a bias in integers: the weight in -127 to 127 with a scale for each output channel, the bias in steps of
/// `input's scale x weight's scale`, as the sums of products are.
pub(super) struct Integers {
    pub weight: Vec<i8>,
    pub weight_scale: Vec<f32>,
    pub bias: Vec<i32>,
    pub bias_scale: Vec<f32>,
}

impl Integers {
    pub fn new(weight: &Tensor, bias: &[f32], input: Quantisation) -> Self {
        let mut integers =
            Self { weight: Vec::new(), weight_scale: Vec::new(), bias: Vec::new(), bias_scale: Vec::new() };
        for (filter, &bias) in weight.data.chunks_exact(weight.data.len() / bias.len()).zip(bias) {
            let largest = filter.iter().fold(0.0, |largest: f32, w| largest.max(w.abs()));
            // A bias that dwarfs its weights must still be an integer.
            let scale = (largest / 127.0).max(bias.abs() / input.scale / (1 << 30) as f32);
            let scale = if scale.is_normal() { scale } else { 1.0 };
            integers.weight.extend(filter.iter().map(|w| (w / scale).round() as i8));
            integers.weight_scale.push(scale);
            integers.bias.push((bias / (input.scale * scale)).round() as i32);
            integers.bias_scale.push(input.scale * scale);
        }
        integers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_held_with_an_exact_zero() {
        for range in [(-1.0, 1.0), (0.0, 6.0), (-3.0, -1.0), (0.5, 2.0), (-1e-3, 7.0)] {
            let Quantisation { scale, zero } = Quantisation::of_range(range);
            let real = |q: u8| (f32::from(q) - f32::from(zero)) * scale;
            assert_eq!(real(zero), 0.0);
            assert!(real(0) <= range.0 + 0.51 * scale && real(255) >= range.1 - 0.51 * scale, "{range:?}");
            let quantisation = Quantisation::of_range(range);
            assert_eq!((quantisation.round_trip(0.0), quantisation.round_trip(100.0)), (0.0, real(255)));
            let inside = 0.3 * range.0 + 0.7 * range.1;
            assert!((quantisation.round_trip(inside) - inside).abs() <= 0.501 * scale);
        }
        // What ReLU6 leaves saturates where ReLU6 does.
        let clipped = Quantisation::of_range((0.0, 6.0));
        assert_eq!((clipped.zero, 255.0 * clipped.scale), (0, 6.0));
        assert_eq!(Quantisation::of_range((0.0, 0.0)), Quantisation { scale: 1.0, zero: 0 });
    }

    #[test]
    fn every_filter_uses_all_of_its_integers() {
        let weight = Tensor { dims: vec![3, 1, 1, 2], data: vec![0.5, -1.0, 0.001, 0.002, 0.0, 0.0] };
        let input = Quantisation { scale: 0.1, zero: 3 };
        let integers = Integers::new(&weight, &[0.2, 0.0, 1.0], input);
        assert_eq!(integers.weight[..4], [64, -127, 64, 127]);
        for (c, (bias, scale)) in integers.bias.iter().zip(&integers.bias_scale).enumerate() {
            assert!((*bias as f32 * scale - [0.2, 0.0, 1.0][c]).abs() < 1e-3, "channel {c}");
            assert_eq!(*scale, input.scale * integers.weight_scale[c]);
        }
    }
}
