//! The JSON records of a run, as `fleetfoot search`, `train` and `predict --evaluate` write them.
//!
//! In search.json the names of amounts end with the unit of what was limited first (`target_ms`, `target_macs`).

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail};
use fleetfoot_profiler::Cost;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::amounts::Quantity;
use super::folder::{Origin, read_text};
use super::ranking::Diagnosis;
use super::recipe::{Recipe, settings};
use super::way::Way;

/// The version of search.json and train.json that is read.
const FORMAT: u64 = 1;

/// `search/search.json`.
#[derive(Debug, Deserialize)]
pub struct SearchRecord {
    format: u64,
    /// The space's file as it stood when it was searched.
    #[serde(rename = "space_toml")]
    pub space: String,
    /// What was found.
    pub architecture: String,
    /// What the gates expected of what was limited first, at the end.
    #[serde(deserialize_with = "quantity")]
    #[serde(
        alias = "expected_ms",
        alias = "expected_mib",
        alias = "expected_mj",
        alias = "expected_macs",
        alias = "expected_params",
        alias = "expected_of_target"
    )]
    pub expected: f64,
    /// What the found architecture needs of it.
    #[serde(default, deserialize_with = "optional_quantity")]
    #[serde(
        alias = "predicted_ms",
        alias = "predicted_mib",
        alias = "predicted_mj",
        alias = "predicted_macs",
        alias = "predicted_params",
        alias = "predicted_of_target"
    )]
    pub predicted: Option<f64>,
    /// What it may need.
    #[serde(default, deserialize_with = "optional_quantity")]
    #[serde(
        alias = "target_ms",
        alias = "target_mib",
        alias = "target_mj",
        alias = "target_macs",
        alias = "target_params",
        alias = "target_of_target"
    )]
    pub target: Option<f64>,
    /// What the first table is of, where there is one.
    #[serde(default = "latency")]
    pub cost: String,
    /// The devices of the tables.
    #[serde(default)]
    pub devices: Vec<String>,
    /// Duration.
    #[serde(deserialize_with = "quantity")]
    pub seconds: f64,
    /// Per decision, the probability of each candidate.
    pub probabilities: Vec<Vec<f64>>,
    /// What was logged on the way.
    pub curve: Vec<SearchPoint>,
    /// Units of the space whose cost was never measured.
    #[serde(default)]
    pub estimated: Vec<String>,
    /// What the images were.
    #[serde(default)]
    pub images: Option<Images>,
    /// The networks of the last stage, best first, if there was one.
    #[serde(default)]
    pub finalists: Vec<Finalist>,
    /// How well the supernet ranks, where it was asked.
    #[serde(default)]
    pub diagnosis: Option<Diagnosis>,
    /// How it went and what else it found; records of earlier releases don't say it.
    #[serde(flatten)]
    pub way: Way,
    /// Everything else: seed, dataset, loss, epochs, …
    #[serde(flatten)]
    pub settings: BTreeMap<String, Value>,
}

fn latency() -> String {
    Cost::Latency.to_string()
}

/// What tells a data set from others of its name.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Images {
    sha256: String,
}

/// A network that was trained for a short while to choose among those that meet the target.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Finalist {
    /// The network.
    pub architecture: String,
    /// What it needs of what was limited first.
    #[serde(deserialize_with = "quantity")]
    #[serde(
        alias = "predicted_ms",
        alias = "predicted_mib",
        alias = "predicted_mj",
        alias = "predicted_macs",
        alias = "predicted_params",
        alias = "predicted_of_target"
    )]
    pub predicted: f64,
    /// Accuracy on the validation images.
    #[serde(deserialize_with = "percent")]
    pub accuracy_percent: f64,
    /// Mean cross entropy on the validation images.
    #[serde(deserialize_with = "quantity")]
    pub cross_entropy: f64,
}

/// The two phases of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Weights only, candidates drawn uniformly.
    WarmUp,
    /// Weights and gates.
    Search,
}

