//! The content of `summary.json`: everything that the page and the final table show.
//!
//! Latencies are in milliseconds, accuracies in percent, differences of accuracies in percentage points. What a search limits
//! is in the unit that its limits name.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::amounts::Quantity;
use super::ranking::Ranking;
use super::recipe::Recipe;
use super::records::{Evaluation, Export, Finalist, SearchPoint, TrainPoint};
use super::tables::Provenance;
use super::timeline::Timeline;
use super::way::{Bound, Way};

/// A run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Summary {
    /// Version of this file.
    pub format: u64,
    /// Who wrote it.
    pub tool: String,
    /// What the latencies were measured on.
    pub device: String,
    /// What the networks were trained on.
    pub dataset: String,
    /// The search space.
    pub space: String,
    /// `baseline.measured_ms / found.measured_ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speedup: Option<f64>,
    /// `baseline.measured_low_ms / found.measured_high_ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speedup_low: Option<f64>,
    /// `baseline.measured_high_ms / found.measured_low_ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speedup_high: Option<f64>,
    /// `found.needs[0] / baseline.needs[0]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub need_ratio: Option<f64>,
    /// `found.accuracy - baseline.accuracy`, points.
    pub accuracy_difference: f64,
    /// Standard error of that difference over the seeds, where both networks have several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy_difference_standard_error: Option<f64>,
    /// What the found network is compared with.
    pub baseline: Network,
    /// What the search found.
    pub found: Network,
    /// Further networks, trained the same way.
    pub controls: Vec<Network>,
    /// The search.
    pub search: Search,
    /// How well the predictor does on networks that it hasn't seen.
    pub evaluation: Option<Evaluation>,
    /// How the machine behaved while the table was measured, where its journal is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<Timeline>,
    /// Where the numbers come from.
    pub provenance: Sources,
    /// What a reader should know before believing the numbers.
    pub warnings: Vec<String>,
}

/// A trained and measured network.
#[derive(Debug, Serialize, Deserialize)]
pub struct Network {
    /// `found`, `baseline` or a control's name.
    pub name: String,
    /// A base-36 digit per decision.
    pub architecture: String,
    /// On the test images; the mean over the seeds.
    pub accuracy: f64,
    /// Standard deviation over the seeds, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy_sd: Option<f64>,
    /// Number of trainings, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seeds: Option<usize>,
    /// Binomial standard error of `accuracy` for a test set of this size, points.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy_sampling_error: Option<f64>,
    /// From predicted.csv.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicted_ms: Option<f64>,
    /// Lower end of the prediction's interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicted_low_ms: Option<f64>,
    /// Upper end of the prediction's interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicted_high_ms: Option<f64>,
    /// From measured.csv; the median over the seeds' models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured_ms: Option<f64>,
    /// Lower end of the measurement's interval (the median over the seeds' models).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured_low_ms: Option<f64>,
    /// Upper end of the measurement's interval (the median over the seeds' models).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured_high_ms: Option<f64>,
    /// `(predicted_ms / measured_ms - 1) * 100`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prediction_error_percent: Option<f64>,
    /// `baseline.measured_ms / measured_ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speedup: Option<f64>,
    /// What it needs of each of the search's limits; none where it has other widths than the space.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<f64>,
    /// Its latency on each device of a weighted mean.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weighted_needs: Vec<f64>,
    /// `needs[0] / baseline.needs[0]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub need_ratio: Option<f64>,
    /// `accuracy - baseline.accuracy`, points.
    pub accuracy_difference: f64,
    /// `found.accuracy - accuracy`, points; not for the found network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found_lead: Option<f64>,
    /// Standard error of that difference: over the seeds where both networks have several, else of two test sets of
    /// this size (too large a bit, since both are judged on one).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found_lead_standard_error: Option<f64>,
    /// Multiply-accumulate operations.
    pub macs: u64,
    /// The same in millions.
    pub macs_millions: f64,
    /// Trainable parameters.
    pub params: u64,
    /// The same in thousands.
    pub params_thousands: f64,
    /// How it was trained (its first seed).
    pub recipe: Recipe,
    /// One per seed.
    pub trainings: Vec<TrainingSummary>,
    /// The picture: fixed blocks and decisions from input to output.
    pub blocks: Vec<Block>,
}

