//! Whether a supernet ranks networks as training from scratch does.

use fleetfoot_predictor::kendall;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Samples of the bootstrap, and the share that its interval holds.
const SAMPLES: usize = 2000;
const HELD: f64 = 0.9;

/// A network, by the supernet and trained from scratch; both on the validation images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Diagnosed {
    /// The network.
    pub architecture: String,
    /// What it needs of what is limited first.
    pub predicted: f64,
    /// By the supernet.
    pub supernet_cross_entropy: f64,
    /// By the supernet, in percent.
    pub supernet_accuracy_percent: f64,
    /// Trained from scratch.
    pub scratch_cross_entropy: f64,
    /// Trained from scratch, in percent.
    pub scratch_accuracy_percent: f64,
}

/// How well the supernet ranks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// The networks.
    pub networks: Vec<Diagnosed>,
    /// Epochs of their training from scratch.
    pub epochs: usize,
    /// Kendall's tau-b between the two accuracies; none where all of one are equal.
    pub kendall: Option<f64>,
    /// Its interval of 90 %, by bootstrap over the networks.
    pub low: Option<f64>,
    /// See `low`.
    pub high: Option<f64>,
}

impl Diagnosis {
    /// Of networks that were trained for so many epochs; `seed` draws the bootstrap.
    pub fn new(networks: Vec<Diagnosed>, epochs: usize, seed: u64) -> Self {
        let tau = |chosen: &[usize]| {
            let values =
                |pick: fn(&Diagnosed) -> f64| chosen.iter().map(|&index| pick(&networks[index])).collect::<Vec<f64>>();
            kendall(&values(|n| n.supernet_accuracy_percent), &values(|n| n.scratch_accuracy_percent))
        };
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let all: Vec<usize> = (0..networks.len()).collect();
        let mut taus: Vec<f64> = (0..if all.len() > 1 { SAMPLES } else { 0 })
            .filter_map(|_| tau(&all.iter().map(|_| rng.random_range(0..all.len())).collect::<Vec<usize>>()))
            .collect();
        taus.sort_by(f64::total_cmp);
        let quantile = |q: f64| taus.get(((taus.len().max(1) - 1) as f64 * q).round() as usize).copied();
        let (low, high) = (quantile((1.0 - HELD) / 2.0), quantile((1.0 + HELD) / 2.0));
        Self { kendall: tau(&all), networks, epochs, low, high }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(scratch: &[f64]) -> Vec<Diagnosed> {
        let each = scratch.iter().enumerate().map(|(index, &scratch_accuracy_percent)| Diagnosed {
            architecture: index.to_string(),
            predicted: 1.0,
            supernet_cross_entropy: 1.0,
            supernet_accuracy_percent: index as f64,
            scratch_cross_entropy: 1.0,
            scratch_accuracy_percent,
        });
        each.collect()
    }

    #[test]
    fn the_interval_is_wide_for_few_networks_and_holds_the_estimate() {
        let diagnosis = Diagnosis::new(networks(&[0.0, 2.0, 1.0, 4.0, 3.0, 6.0, 5.0, 8.0, 7.0, 9.0]), 1, 0);
        let (low, high, tau) = (diagnosis.low.unwrap(), diagnosis.high.unwrap(), diagnosis.kendall.unwrap());
        // Four of 45 pairs are discordant.
        assert!((tau - 37.0 / 45.0).abs() < 1e-12 && low < tau && tau < high && high - low > 0.1, "{low} {tau} {high}");
        let exact = Diagnosis::new(networks(&[0.0, 1.0, 2.0, 3.0]), 1, 0);
        assert_eq!((exact.kendall, exact.low, exact.high), (Some(1.0), Some(1.0), Some(1.0)));
    }

    #[test]
    fn equal_accuracies_have_no_rank() {
        assert_eq!(Diagnosis::new(networks(&[5.0, 5.0, 5.0]), 1, 0).kendall, None);
        assert_eq!(Diagnosis::new(networks(&[5.0]), 1, 0).low, None);
    }
}