/// A line of the search's log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SearchPoint {
    /// Steps done.
    pub step: u64,
    /// Epoch, possibly in fractions.
    #[serde(deserialize_with = "quantity")]
    pub epoch: f64,
    /// The phase.
    pub phase: Phase,
    /// The loss; with a latency term it may be negative.
    pub loss: f64,
    /// Accuracy.
    #[serde(default, deserialize_with = "optional_percent")]
    pub accuracy_percent: Option<f64>,
    /// What the gates expected of what was limited first.
    #[serde(default, deserialize_with = "optional_quantity")]
    #[serde(
        alias = "expected_ms",
        alias = "expected_mib",
        alias = "expected_mj",
        alias = "expected_macs",
        alias = "expected_params",
        alias = "expected_of_target"
    )]
    pub expected: Option<f64>,
    /// What the most probable network needs of it.
    #[serde(default, deserialize_with = "optional_quantity")]
    #[serde(
        alias = "most_probable_ms",
        alias = "most_probable_mib",
        alias = "most_probable_mj",
        alias = "most_probable_macs",
        alias = "most_probable_params",
        alias = "most_probable_of_target"
    )]
    pub most_probable: Option<f64>,
    /// Entropy of the gates' distribution.
    #[serde(default, deserialize_with = "optional_quantity")]
    pub entropy: Option<f64>,
    /// Candidates that weren't cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidates: Option<u64>,
}

/// `train/ROLE/train.json`.
#[derive(Debug, Deserialize)]
pub struct TrainRecord {
    format: u64,
    /// The space's file as it stood when this was trained.
    #[serde(rename = "space_toml")]
    pub space: String,
    /// What was trained.
    pub architecture: String,
    /// How it was named: digits, or a name that the space's file gives.
    pub named: String,
    /// Multiply-accumulate operations.
    pub macs: u64,
    /// Trainable parameters.
    pub params: u64,
    /// The random seed.
    pub seed: u64,
    /// What the images were.
    #[serde(default)]
    pub images: Option<Images>,
    dataset: String,
    epochs: u64,
    train_images: u64,
    test_images: u64,
    batch: u64,
    #[serde(deserialize_with = "quantity")]
    lr: f64,
    threads: Option<u64>,
    /// Everything that the network was trained by.
    #[serde(default)]
    recipe: BTreeMap<String, Value>,
    /// Duration.
    #[serde(deserialize_with = "quantity")]
    pub seconds: f64,
    /// On the test images, at the end.
    #[serde(deserialize_with = "percent")]
    pub accuracy_percent: f64,
    /// On the test images, at the end.
    #[serde(deserialize_with = "quantity")]
    pub test_loss: f64,
    /// Per epoch.
    pub curve: Vec<TrainPoint>,
    /// The exported model, if there is one.
    pub onnx: Option<Export>,
}

/// A line of a training's log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrainPoint {
    /// The epoch.
    #[serde(deserialize_with = "quantity")]
    pub epoch: f64,
    /// The loss.
    #[serde(deserialize_with = "quantity")]
    pub loss: f64,
    /// Accuracy.
    #[serde(default, deserialize_with = "optional_percent")]
    pub accuracy_percent: Option<f64>,
}

/// How well the exported model repeats the trained one's outputs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Export {
    /// The model.
    pub file: String,
    /// Images compared.
    pub images: u64,
    /// Largest difference of an output.
    #[serde(deserialize_with = "quantity")]
    pub max_abs_difference: f64,
}

/// `evaluate.json`: predictions against measurements of networks that took no part in the fit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Evaluation {
    /// How many networks.
    pub networks: u64,
    /// Root mean square percentage error.
    #[serde(deserialize_with = "quantity")]
    pub rmspe_percent: f64,
    /// Mean absolute percentage error.
    #[serde(deserialize_with = "quantity")]
    pub mape_percent: f64,
    /// Share of the networks predicted within 5 %.
    #[serde(deserialize_with = "percent")]
    pub within_5_percent: f64,
    /// Share of the networks predicted within 10 %.
    #[serde(deserialize_with = "percent")]
    pub within_10_percent: f64,
    /// Rank correlation.
    #[serde(default, deserialize_with = "optional_correlation")]
    pub spearman: Option<f64>,
    /// Rank correlation.
    #[serde(default, deserialize_with = "optional_correlation")]
    pub kendall: Option<f64>,
    /// What two measurements of the same network differ by.
    #[serde(default, deserialize_with = "optional_quantity")]
    pub repeatability_percent: Option<f64>,
    /// By how much the device was slower than for the table.
    #[serde(default, deserialize_with = "optional_change")]
    pub slower_percent: Option<f64>,
    /// The networks.
    #[serde(default)]
    pub points: Vec<EvaluationPoint>,
}

