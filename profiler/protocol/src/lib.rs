//! What `fleetfoot` and `fleetfoot-agent` say to each other, over any byte stream.
//!
//! A message is one line of JSON; models and tensors follow their line as raw bytes whose number the line states.
//! The host asks, the agent answers each request with one reply, in order. Everything received is treated as hostile:
//! lines and payloads are bounded, and nothing panics on bad bytes.

mod folder;
mod frame;
mod health;
mod placement;
mod serve;

pub use folder::{Folder, hex};
pub use frame::{FrameError, MAX_LINE, MAX_PAYLOAD, read_message, write_message};
pub use health::{Accelerator, Battery, Core, EnergyMeter, Health, Ticks};
pub use placement::{Placed, Placement};
pub use serve::{Engine, EngineError, serve};

use std::collections::BTreeMap;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// First word of both greetings.
pub const MAGIC: &str = "fleetfoot-agent";
/// Version of the messages. Host and agent must agree.
pub const PROTOCOL: u32 = 8;

/// How much a runtime may rewrite a model before it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Optimisation {
    /// Not at all.
    Disable,
    /// Fusions that hold on every provider; no blocked layout (NCHWc) on the CPU.
    Basic,
    /// Fusions of the CPU provider too.
    Extended,
    /// Everything, the blocked layout included.
    #[default]
    All,
}

/// Whether ONNX Runtime's CPU kernels may run what the execution provider doesn't take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fallback {
    /// No: a model of which a node would run elsewhere isn't loaded.
    #[default]
    Forbid,
    /// Yes, and how much ran where is recorded.
    Allow,
}

/// Cores of one kind, by the highest frequency that they are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cluster {
    /// Those of the highest.
    Big,
    /// Those of neither the highest nor the lowest.
    Middle,
    /// Those of the lowest.
    Little,
}

/// What the agent's process is set up for; it holds until its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// The runtime's library; where absent, the agent looks for one.
    pub library: Option<String>,
    /// Execution provider, such as `cpu`.
    pub provider: String,
    /// Options that are passed on to the provider.
    pub provider_options: BTreeMap<String, String>,
    /// The provider's own library, where it is a plugin; where absent, the agent looks for one.
    pub provider_library: Option<String>,
    /// What happens to nodes that the provider doesn't take.
    pub fallback: Fallback,
    /// Graph optimisation level.
    pub optimisation: Optimisation,
    /// Threads of one operator.
    pub threads: usize,
    /// Cores that the process is pinned to; empty: chosen by the agent, as many as threads.
    pub cores: Vec<usize>,
    /// The cluster that the agent chooses them from; absent: any.
    #[serde(default)]
    pub cluster: Option<Cluster>,
}

/// How to take samples of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// Untimed runs in front.
    pub warmup: u32,
    /// Number of samples.
    pub samples: u32,
    /// Runs that one sample sums.
    pub batch: u32,
    /// Bytes touched before every run, so that caches are as cold as they are in a network.
    /// At 0 the runs of a sample are timed back to back.
    pub evict_bytes: u64,
}

/// One timed stretch: `batch` runs of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Start, in nanoseconds since the agent started.
    pub at_ns: u64,
    /// Wall time of all its runs, in nanoseconds, evictions not counted.
    pub wall_ns: u64,
    /// CPU time of the calling thread in the same stretches, in nanoseconds; 0 where the system doesn't tell.
    pub cpu_ns: u64,
}

/// How fast the core is at a moment, whatever it measures, or the slowest of several: the time of two loads that never change. Times of one machine
/// compare with each other, those of different machines don't.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// A chain of dependent integer operations, in nanoseconds: the clock.
    pub chain_ns: u64,
    /// More independent integer operations than the core can start at once, in nanoseconds: what others leave of its units.
    pub wide_ns: u64,
    /// What a word takes from one of several cores to the next, in nanoseconds: how far they are from each other; 0 for a single one,
    /// or where it isn't known.
    #[serde(default)]
    pub talk_ns: u64,
}

