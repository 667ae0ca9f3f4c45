//! The additive cost model that a search uses.

use fleetfoot_space::Architecture;
use serde::{Deserialize, Serialize};

/// Latency of a space's networks as a constant plus one cost per decision, in milliseconds:
/// `latency(a) = constant_ms + sum over d of rows[d][a_d]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CostMatrix {
    /// Cost of what every network has: the call itself, stem, first block and head.
    pub constant_ms: f64,
    /// `rows[decision][candidate]`; 0 for Zero.
    pub rows: Vec<Vec<f64>>,
}

/// A cost matrix that can't be used.
#[derive(Debug, Clone, thiserror::Error, PartialEq)]
pub enum CostError {
    /// A cost isn't a finite number of milliseconds, at least 0.
    #[error("cost of candidate {candidate} in decision {decision} is {value} ms: wanted a finite number, at least 0")]
    Value {
        /// The decision's index.
        decision: usize,
        /// The candidate's index.
        candidate: usize,
        /// Its cost.
        value: f64,
    },
    /// The constant part isn't a finite number of milliseconds, at least 0.
    #[error("the constant part of the cost is {0} ms: wanted a finite number, at least 0")]
    Constant(f64),
}

impl CostMatrix {
    /// Checks every value.
    pub fn new(constant_ms: f64, rows: Vec<Vec<f64>>) -> Result<Self, CostError> {
        let fits = |value: f64| value.is_finite() && value >= 0.0;
        if !fits(constant_ms) {
            return Err(CostError::Constant(constant_ms));
        }
        for (decision, row) in rows.iter().enumerate() {
            if let Some(candidate) = row.iter().position(|&value| !fits(value)) {
                return Err(CostError::Value { decision, candidate, value: row[candidate] });
            }
        }
        Ok(Self { constant_ms, rows })
    }

    /// Latency of an architecture in milliseconds. The architecture must be one of the matrix' space.
    pub fn latency_ms(&self, architecture: &Architecture) -> f64 {
        let costs = self.rows.iter().zip(architecture.choices()).map(|(row, choice)| row[choice]);
        self.constant_ms + costs.sum::<f64>()
    }

    /// Latency of the cheapest and of the dearest architecture, in milliseconds.
    pub fn range_ms(&self) -> (f64, f64) {
        let total = |pick: fn(f64, f64) -> f64| {
            let costs = self.rows.iter().map(|row| row.iter().copied().reduce(pick).unwrap_or(0.0));
            self.constant_ms + costs.sum::<f64>()
        };
        (total(f64::min), total(f64::max))
    }
}