/// A network that was both predicted and measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EvaluationPoint {
    /// The network.
    pub architecture: String,
    /// Its prediction.
    #[serde(deserialize_with = "quantity")]
    pub predicted_ms: f64,
    /// Its measurement.
    #[serde(deserialize_with = "quantity")]
    pub measured_ms: f64,
}

impl SearchRecord {
    /// Reads and checks the file.
    pub fn read(path: &Path, origin: &Origin) -> Result<Self> {
        let record: Self = read_json(path, origin)?;
        check_format(path, record.format)?;
        Ok(record)
    }

    /// What was limited first. Records of before there were several limits say it by their table's cost alone.
    pub fn limited_first(&self) -> Quantity {
        let first = self.way.limits.first().map(|limit| limit.of.clone());
        first.unwrap_or_else(|| Quantity::of_cost(self.cost.parse().unwrap_or_default()))
    }

    /// Whether it is the latency on one device that was limited, whatever else was.
    pub fn is_of_one_latency(&self) -> bool {
        let latencies = self.way.limits.iter().filter(|limit| limit.of.is_latency()).count();
        self.limited_first().is_latency() && latencies <= 1
    }
}

impl TrainRecord {
    /// Reads and checks the file.
    pub fn read(path: &Path, origin: &Origin) -> Result<Self> {
        let record: Self = read_json(path, origin)?;
        check_format(path, record.format)?;
        Ok(record)
    }

    /// How it was trained.
    pub fn recipe(&self) -> Recipe {
        let Self { epochs, train_images, test_images, batch, lr, threads, .. } = *self;
        let (dataset, settings) = (self.dataset.clone(), settings(&self.recipe));
        Recipe { dataset, epochs, train_images, test_images, batch, lr, threads, settings }
    }
}

fn check_format(path: &Path, format: u64) -> Result<()> {
    if format != FORMAT {
        bail!("{}: format {format}, but this fleetfoot reads format {FORMAT}", path.display());
    }
    Ok(())
}

/// A JSON file; what is wrong with it is told with its line and column.
pub fn read_json<T: DeserializeOwned>(path: &Path, origin: &Origin) -> Result<T> {
    let text = read_text(path, origin)?;
    serde_json::from_str(&text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let message = error.to_string();
        let what = message.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&message);
        anyhow::anyhow!("{}: line {line}, column {column}: {what}", path.display())
    })
}

fn within<E: serde::de::Error>(value: f64, low: f64, high: f64, wanted: &str) -> Result<f64, E> {
    if value.is_finite() && (low..=high).contains(&value) {
        Ok(value)
    } else {
        Err(E::custom(format!("{value} is not {wanted}")))
    }
}

pub(super) fn quantity<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    optional_quantity(deserializer)?.ok_or_else(|| D::Error::custom("null is not a number of 0 or more"))
}

fn optional_quantity<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let value = Option::<f64>::deserialize(deserializer)?;
    value.map(|value| within(value, 0.0, f64::MAX, "a number of 0 or more")).transpose()
}

pub(super) fn percent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    optional_percent(deserializer)?.ok_or_else(|| D::Error::custom("null is not a percentage from 0 to 100"))
}

fn optional_percent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let value = Option::<f64>::deserialize(deserializer)?;
    value.map(|value| within(value, 0.0, 100.0, "a percentage from 0 to 100")).transpose()
}

fn optional_change<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let value = Option::<f64>::deserialize(deserializer)?;
    value.map(|value| within(value, -100.0, f64::MAX, "a change by -100 % or more")).transpose()
}

pub(super) fn optional_correlation<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let value = Option::<f64>::deserialize(deserializer)?;
    value.map(|value| within(value, -1.0, 1.0, "a correlation from -1 to 1")).transpose()
}
