//! How fast ranks talk to each other.

use std::time::Instant;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::Group;
use crate::error::SearchError;

/// Times of adding up tensors of one size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transfer {
    /// Bytes of the tensor.
    pub bytes: usize,
    /// Median of the times, in seconds.
    pub median_s: f64,
    /// The shortest.
    pub least_s: f64,
    /// The longest.
    pub most_s: f64,
}

impl Transfer {
    /// Bytes that each rank sends in a second: `2 (n - 1) / n` of the tensor, by the ring that c10d's backends take.
    pub fn bytes_per_s(&self, ranks: usize) -> f64 {
        let ranks = ranks as f64;
        2.0 * (ranks - 1.0) / ranks * self.bytes as f64 / self.median_s
    }
}

/// What was found, the same on all ranks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// From the smallest tensor to the largest.
    pub transfers: Vec<Transfer>,
}

/// Sizes of tensors, in 32-bit floats: one, then what a bucket and a small network hold.
const SIZES: [usize; 5] = [1, 1 << 14, 1 << 18, 1 << 20, 1 << 22];
/// How often each is added up, and how often before that counts.
const REPEATS: usize = 21;
const WARM: usize = 3;

impl Group {
    /// Adds up tensors of several sizes; a sum that is wrong is an error.
    pub fn probe(&self) -> Result<Probe, SearchError> {
        let mut transfers = Vec::with_capacity(SIZES.len());
        for size in SIZES {
            let mut times = Vec::with_capacity(REPEATS);
            for repeat in 0..WARM + REPEATS {
                let tensor = Tensor::f_full([size as i64], (self.rank() + 1) as f64, (Kind::Float, Device::Cpu))?;
                let tensor = tensor.f_to(self.wire())?;
                // All begin at once.
                self.sum(&mut [0.0])?;
                let start = Instant::now();
                if let Some(link) = &self.link {
                    self.told(link.sum(&tensor).and_then(|work| work.finish()))?;
                }
                let seconds = start.elapsed().as_secs_f64();
                let wanted = (self.size() * (self.size() + 1) / 2) as f64;
                let off = tensor.f_sub_scalar(wanted)?.f_abs()?.f_max()?.f_double_value(&[])?;
                if off > 0.0 {
                    let what = format!("a sum over {} ranks is off by {off}", self.size());
                    return Err(SearchError::Peers { rank: self.rank(), size: self.size(), what });
                }
                if repeat >= WARM {
                    times.push(seconds);
                }
            }
            times.sort_by(f64::total_cmp);
            let (least_s, most_s) = (times[0], times[REPEATS - 1]);
            let mut found = [times[REPEATS / 2], least_s, most_s];
            self.mean(&mut found)?;
            let [median_s, least_s, most_s] = found;
            transfers.push(Transfer { bytes: 4 * size, median_s, least_s, most_s });
        }
        Ok(Probe { transfers })
    }
}
