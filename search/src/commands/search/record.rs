//! What a search leaves behind: search.json, the curves.

use std::fmt::Write as _;
use std::path::Path as FilePath;

use anyhow::{Context as _, Result};
use fleetfoot_predictor::CostMatrix;
use fleetfoot_profiler::write_atomically;
use fleetfoot_search::{
    Account, Compute, Corrupt, Cut, Diagnosis, Finalist, Found, FrontPoint, GatePoint, Limits, Reached, Rival,
    SearchPoint, SearchSettings,
};
use fleetfoot_space::SearchSpace;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::{Images, alone, is_alone};
use super::Options;
use super::budgets::{Budgets, Weighted};
use super::measured::Measured;

/// The suffix of amounts in the library, which don't know what they are of.
const OURS: &str = "_ms";

/// search.json.
#[derive(Debug, Serialize, Deserialize)]
pub struct Record {
    format: u32,
    /// What is limited first. Where it isn't latency, the names of its amounts end with its unit instead of `ms`.
    #[serde(default = "latency")]
    cost: String,
    /// The space's name.
    space: String,
    /// The space itself, as its file stood then.
    pub space_toml: String,
    pub architecture: String,
    /// The network that the gates led to, before the last stage.
    pub derived: String,
    most_probable: String,
    expected_ms: f64,
    predicted_ms: f64,
    target_ms: f64,
    loss: String,
    lambda: f64,
    seed: u64,
    pub dataset: String,
    pub images: Images,
    train_images: usize,
    validation_images: usize,
    warmup_epochs: usize,
    search_epochs: usize,
    batch: usize,
    threads: usize,
    /// What computed, one after the other where it wasn't one thing throughout.
    #[serde(default)]
    computed_on: Vec<Compute>,
    /// How many processes learned together, one number after the other where it wasn't the same throughout.
    #[serde(default = "alone", skip_serializing_if = "is_alone")]
    ranks: Vec<usize>,
    seconds: f64,
    /// How long of that the search's learning waited for batches.
    #[serde(default)]
    waited_seconds: f64,
    refine_images: usize,
    finalist_count: usize,
    finalist_epochs: usize,
    pub settings: SearchSettings,
    /// Costs on the first device, where there is one.
    costs: Option<CostMatrix>,
    /// All limits, with what networks need of what they limit.
    pub limits: Limits,
    /// The devices' parts, where the first limit is a weighted mean of them.
    #[serde(default)]
    weighted: Vec<Weighted>,
    /// What came of each.
    reached: Vec<Reached>,
    /// The devices of the tables.
    #[serde(default)]
    devices: Vec<String>,
    /// Units of the space whose cost was never measured.
    estimated: Vec<String>,
    probabilities: Vec<Vec<f64>>,
    curve: Vec<SearchPoint>,
    /// The gates over time.
    history: Vec<GatePoint>,
    /// Candidates that were cut, in order.
    cuts: Vec<Cut>,
    pub finalists: Vec<Finalist>,
    /// What was measured on the devices.
    #[serde(default)]
    pub measured: Vec<Measured>,
    /// Where.
    #[serde(default)]
    measure_on: Vec<String>,
    /// The limits' amounts that the network was derived within: the targets, as corrected by what was measured.
    #[serde(default)]
    pub within: Vec<f64>,
    /// Images that were left out.
    #[serde(default)]
    corrupt: Vec<Corrupt>,
    /// What was asked for besides the network.
    #[serde(flatten)]
    told: Told,
    /// How many networks that was to be: front, diagnosis; whether rivals were asked for.
    #[serde(default)]
    asked: (usize, usize, bool),
}

/// What a search tells besides the network that it found.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Told {
    /// The gates beside other ways to search.
    #[serde(default)]
    pub rivals: Vec<Rival>,
    /// A front of networks.
    #[serde(default)]
    pub pareto: Vec<FrontPoint>,
    /// How well the supernet ranks.
    #[serde(default)]
    pub diagnosis: Option<Diagnosis>,
}

fn latency() -> String {
    "latency".to_owned()
}

impl Record {
    /// What is known when gates have learned; how the network was derived and from what images is to be filled in.
    pub fn of(found: &Found, space: &SearchSpace, budgets: &Budgets, settings: SearchSettings) -> Self {
        let first = budgets.limits.first();
        let reached = found.limits.first();
        Self {
            format: 1,
            cost: budgets.cost.clone(),
            space: space.name().to_owned(),
            space_toml: space.text().to_owned(),
            architecture: found.architecture.to_string(),
            derived: found.architecture.to_string(),
            most_probable: found.most_probable.to_string(),
            expected_ms: reached.map_or(0.0, |reached| reached.expected),
            predicted_ms: first.demand.of(&found.architecture),
            target_ms: first.at_most,
            loss: settings.loss.to_string(),
            lambda: reached.map_or(0.0, |reached| reached.lambda),
            seed: settings.seed,
            dataset: String::new(),
            images: Images::default(),
            train_images: settings.train_images,
            validation_images: settings.validation_images,
            warmup_epochs: settings.warmup_epochs,
            search_epochs: settings.search_epochs,
            batch: settings.batch,
            threads: 0,
            computed_on: Vec::new(),
            ranks: alone(),
            seconds: 0.0,
            waited_seconds: 0.0,
            refine_images: 0,
            finalist_count: 0,
            finalist_epochs: 0,
            settings,
            costs: budgets.costs.clone(),
            limits: budgets.limits.clone(),
            weighted: budgets.weighted.clone(),
            reached: found.limits.clone(),
            devices: budgets.devices.clone(),
            estimated: budgets.estimated.clone(),
            probabilities: found.probabilities.clone(),
            curve: found.curve.clone(),
            history: found.history.clone(),
            cuts: found.cuts.clone(),
            finalists: Vec::new(),
            measured: Vec::new(),
            measure_on: Vec::new(),
            within: Vec::new(),
            corrupt: Vec::new(),
            told: Told::default(),
            asked: (0, 0, false),
        }
    }

