//! What a measurement depends on besides the operator.

use std::fmt;
use std::str::FromStr;

use fleetfoot_protocol::Pace;
use fleetfoot_space::{Precision, without_mark};
use serde::{Deserialize, Serialize};

use crate::campaign::BestPace;
use crate::cost::Cost;
use crate::disturbance::Sharing;
use crate::statistics::Statistic;

/// What surrounds a measured unit in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Context {
    /// Caches as cold as they are when the unit's turn comes in a network of its space.
    #[default]
    Cold,
    /// Back to back with itself: a whole network in a loop.
    Warm,
    /// Within whole networks of the space, from whose times the unit's cost is solved.
    Network,
}

impl Context {
    const ALL: [Self; 3] = [Self::Cold, Self::Warm, Self::Network];

    const fn name(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Warm => "warm",
            Self::Network => "network",
        }
    }

    /// How a unit was measured, as its row in a latency table says it.
    pub const fn measured(self) -> &'static str {
        match self {
            Self::Cold => "alone-cold",
            Self::Warm => "alone-warm",
            Self::Network => "network",
        }
    }

    /// Read back from a row.
    pub fn from_measured(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|context| context.measured() == text)
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A text that is no context.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a context: wanted cold, warm or network")]
pub struct ContextParseError(String);

impl FromStr for Context {
    type Err = ContextParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|context| context.name() == text);
        known.ok_or_else(|| ContextParseError(text.to_owned()))
    }
}

/// Everything that must agree before two measurements may be compared or added. Kept once per table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conditions {
    /// The device configuration's name.
    pub device: String,
    /// The processor.
    pub cpu: String,
    /// What else the execution provider may compute with, such as a GPU, and its driver's version; empty where there is nothing.
    #[serde(default)]
    pub accelerator: String,
    /// Name and version of the runtime.
    pub runtime: String,
    /// Execution provider, with the options that it was given.
    pub provider: String,
    /// Graph optimisation level.
    pub optimisation: String,
    /// Threads of one operator.
    pub threads: usize,
    /// Cores that the measuring process was pinned to, such as `0 1`.
    pub cores: String,
    /// Number format of what was measured; `None` where each model has its own.
    pub precision: Option<Precision>,
    /// Batch size of what was measured; `None` where each model has its own.
    pub batch: Option<usize>,
    /// What lies between two runs.
    pub context: String,
    /// What a latency is of its samples.
    pub statistic: Statistic,
    /// What was measured of it.
    #[serde(default)]
    pub cost: Cost,
    /// How long the device was kept busy before anything counted, in seconds: what is measured then is its sustained speed.
    #[serde(default)]
    pub soak_seconds: u64,
}

/// What is so where a file's head doesn't say it: such files are of the latency in fp32 at batch 1 of a processor that had rested.
const UNSAID: [(&str, &str); 5] =
    [("precision", "fp32"), ("batch", "1"), ("cost", "latency"), ("soak_seconds", "0"), ("accelerator", NONE)];

/// What stands for no accelerator.
const NONE: &str = "none";

/// What stands for the precision and the batch size of models that have their own.
const OWN: &str = "each model's own";

/// The conditions that differ: name, ours, theirs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Differences(pub Vec<(&'static str, String, String)>);

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, ours, theirs)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{name}: '{ours}' against '{theirs}'")?;
        }
        Ok(())
    }
}

impl Conditions {
    const NAMES: [&str; 14] = [
        "device",
        "cpu",
        "accelerator",
        "runtime",
        "provider",
        "optimisation",
        "threads",
        "cores",
        "precision",
        "batch",
        "context",
        "statistic",
        "cost",
        "soak_seconds",
    ];

    /// The same for networks of another batch size.
    pub fn at_batch(self, batch: usize) -> Self {
        Self { batch: Some(batch), ..self }
    }

    /// The same for another cost.
    pub fn of_cost(self, cost: Cost) -> Self {
        Self { cost, ..self }
    }

    fn values(&self) -> [String; 14] {
        let own = || OWN.to_owned();
        [
            self.device.clone(),
            self.cpu.clone(),
            if self.accelerator.is_empty() { NONE.to_owned() } else { self.accelerator.clone() },
            self.runtime.clone(),
            self.provider.clone(),
            self.optimisation.clone(),
            self.threads.to_string(),
            self.cores.clone(),
            self.precision.map_or_else(own, |precision| precision.to_string()),
            self.batch.map_or_else(own, |batch| batch.to_string()),
            self.context.clone(),
            self.statistic.to_string(),
            self.cost.to_string(),
            self.soak_seconds.to_string(),
        ]
    }

    /// Where the heads of a latency table and of networks' measurements contradict each other: what one of them doesn't say is no
    /// contradiction. Contexts differ by nature.
    pub fn contradictions(table: &Provenance, networks: &Provenance) -> Differences {
        let differing = Self::NAMES.into_iter().filter(|name| *name != "context").filter_map(|name| {
            let (ours, theirs) = (said(table, name)?, said(networks, name)?);
            (ours != theirs).then(|| (name, ours.to_owned(), theirs.to_owned()))
        });
        Differences(differing.collect())
    }

    fn differing(&self, other: &Self, skip: &[&str]) -> Result<(), Differences> {
        let pairs = Self::NAMES.into_iter().zip(self.values().into_iter().zip(other.values()));
        let differing = pairs
            .filter(|(name, (ours, theirs))| ours != theirs && !skip.contains(name))
            .map(|(name, (ours, theirs))| (name, ours, theirs));
        let differences: Vec<_> = differing.collect();
        if differences.is_empty() { Ok(()) } else { Err(Differences(differences)) }
    }

