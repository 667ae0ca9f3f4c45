//! The unit of everything measured.

use std::fmt;
use std::str::FromStr;

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

    /// What is left above `other`, at least 0.
    pub fn above(self, other: Self) -> Self {
        Self((self.0 - other.0).max(0.0))
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

/// A text that is no latency.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("'{0}' is not a latency: wanted a number above 0 with its unit, such as 0.25ms, 250us or 0.02s")]
pub struct LatencyParseError(String);

impl FromStr for Latency {
    type Err = LatencyParseError;

    /// A number above 0 with its unit: `ms`, `us` (or `µs`), `s`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let units = [("ms", 1.0), ("us", 1e-3), ("µs", 1e-3), ("s", 1e3)];
        let split = units.iter().find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, scale)));
        let ms = split.and_then(|(number, scale)| Some(number.trim().parse::<f64>().ok()? * scale));
        let latency = ms.and_then(|ms| Self::from_ms(ms).ok()).filter(|latency| *latency > Self::ZERO);
        latency.ok_or_else(|| LatencyParseError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_need_a_unit() {
        for (text, ms) in [("0.25ms", 0.25), ("250us", 0.25), ("250 µs", 0.25), ("0.02s", 20.0)] {
            assert!((text.parse::<Latency>().unwrap().ms() - ms).abs() < 1e-12);
        }
        for text in ["0.25", "fast", "-1ms", "0ms", "NaNms", "infms", ""] {
            assert!(text.parse::<Latency>().is_err(), "{text}");
        }
    }
}