    /// Says what was asked for besides the network.
    pub fn told(&mut self, options: &Options, told: Told) {
        (self.asked, self.told) = (asked(options), told);
    }

    /// Says what it took.
    pub fn took(&mut self, threads: usize, account: &Account) {
        (self.threads, self.seconds, self.waited_seconds) = (threads, account.seconds, account.waited_seconds);
        (self.computed_on, self.corrupt) = (account.computed_on.clone(), account.corrupt.clone());
        self.ranks.clone_from(&account.ranks);
    }

    /// Says how the network was derived from the gates.
    pub fn derived_by(&mut self, options: &Options) {
        (self.refine_images, self.finalist_count) = (options.refine_images, options.finalists);
        self.finalist_epochs = options.finalist_epochs;
        self.measure_on = options.measure_on.clone();
    }

    /// Whether the network was derived from the gates as these options say, and nothing is told that they don't ask for.
    pub fn is_derived_by(&self, options: &Options) -> bool {
        let ours = (self.refine_images, self.finalist_count, self.finalist_epochs);
        let (front, diagnosis, rivals) = self.asked;
        ours == (options.refine_images, options.finalists, options.finalist_epochs)
            && self.measure_on == options.measure_on
            && front <= options.pareto
            && diagnosis <= options.diagnose
            && rivals <= options.compare
    }

    /// Whether these options ask for more besides the network than is told.
    pub fn tells_less(&self, options: &Options) -> bool {
        self.asked != asked(options)
    }

    /// As it is written: names of amounts end with the unit of what is limited first.
    pub fn named(&self) -> Result<Value> {
        let unit = self.limits.first().unit.to_lowercase();
        Ok(renamed(serde_json::to_value(self)?, OURS, &suffix(&unit)))
    }

    /// Reads a file.
    pub fn read(path: &FilePath) -> Result<Self> {
        let text = std::fs::read(path).with_context(|| format!("can't read {}", path.display()))?;
        Self::parse(&text).with_context(|| {
            format!(
                "{}: it can't be read; one of an earlier release isn't gone on with: start anew with --force",
                path.display()
            )
        })
    }

    fn parse(text: &[u8]) -> Result<Self> {
        let value: Value = serde_json::from_slice(text)?;
        let unit = value.pointer("/limits/0/unit").and_then(Value::as_str).unwrap_or("ms").to_lowercase();
        Ok(serde_json::from_value(renamed(value, &suffix(&unit), OURS))?)
    }
}

/// What options ask for besides the network: front, diagnosis, rivals.
fn asked(options: &Options) -> (usize, usize, bool) {
    (options.pareto, options.diagnose, options.compare)
}

/// The end of names of amounts in a unit; `_of_target` for a weighted mean.
fn suffix(unit: &str) -> String {
    format!("_{}", unit.replace(' ', "_"))
}

/// A value with the names of amounts ending otherwise. What limits say of themselves stays as it is.
fn renamed(value: Value, from: &str, to: &str) -> Value {
    match value {
        Value::Object(map) => {
            let entry = |(name, value): (String, Value)| {
                if name == "limits" || name == "weighted" {
                    return (name, value);
                }
                let other = name.strip_suffix(from).map(|name| format!("{name}{to}"));
                (other.unwrap_or(name), renamed(value, from, to))
            };
            Value::Object(map.into_iter().map(entry).collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(|value| renamed(value, from, to)).collect()),
        other => other,
    }
}

/// Writes curve.csv, and gates.csv with every candidate's probability over time.
pub fn write_curves(folder: &FilePath, found: &Found, budgets: &Budgets) -> Result<()> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    found.curve.iter().try_for_each(|point| writer.serialize(point))?;
    let text = String::from_utf8(writer.into_inner().map_err(csv::IntoInnerError::into_error)?)?;
    let (header, rows) = text.split_once('\n').unwrap_or((&text, ""));
    let header = header.replace(OURS, &suffix(&budgets.suffix));
    write(&folder.join("curve.csv"), &format!("{header}\n{rows}"))?;
    let mut gates = String::from("step,decision,candidate,probability\n");
    for point in &found.history {
        for (decision, row) in point.probabilities.iter().enumerate() {
            for (candidate, p) in row.iter().enumerate() {
                writeln!(gates, "{},{decision},{candidate},{p}", point.step)?;
            }
        }
    }
    write(&folder.join("gates.csv"), &gates)
}

fn write(path: &FilePath, text: &str) -> Result<()> {
    write_atomically(path, text.as_bytes()).with_context(|| format!("can't write {}", path.display()))
}