/// One training of a network.
#[derive(Debug, Serialize, Deserialize)]
pub struct TrainingSummary {
    /// Its folder below `train/`.
    pub folder: String,
    /// The random seed.
    pub seed: u64,
    /// On the test images.
    pub accuracy: f64,
    /// On the test images.
    pub test_loss: f64,
    /// Duration.
    pub minutes: f64,
    /// Its model's latency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured_ms: Option<f64>,
    /// Samples behind that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured_n: Option<u64>,
    /// How it was trained.
    pub recipe: Recipe,
    /// The exported model's check.
    pub onnx: Option<Export>,
    /// Per epoch.
    pub curve: Vec<TrainPoint>,
}

/// A block of the picture.
#[derive(Debug, Serialize, Deserialize)]
pub struct Block {
    /// The unit's name, such as `stem` or `stage2.0`.
    pub name: String,
    /// What is written on it, such as `MB6 5×5`.
    pub label: String,
    /// The stage, counted from 1; absent for the fixed blocks.
    pub stage: Option<usize>,
    /// What could have been chosen; empty for the fixed blocks.
    pub candidates: Vec<String>,
    /// What was chosen; absent for the fixed blocks.
    pub chosen: Option<String>,
    /// Whether nothing stands here.
    pub zero: bool,
    /// Kernel size.
    pub kernel: Option<usize>,
    /// Expansion ratio.
    pub expansion: Option<usize>,
    /// Stride.
    pub stride: usize,
    /// Output channels.
    pub channels: usize,
    /// Output map, pixels.
    pub height: usize,
    /// Output map, pixels.
    pub width: usize,
}

/// The search.
#[derive(Debug, Serialize, Deserialize)]
pub struct Search {
    /// What was found.
    pub architecture: String,
    /// What was limited first.
    pub limited_first: Quantity,
    /// What the gates expected of it at the end.
    pub expected: f64,
    /// What the found architecture needs of it, as the search saw it.
    pub predicted: Option<f64>,
    /// What it may need.
    pub target: Option<f64>,
    /// `(predicted / target - 1) * 100`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_missed_percent: Option<f64>,
    /// Duration.
    pub minutes: f64,
    /// Seed, loss, epochs, …
    pub settings: Vec<Setting>,
    /// What there was to choose.
    pub decisions: Vec<DecisionSummary>,
    /// Per decision, the probability of each candidate.
    pub probabilities: Vec<Vec<f64>>,
    /// What was logged on the way.
    pub curve: Vec<SearchPoint>,
    /// The networks of the last stage, best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub finalists: Vec<Finalist>,
    /// How well the supernet ranks, where it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranking: Option<Ranking>,
    /// How it went, and what else it found.
    #[serde(flatten)]
    pub way: Way,
}

/// A setting of the search.
#[derive(Debug, Serialize, Deserialize)]
pub struct Setting {
    /// As search.json names it.
    pub key: String,
    /// A text, a number, true or false.
    pub value: Value,
}

/// A decision of the space.
#[derive(Debug, Serialize, Deserialize)]
pub struct DecisionSummary {
    /// Such as `stage2.0`.
    pub name: String,
    /// Such as `k3e6` or `zero`.
    pub candidates: Vec<String>,
    /// Kernel sizes of the candidates, where they have one.
    pub kernels: Vec<Option<usize>>,
    /// Their expansion ratios, where they have one.
    pub expansions: Vec<Option<usize>>,
    /// Index of the chosen one.
    pub chosen: usize,
}

/// Provenance by file.
#[derive(Debug, Serialize, Deserialize)]
pub struct Sources {
    /// The latency table's.
    pub table: Vec<Provenance>,
    /// The measurements'.
    pub measured: Vec<Provenance>,
}

impl Search {
    /// Whether what was limited first was to be reached, or is a cap. Records that tell of no limits are of a target.
    pub fn bound(&self) -> Bound {
        self.way.limits.first().map_or(Bound::Target, |limit| limit.bound)
    }
}

impl Summary {
    /// Whether networks are compared by what they took on the device: then the search limited latency, and they were
    /// measured. Otherwise they are by what they need of what was limited first.
    pub fn is_by_latency(&self) -> bool {
        self.search.limited_first.is_latency() && self.is_measured()
    }

    /// Whether networks were measured.
    pub fn is_measured(&self) -> bool {
        self.found.measured_ms.is_some()
    }

    /// Whether their latencies were predicted.
    pub fn is_predicted(&self) -> bool {
        self.found.predicted_ms.is_some()
    }

    /// All networks with their places in the file: found, baseline, controls.
    pub fn networks(&self) -> impl Iterator<Item = (String, &Network)> {
        let first = [("/found".to_owned(), &self.found), ("/baseline".to_owned(), &self.baseline)];
        let controls = self.controls.iter().enumerate();
        first.into_iter().chain(controls.map(|(index, network)| (format!("/controls/{index}"), network)))
    }
}