/// How fast dense vector arithmetic is on a core at a moment: the time of a chunk of independent multiply-adds of its widest vectors. 0
/// where it isn't known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VectorPace {
    /// The fastest of some hundred chunks, in nanoseconds: the clock under vectors.
    pub best_ns: u64,
    /// Their mean, in nanoseconds: what halts of the core add is part of it, what interrupts add is not.
    pub mean_ns: u64,
}

/// Samples of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timed {
    /// As many as were asked for, in order.
    pub samples: Vec<Sample>,
    /// What all of it took, evictions between the samples included.
    pub whole: Whole,
    /// The pace before the first of them and behind the last.
    pub paces: [Pace; 2],
    /// That of dense vector arithmetic, behind the last.
    pub vectors: VectorPace,
}

/// What a visit took from its first sample to its last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whole {
    /// Wall time, in nanoseconds.
    pub wall_ns: u64,
    /// CPU time of the calling thread, in nanoseconds; 0 where the system doesn't tell.
    pub cpu_ns: u64,
}

impl Whole {
    /// The share of it in which the calling thread didn't have its core; `None` where the system doesn't tell.
    pub fn lost(self) -> Option<f64> {
        (self.cpu_ns > 0).then(|| 1.0 - self.cpu_ns as f64 / self.wall_ns.max(1) as f64)
    }
}

impl AddAssign for Whole {
    fn add_assign(&mut self, other: Self) {
        self.wall_ns += other.wall_ns;
        self.cpu_ns += other.cpu_ns;
    }
}

/// What one node of the graph that a runtime made of a model took, over all profiled runs together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeTime {
    /// Its name after the runtime's rewriting: the model's own where the node is still there.
    pub name: String,
    /// Its operator.
    pub op: String,
    /// How often it ran.
    pub calls: u64,
    /// Sum of its durations. The runtime cuts each to whole microseconds.
    pub kernel_us: u64,
    /// Sum of the times from its start to the next node's start, or to the end of its run. Starts are cut to whole
    /// microseconds as well, but what is cut off averages out in their differences; the profile's own writing is part
    /// of them.
    pub span_us: u64,
}

/// A model's nodes, and what a run of it takes when nobody writes down what they do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profiled {
    /// One entry a node, in the order in which they ran.
    pub nodes: Vec<NodeTime>,
    /// A run of the same session right behind the profiled ones, the call included, in nanoseconds.
    pub plain_ns: u64,
    /// The cores' usual pace at the profiled runs and at the plain ones, of those that count.
    pub paces: [Pace; 2],
}

/// An ONNX model: bytes that follow, or one that the agent keeps in its folder. One that follows with its digest is kept
/// there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// SHA-256 of the model, in hexadecimal; absent: it is neither kept nor to be found there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Bytes that follow; 0: the agent has it, else the answer is [`Reply::Unkept`].
    pub payload: u64,
}

/// Several visits, one behind the other, about which nothing is said until all are over: nobody talks while the device
/// measures. Each is in the session's file before the next one begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Series {
    /// What they belong to: SHA-256 in hexadecimal.
    pub session: String,
    /// The host's word on the agent's clock, kept with every record.
    pub ahead_ns: u64,
    /// In order.
    pub visits: Vec<Planned>,
}

/// A visit of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// The host's names for it, kept with its record: the round, and the subject in it.
    pub tag: (u32, u32),
    /// Which model.
    pub model: u32,
    /// How.
    pub timing: Timing,
}

/// A visit that the agent keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// As in its series.
    pub ahead_ns: u64,
    /// As it was planned.
    pub planned: Planned,
    /// What it brought.
    pub timed: Timed,
}