    /// Whether the calling thread does all the work: only then can interruptions be told from waiting. Other providers than
    /// the CPU's have threads or devices of their own.
    pub fn computes_in_caller(&self) -> bool {
        self.threads == 1 && self.provider == "cpu"
    }

    /// Whether measurements under both may stand in one table.
    pub fn compatible(&self, other: &Self) -> Result<(), Differences> {
        self.differing(other, &[])
    }

    /// Whether predictions made under these conditions may be held against networks measured under the other ones:
    /// units and whole networks differ in their context by nature.
    pub fn predicts(&self, networks: &Self) -> Result<(), Differences> {
        self.differing(networks, &["context"])
    }

    /// As lines for a file's head.
    pub fn to_provenance(&self, provenance: &mut Provenance) {
        let stated = Self::NAMES.into_iter().zip(self.values()).filter(|(_, value)| value != OWN);
        stated.for_each(|(name, value)| provenance.set(name, value));
    }

    /// Read back from a file's head; `None` where one is missing, but for the accelerator, precision, batch size, cost
    /// and soak: files that don't say them are of the latency in fp32 at batch 1 of a processor that had rested.
    pub fn from_provenance(provenance: &Provenance) -> Option<Self> {
        let text = |name: &str| said(provenance, name).map(str::to_owned);
        Some(Self {
            device: text("device")?,
            cpu: text("cpu")?,
            accelerator: text("accelerator").filter(|accelerator| accelerator != NONE).unwrap_or_default(),
            runtime: text("runtime")?,
            provider: text("provider")?,
            optimisation: text("optimisation")?,
            threads: text("threads")?.parse().ok()?,
            cores: text("cores")?,
            precision: text("precision")?.parse().ok(),
            batch: text("batch")?.parse().ok(),
            context: text("context")?,
            statistic: Statistic::from_str(&text("statistic")?).ok()?,
            cost: text("cost")?.parse().ok()?,
            soak_seconds: text("soak_seconds")?.parse().ok()?,
        })
    }
}

fn said<'a>(provenance: &'a Provenance, name: &str) -> Option<&'a str> {
    let unsaid = || UNSAID.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    provenance.get(name).or_else(unsaid)
}

/// Names of the core's usual pace in a file's head.
const CHAIN: &str = "pace_chain_ns";
const WIDE: &str = "pace_wide_ns";
const TALK: &str = "pace_talk_ns";
/// Name of the best pace of dense vector arithmetic.
const VECTOR: &str = "best_vector_ns";
/// Name of what the machine usually was slower by.
const SLOWER: &str = "usually_slower_percent";

/// Where a file's numbers come from: `# name: value` lines in front of its header.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance(Vec<(String, String)>);

impl Provenance {
    /// Sets a value; names keep the order in which they were first set. Line breaks become spaces.
    pub fn set(&mut self, name: &str, value: impl fmt::Display) {
        let value = value.to_string().replace(['\n', '\r'], " ");
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    /// A value by its name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// All names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The core's usual pace while it was measured.
    pub fn pace(&self) -> Option<Pace> {
        let ns = |name: &str| self.get(name)?.parse().ok().filter(|ns| *ns > 0);
        Some(Pace { chain_ns: ns(CHAIN)?, wide_ns: ns(WIDE)?, talk_ns: ns(TALK).unwrap_or_default() })
    }

    /// Sets the core's usual pace.
    pub fn set_pace(&mut self, pace: Pace) {
        self.set(CHAIN, pace.chain_ns);
        self.set(WIDE, pace.wide_ns);
        if pace.talk_ns > 0 {
            self.set(TALK, pace.talk_ns);
        }
    }

    /// Sets at what pace of dense vector arithmetic it stands, and by how much the machine usually was slower; `None` where it stands at
    /// the usual one.
    pub fn set_best_pace(&mut self, best: Option<BestPace>) {
        let Some(best) = best else {
            self.0.retain(|(name, _)| ![VECTOR, SLOWER].contains(&name.as_str()));
            return;
        };
        self.set(VECTOR, format!("{:.0}", best.vector_ns));
        self.set(SLOWER, format!("{:.1}", 100.0 * (best.slower - 1.0)));
    }

    /// The pace of dense vector arithmetic at which it stands, in ns.
    pub fn best_vector_ns(&self) -> Option<f64> {
        self.get(VECTOR)?.parse().ok().filter(|ns| *ns > 0.0)
    }

    /// Sets how often somebody else was on the core's units.
    pub fn set_sharing(&mut self, sharing: Sharing) {
        self.set("shared_percent", format!("{:.1}", 100.0 * sharing.share));
        if sharing.is_crowded {
            self.set("hardly_ever_alone", true);
        }
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The `#` lines in front of a text.
    pub fn from_head(text: &str) -> Self {
        let mut provenance = Self::default();
        for line in without_mark(text).lines().map_while(|line| line.strip_prefix('#')) {
            if let Some((name, value)) = line.split_once(':') {
                provenance.set(name.trim(), value.trim());
            }
        }
        provenance
    }

    /// As `#` lines.
    pub fn to_head(&self) -> String {
        self.iter().map(|(name, value)| format!("# {name}: {value}\n")).collect()
    }
}
