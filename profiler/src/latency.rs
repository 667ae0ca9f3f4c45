//! The unit of everything measured.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A latency in milliseconds: finite and at least 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Latency(f64);

/// A number that is no latency.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("{0} ms is not a latency: wanted a finite number of milliseconds, at least 0")]
pub struct LatencyError(pub f64);

impl Latency {
    /// No time at all.
    pub const ZERO: Self = Self(0.0);

    /// From milliseconds.
    pub fn from_ms(ms: f64) -> Result<Self, LatencyError> {
        if ms.is_finite() && ms >= 0.0 { Ok(Self(ms)) } else { Err(LatencyError(ms)) }
    }

    /// In milliseconds.
    pub const fn ms(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Latency {
    type Error = LatencyError;

    fn try_from(ms: f64) -> Result<Self, LatencyError> {
        Self::from_ms(ms)
    }
}

impl From<Latency> for f64 {
    fn from(latency: Latency) -> Self {
        latency.0
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.4} ms", self.0)
    }
}
