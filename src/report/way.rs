//! How a search went and what else it found, as search.json tells it. Records of earlier releases lack all of it.

use serde::{Deserialize, Serialize};

use super::amounts::{Demand, Quantity};
use super::records::{percent, quantity};

/// What there is to tell.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Way {
    /// What was limited.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<Limit>,
    /// The devices' parts, where the first limit is a weighted mean of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weighted: Vec<Weighted>,
    /// What came of each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reached: Vec<Reached>,
    /// The gates over time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<GatePoint>,
    /// Candidates that were cut, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cuts: Vec<Cut>,
    /// What was measured on devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measured: Vec<Measured>,
    /// Networks of several needs that the one supernet holds, none of them beaten by another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pareto: Vec<FrontPoint>,
    /// How other ways to search did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rivals: Vec<Rival>,
}

/// A limit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Limit {
    /// What is limited.
    #[serde(flatten)]
    pub of: Quantity,
    /// What networks need of it.
    #[serde(default, skip_serializing)]
    pub demand: Option<Demand>,
    /// What the network may need at most.
    #[serde(deserialize_with = "quantity")]
    pub at_most: f64,
    /// Whether that is to be reached.
    pub bound: Bound,
}

/// A device's part in a weighted mean of latency over target.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Weighted {
    /// The device's latency, and what a network may take there where the mean is held at 1.
    #[serde(flatten)]
    pub limit: Limit,
    /// Its share of the mean; all add up to 1.
    #[serde(deserialize_with = "quantity")]
    pub weight: f64,
}

/// Whether a limit is to be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// At most, and as nearly as possible.
    Target,
    /// At most.
    Cap,
}

/// What came of a limit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reached {
    /// What the gates expected at the end.
    #[serde(deserialize_with = "quantity")]
    pub expected: f64,
    /// What the network needs.
    #[serde(deserialize_with = "quantity")]
    pub predicted: f64,
    /// The multiplier at the end.
    #[serde(deserialize_with = "quantity")]
    pub lambda: f64,
}

/// The gates at a point of the curves.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GatePoint {
    /// Steps done.
    pub step: u64,
    /// Per decision, the probability of each candidate.
    pub probabilities: Vec<Vec<f64>>,
    /// Expected amounts, one a limit.
    pub expected: Vec<f64>,
    /// Where the limits were.
    pub limits: Vec<f64>,
    /// Multipliers, one a limit.
    pub lambda: Vec<f64>,
}

/// A candidate that was cut.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cut {
    /// Steps done until then.
    pub step: u64,
    /// The decision's index.
    pub decision: usize,
    /// The candidate's index.
    pub candidate: usize,
}

/// A network's latency on a device.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// The device.
    pub device: String,
    /// The network.
    pub architecture: String,
    /// What it took.
    #[serde(deserialize_with = "quantity")]
    pub measured_ms: f64,
    /// Lower end of its interval.
    #[serde(deserialize_with = "quantity")]
    pub low_ms: f64,
    /// Upper end.
    #[serde(deserialize_with = "quantity")]
    pub high_ms: f64,
    /// By the table.
    #[serde(deserialize_with = "quantity")]
    pub predicted_ms: f64,
    /// What it may take.
    #[serde(deserialize_with = "quantity")]
    pub target_ms: f64,
}

/// A network of the front.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FrontPoint {
    /// The network.
    pub architecture: String,
    /// What it needs, one amount a limit.
    pub needs: Vec<f64>,
    /// Mean cross entropy on the validation images, by the supernet.
    #[serde(deserialize_with = "quantity")]
    pub cross_entropy: f64,
    /// Accuracy there.
    #[serde(deserialize_with = "percent")]
    pub accuracy_percent: f64,
}

/// How another way to search did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rival {
    /// Which.
    pub method: String,
    /// What of its budget was equal to the gates'; empty for the gates.
    pub budget: String,
    /// Networks that it judged.
    pub evaluations: u64,
    /// Duration.
    #[serde(deserialize_with = "quantity")]
    pub seconds: f64,
    /// What it found.
    pub architecture: String,
    /// What that needs of what is limited first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted: Option<f64>,
    /// Mean cross entropy on the validation images, by the supernet.
    #[serde(deserialize_with = "quantity")]
    pub cross_entropy: f64,
    /// Accuracy there.
    #[serde(deserialize_with = "percent")]
    pub accuracy_percent: f64,
}
