//! What a network costs, and in which unit.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::latency::{Latency, LatencyError};

/// What the numbers of a table are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cost {
    /// Time of a run, in milliseconds.
    #[default]
    Latency,
    /// Memory that a process which does nothing but run the network has resident at most, in MiB.
    Memory,
    /// Energy of a run, in millijoules.
    Energy,
}

/// A text that is no cost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a cost: wanted latency, memory or energy")]
pub struct CostParseError(String);

impl Cost {
    pub(crate) const ALL: [Self; 3] = [Self::Latency, Self::Memory, Self::Energy];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Latency => "latency",
            Self::Memory => "memory",
            Self::Energy => "energy",
        }
    }

    /// Its unit, as people write it.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Latency => "ms",
            Self::Memory => "MiB",
            Self::Energy => "mJ",
        }
    }

    /// A column's or field's name with the unit behind it, such as `low_ms`.
    pub fn column(self, name: &str) -> String {
        format!("{name}_{}", self.unit().to_lowercase())
    }

    /// The columns of a table that hold it: itself, the ends of its interval, what was measured, what of that is paid at
    /// boundaries.
    pub const fn columns(self) -> [&'static str; 5] {
        match self {
            Self::Latency => ["latency_ms", "low_ms", "high_ms", "raw_ms", "boundary_ms"],
            Self::Memory => ["memory_mib", "low_mib", "high_mib", "raw_mib", "boundary_mib"],
            Self::Energy => ["energy_mj", "low_mj", "high_mj", "raw_mj", "boundary_mj"],
        }
    }

    /// The cost of whose table a header is, by the column of the cost itself.
    pub fn of_header<'a>(header: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        header.into_iter().find_map(|name| Self::ALL.into_iter().find(|cost| cost.columns()[0] == name))
    }

    /// What is wrong with a number that is no amount of it.
    pub(crate) fn complaint(self, error: &LatencyError) -> String {
        match self {
            Self::Latency => error.to_string(),
            _ => format!("{} is no {self}: wanted a finite number of {}, at least 0", error.0, self.unit()),
        }
    }

    /// An amount with its unit, for people.
    pub fn show(self, amount: Latency) -> String {
        format!("{:.4} {}", amount.ms(), self.unit())
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Cost {
    type Err = CostParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|cost| cost.name() == text);
        known.ok_or_else(|| CostParseError(text.to_owned()))
    }
}