/// What the host asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Request {
    /// The greeting; the answer is [`Reply::Hello`].
    Hello {
        /// [`MAGIC`].
        magic: String,
        /// [`PROTOCOL`].
        protocol: u32,
    },
    /// Pin, load the runtime: [`Reply::Opened`].
    Open(Setup),
    /// Make a session of an ONNX model: [`Reply::Loaded`].
    Load {
        /// The host's number for it.
        model: u32,
        /// The model.
        #[serde(flatten)]
        source: Source,
    },
    /// Drop a session: [`Reply::Done`].
    Unload {
        /// Which.
        model: u32,
    },
    /// Time a model on an input of random values: [`Reply::Timed`].
    Time {
        /// Which.
        model: u32,
        /// How.
        timing: Timing,
    },
    /// Time several models one after the other: [`Reply::Series`].
    Series(Series),
    /// What is kept of a session's last series: [`Reply::Kept`].
    Kept {
        /// Which.
        session: String,
    },
    /// Delete what is kept, models too: [`Reply::Done`].
    Forget {
        /// Which session.
        session: String,
    },
    /// Run a model on the fp32 input that follows: [`Reply::Output`].
    Run {
        /// Which.
        model: u32,
        /// Extents of the input.
        dims: Vec<usize>,
        /// Bytes that follow.
        payload: u64,
    },
    /// Run an ONNX model under the runtime's profiler: [`Reply::Placed`].
    Place(Source),
    /// Profile an ONNX model, node by node, in a session of its own: [`Reply::Nodes`].
    Nodes {
        /// Profiled runs, behind two that aren't.
        runs: u32,
        /// The model.
        #[serde(flatten)]
        source: Source,
    },
    /// Look at the machine: [`Reply::Health`].
    Look,
    /// The end: [`Reply::Done`], then the agent exits.
    Quit,
}

/// What an agent says of its machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Operating system and its version.
    pub os: String,
    /// Instruction set, such as `x86_64`.
    pub arch: String,
    /// Cores that the process may run on.
    pub cores: usize,
    /// All cores by the highest frequency that they are made for, in kHz, the slowest first; empty where it isn't told.
    #[serde(default)]
    pub clusters: Vec<(u64, Vec<usize>)>,
    /// What else it may compute with, by the execution provider: GPUs and the like, with their drivers' versions.
    #[serde(default)]
    pub accelerators: Vec<String>,
}

/// What the agent answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// The greeting.
    Hello {
        /// [`MAGIC`].
        magic: String,
        /// [`PROTOCOL`].
        protocol: u32,
        /// The agent's own version.
        tool: String,
    },
    /// The runtime is loaded.
    Opened {
        /// Name and version, such as `ONNX Runtime 1.31.1`.
        runtime: String,
        /// The library's path on the device.
        library: String,
        /// The cores that the process is pinned to.
        pinned: Vec<usize>,
        /// The machine.
        machine: Machine,
    },
    /// The session is made.
    Loaded {
        /// Extents of the model's input.
        input: Vec<usize>,
        /// Extents of the model's output.
        output: Vec<usize>,
        /// Bytes of memory that the agent's process may still have, as in [`Health`].
        #[serde(default)]
        available_bytes: Option<u64>,
    },
    /// The agent doesn't keep that model: it is to be sent.
    Unkept,
    /// The samples.
    Timed(Timed),
    /// The visits of a series, in order.
    Series {
        /// All of them, or those in front of the one that failed.
        timed: Vec<Timed>,
        /// Why that failed, for people.
        failed: Option<String>,
    },
    /// What is kept of a session's last series.
    Kept {
        /// In order.
        records: Vec<Record>,
    },
    /// The fp32 output follows.
    Output {
        /// Its extents.
        dims: Vec<usize>,
        /// Bytes that follow.
        payload: u64,
    },
    /// Where the model's nodes ran.
    Placed(Placement),
    /// What each node took, in the order in which they ran.
    Nodes(Profiled),
    /// What the machine's state is now.
    Health(Health),
    /// Done, with nothing to tell.
    Done,
    /// The request failed; the agent goes on.
    Failed {
        /// Why, for people.
        why: String,
    },
}

/// Messages that are followed by raw bytes say how many.
pub trait Payload {
    /// Bytes that follow the line.
    fn payload(&self) -> u64;
}

impl Payload for Request {
    fn payload(&self) -> u64 {
        match self {
            Self::Load { source, .. } | Self::Place(source) | Self::Nodes { source, .. } => source.payload,
            Self::Run { payload, .. } => *payload,
            _ => 0,
        }
    }
}

impl Payload for Reply {
    fn payload(&self) -> u64 {
        match self {
            Self::Output { payload, .. } => *payload,
            _ => 0,
        }
    }
}
