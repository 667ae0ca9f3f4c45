//! The host's side of an agent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use fleetfoot_protocol::{
    Health, MAGIC, Machine, PROTOCOL, Placement, Planned, Profiled, Record, Reply, Request, Series, Source, Timed,
    Timing,
};

use crate::campaign::Plan;
use crate::conditions::{Conditions, Context};
use crate::cost::Cost;
use crate::device::{DeviceConfig, TransportKind};
use crate::model::Onnx;
use crate::transport::{self, Link, Silent, Watch};
use crate::unready::{State, Unready, printable};
use crate::wire::{Lost, Wire};

/// The release, which is the agent's, too.
const TOOL: &str = env!("CARGO_PKG_VERSION");
/// How often in a row a connection may break off at the same request.
const TRIES: u32 = 5;

/// A model in an agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ModelId(u32);

/// A measuring process on a device, with its runtime loaded. Where the connection to the device breaks off, another one takes its place and
/// goes on where it was, with the same models.
pub struct Agent {
    // Dropped first, so that the agent has ended when what leads to the device is let go.
    wire: Option<Wire>,
    link: Arc<dyn Link>,
    watch: Arc<dyn Watch>,
    device: DeviceConfig,
    /// Whether the device has been reached before.
    was_there: bool,
    runtime: String,
    library: String,
    pinned: Vec<usize>,
    machine: Machine,
    next_model: u32,
    loaded: BTreeMap<u32, Onnx>,
    /// When the process began, or the first of those that took each other's place.
    began: Instant,
    /// What is added to the process' clock, so that it goes on over them.
    ahead_ns: u64,
    reconnections: u32,
    /// Memory that the process may still have, as it said last.
    available_bytes: Option<u64>,
    /// Models that were sent to be kept, by their digests; whether some of them weren't.
    sent: BTreeSet<String>,
    keeps_none: bool,
}

/// An agent that can't be had or can't go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// It can't be started or reached.
    #[error("device '{device}': {source}")]
    Connect {
        /// The device.
        device: String,
        /// Why.
        source: Unready,
    },
    /// It refused or failed a request, and goes on.
    #[error("device '{device}': {why}")]
    Failed {
        /// The device.
        device: String,
        /// The agent's own words.
        why: String,
    },
    /// It is gone.
    #[error("device '{device}': {what}")]
    Lost {
        /// The device.
        device: String,
        /// What is known.
        what: String,
    },
    /// It answers something else than was asked.
    #[error("device '{device}': the agent answered {got} to {asked}: use agent and host of one version")]
    Unexpected {
        /// The device.
        device: String,
        /// The request.
        asked: &'static str,
        /// The reply.
        got: String,
    },
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent")
            .field("device", &self.device.name)
            .field("runtime", &self.runtime)
            .finish_non_exhaustive()
    }
}

impl Agent {
    /// Connects to a device's agent, greets it, pins it and loads its runtime.
    pub fn start(device: &DeviceConfig) -> Result<Self, AgentError> {
        Self::start_watched(device, Arc::new(Silent))
    }

    /// The same, with somebody who is told what takes long, and may lose patience.
    pub fn start_watched(device: &DeviceConfig, watch: Arc<dyn Watch>) -> Result<Self, AgentError> {
        let link = transport::link(device, &watch)
            .map_err(|source| AgentError::Connect { device: device.name.clone(), source })?;
        let mut agent = Self {
            wire: None,
            link,
            watch,
            device: device.clone(),
            was_there: false,
            runtime: String::new(),
            library: String::new(),
            pinned: Vec::new(),
            machine: Machine::default(),
            next_model: 0,
            loaded: BTreeMap::new(),
            began: Instant::now(),
            ahead_ns: 0,
            reconnections: 0,
            available_bytes: None,
            sent: BTreeSet::new(),
            keeps_none: false,
        };
        agent.connect()?;
        Ok(agent)
    }

    /// A new process in place of this one, set up alike; what was loaded is gone.
    pub fn restart(&mut self) -> Result<(), AgentError> {
        self.loaded.clear();
        (self.ahead_ns, self.began) = (0, Instant::now());
        self.connect()
    }

    /// Starts a process in place of the one that there was, if any; waits for a device that can't be reached for a while.
    fn connect(&mut self) -> Result<(), AgentError> {
        let mut tries = 0;
        loop {
            self.wire = None;
            tries += 1;
            match self.connect_once() {
                Err(Broken::Cut(what)) if tries < TRIES => self.wait(&what)?,
                Err(Broken::Cut(what)) => return Err(AgentError::Lost { device: self.device.name.clone(), what }),
                Err(Broken::Off(error)) => return Err(error),
                Ok(()) => return Ok(()),
            }
        }
    }

    fn connect_once(&mut self) -> Result<(), Broken> {
        let device = self.device.name.clone();
        let was_there = self.was_there;
        let connection = self.link.connect().map_err(|source| {
            if was_there && source.state.is_out_of_reach() {
                Broken::Cut(source.what)
            } else {
                AgentError::Connect { device, source }.into()
            }
        })?;
        self.wire = Some(Wire::new(connection, self.link.is_remote()));
        self.greet()?;
        match self.ask_once(&Request::Open(self.device.setup()), &[])?.0 {
            Reply::Opened { runtime, library, pinned, machine } => {
                // What a device says is shown and written to files.
                let machine = Machine {
                    cpu: printable(&machine.cpu),
                    os: printable(&machine.os),
                    arch: printable(&machine.arch),
                    accelerators: machine.accelerators.iter().map(|name| printable(name)).collect(),
                    ..machine
                };
                (self.runtime, self.library) = (printable(&runtime), printable(&library));
                (self.pinned, self.machine) = (pinned, machine);
                Ok(())
            }
            other => Err(self.unexpected("open", &other).into()),
        }
    }

    fn greet(&mut self) -> Result<(), Broken> {
        let hello = Request::Hello { magic: MAGIC.to_owned(), protocol: PROTOCOL };
        let device = self.device.name.clone();
        let stale = |what: String| {
            let remedy = "use agent and host of one version";
            let source = Unready::new(State::StaleAgent, printable(&what), remedy);
            Broken::Off(AgentError::Connect { device: device.clone(), source })
        };
        let Some(wire) = &mut self.wire else { return Err(Broken::Cut("there is no agent".to_owned())) };
        match wire.ask(&hello, &[], &*self.link, &*self.watch) {
            Ok((Reply::Hello { magic, protocol, tool }, _)) if magic == MAGIC && protocol == PROTOCOL => {
                self.was_there = true;
                if tool == TOOL {
                    return Ok(());
                }
                Err(stale(format!("the agent is of fleetfoot {tool}, this is {TOOL}")))
            }
            Ok((Reply::Failed { why }, _)) => {
                Err(stale(why.split(": use agent").next().unwrap_or_default().to_owned()))
            }
            Ok((other, _)) => Err(self.unexpected("hello", &other).into()),
            Err(lost) if lost.is_foreign => {
                Err(stale(format!("the agent doesn't speak this version's protocol ({})", lost.what)))
            }
            Err(lost) => Err(self.broken(lost)),
        }
    }

    /// Waits until the device can be reached again.
    fn wait(&mut self, what: &str) -> Result<(), AgentError> {
        self.reconnections += 1;
        self.tell(&format!("{what}; waiting for it"));
        let failed = |source| AgentError::Connect { device: self.device.name.clone(), source };
        self.link.wait(&*self.watch).map_err(failed)
    }

    /// Another process in place of the one whose connection broke off, with the same models.
    fn reconnect(&mut self, what: &str) -> Result<(), AgentError> {
        let mut tries = 0;
        self.wait(what)?;
        loop {
            tries += 1;
            self.connect()?;
            self.ahead_ns = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
            let models: Vec<(u32, Onnx)> = self.loaded.iter().map(|(model, onnx)| (*model, onnx.clone())).collect();
            let reloaded = models.iter().try_for_each(|(model, onnx)| self.load_as(*model, onnx).map(drop));
            match reloaded {
                Err(Broken::Cut(what)) if tries < TRIES => self.wait(&what)?,
                Err(broken) => return Err(self.off(broken)),
                Ok(()) => return Ok(()),
            }
        }
    }

    /// Tells whoever watches something about the device.
    pub(crate) fn tell(&self, what: &str) {
        self.watch.tell(&format!("device '{}': {what}", self.device.name));
    }

    /// How often the connection broke off.
    pub fn reconnections(&self) -> u32 {
        self.reconnections
    }

    /// Bytes of memory that its process may still have, as it said behind the last model that was loaded.
    pub(crate) fn available_bytes(&self) -> Option<u64> {
        self.available_bytes
    }

    /// Whether it is on another machine, so that several visits are to be asked for at once.
    pub fn is_remote(&self) -> bool {
        self.link.is_remote()
    }

    /// What else the device is, and what agent is on it: names and values of a file's head.
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        self.link.facts()
    }

    /// The runtime's name and version.
    pub fn runtime(&self) -> &str {
        &self.runtime
    }

    /// The runtime's library on the device.
    pub fn library(&self) -> &str {
        &self.library
    }

    /// What the agent says of its machine.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The device's configuration.
    pub fn device(&self) -> &DeviceConfig {
        &self.device
    }

    /// Whether its numbers, and its clock, are a simulation's.
    pub fn is_simulated(&self) -> bool {
        self.device.transport == TransportKind::Mock
    }

    /// The conditions under which it measures latencies by this plan, networks in the device's precision at batch 1.
    pub fn conditions(&self, context: Context, plan: &Plan) -> Conditions {
        let optimisation = serde_json::to_value(self.device.optimisation).ok();
        let cores: Vec<String> = self.pinned.iter().map(usize::to_string).collect();
        Conditions {
            device: self.device.name.clone(),
            cpu: self.machine.cpu.clone(),
            accelerator: self.machine.accelerators.join("; "),
            runtime: self.runtime.clone(),
            provider: self.device.provider_with_options(),
            optimisation: optimisation.and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default(),
            threads: self.device.threads,
            cores: cores.join(" "),
            precision: Some(self.device.precision),
            batch: Some(1),
            context: context.to_string(),
            statistic: plan.statistic,
            cost: Cost::Latency,
            soak_seconds: plan.soak.as_secs(),
        }
    }

    /// Makes a session of an ONNX model.
    pub fn load(&mut self, onnx: impl Into<Onnx>) -> Result<ModelId, AgentError> {
        Ok(self.load_shaped(onnx)?.0)
    }

    /// The same, with the extents of the model's input.
    pub fn load_shaped(&mut self, onnx: impl Into<Onnx>) -> Result<(ModelId, Vec<usize>), AgentError> {
        let (model, onnx) = (self.next_model, onnx.into());
        let input = self.again(|agent| agent.load_as(model, &onnx))?;
        self.next_model += 1;
        if self.is_remote() {
            self.loaded.insert(model, onnx);
        }
        Ok((ModelId(model), input))
    }

    fn load_as(&mut self, model: u32, onnx: &Onnx) -> Result<Vec<usize>, Broken> {
        match self.ask_with(onnx, |source| Request::Load { model, source })? {
            Reply::Loaded { input, available_bytes, .. } => {
                self.available_bytes = available_bytes;
                Ok(input)
            }
            other => Err(self.unexpected("load", &other).into()),
        }
    }

    /// The reply to a request about a model, which is sent where the device doesn't have it.
    fn ask_with(&mut self, onnx: &Onnx, request: impl Fn(Source) -> Request) -> Result<Reply, Broken> {
        if !self.is_remote() {
            return Ok(self.ask_once(&request(Source { digest: None, payload: onnx.len() as u64 }), onnx)?.0);
        }
        let source = |payload| Source { digest: Some(onnx.digest().to_owned()), payload };
        match self.ask_once(&request(source(0)), &[])?.0 {
            Reply::Unkept => {
                if !self.sent.insert(onnx.digest().to_owned()) && !std::mem::replace(&mut self.keeps_none, true) {
                    self.tell("it has no space left to keep models in: they are sent whenever they are wanted, which takes longer");
                }
                Ok(self.ask_once(&request(source(onnx.len() as u64)), onnx)?.0)
            }
            reply => Ok(reply),
        }
    }

    /// Drops a session.
    pub fn unload(&mut self, model: ModelId) -> Result<(), AgentError> {
        let reply = self.ask(&Request::Unload { model: model.0 }, &[])?.0;
        self.loaded.remove(&model.0);
        match reply {
            Reply::Done => Ok(()),
            other => Err(self.unexpected("unload", &other)),
        }
    }

    /// Takes samples of a model.
    pub fn time(&mut self, model: ModelId, timing: Timing) -> Result<Timed, AgentError> {
        let asked = Instant::now();
        match self.ask(&Request::Time { model: model.0, timing }, &[])?.0 {
            Reply::Timed(timed)
                if timed.samples.len() == timing.samples as usize
                    && self.is_possible(std::slice::from_ref(&timed), asked) =>
            {
                Ok(self.of_all(timed))
            }
            other => Err(self.unexpected("time", &other)),
        }
    }

    /// Makes several visits one after the other on a device that is another machine, and keeps them there until the next ones. Brings those
    /// that were made: fewer than all where the connection broke off, or with an error behind them. `ahead_ns` is what
    /// the caller's time is ahead of this agent's.
    pub fn series(
        &mut self,
        session: &str,
        ahead_ns: u64,
        visits: &[((u32, u32), ModelId, Timing)],
    ) -> (Vec<Timed>, Result<(), AgentError>) {
        let planned = visits.iter().map(|&(tag, model, timing)| Planned { tag, model: model.0, timing });
        let planned: Vec<Planned> = planned.collect();
        let fits = |timed: &[Timed]| {
            let pairs = timed.iter().zip(&planned);
            timed.len() <= planned.len()
                && pairs
                    .fold(true, |fit, (timed, planned)| fit && timed.samples.len() == planned.timing.samples as usize)
        };
        let (mut tries, began) = (0, Instant::now());
        loop {
            tries += 1;
            // A process in place of another one has a clock of its own.
            let ahead_ns = ahead_ns.saturating_add(self.ahead_ns);
            let series = Series { session: session.to_owned(), ahead_ns, visits: planned.clone() };
            let asked = Instant::now();
            match self.ask_once(&Request::Series(series), &[]) {
                Ok((Reply::Series { timed, failed }, _))
                    if fits(&timed)
                        && (failed.is_some() || timed.len() == planned.len())
                        && self.is_possible(&timed, asked) =>
                {
                    let timed = timed.into_iter().map(|timed| self.of_all(timed)).collect();
                    let device = self.device.name.clone();
                    return (
                        timed,
                        failed.map_or(Ok(()), |why| Err(AgentError::Failed { device, why: printable(&why) })),
                    );
                }
                Ok((other, _)) => return (Vec::new(), Err(self.unexpected("series", &other))),
                Err(Broken::Cut(what)) if tries < TRIES => {
                    let before = self.ahead_ns;
                    let kept = self.reconnect(&what).and_then(|()| self.kept(session));
                    let kept = match kept {
                        Ok(kept) => kept,
                        Err(error) => return (Vec::new(), Err(error)),
                    };
                    let records =
                        kept.into_iter().zip(&planned).take_while(|(record, planned)| record.planned == **planned);
                    let timed: Vec<Timed> = records.map(|(record, _)| later(record.timed, before)).collect();
                    if fits(&timed) && !timed.is_empty() && self.is_possible(&timed, began) {
                        return (timed, Ok(()));
                    }
                }
                Err(broken) => return (Vec::new(), Err(self.off(broken))),
            }
        }
    }

    /// What the device keeps of a session's last series.
    pub fn kept(&mut self, session: &str) -> Result<Vec<Record>, AgentError> {
        match self.ask(&Request::Kept { session: session.to_owned() }, &[])?.0 {
            Reply::Kept { records } => Ok(records),
            other => Err(self.unexpected("kept", &other)),
        }
    }

    /// The host has all of a session: the device needn't keep it.
    pub fn forget(&mut self, session: &str) -> Result<(), AgentError> {
        match self.ask(&Request::Forget { session: session.to_owned() }, &[])?.0 {
            Reply::Done => {
                self.sent.clear();
                Ok(())
            }
            other => Err(self.unexpected("forget", &other)),
        }
    }

    /// Whether samples can have been taken since then: none takes longer than the answer did.
    fn is_possible(&self, timed: &[Timed], asked: Instant) -> bool {
        let all: u128 = timed.iter().flat_map(|timed| &timed.samples).map(|sample| u128::from(sample.wall_ns)).sum();
        // Two clocks may differ a little.
        self.is_simulated() || all <= asked.elapsed().as_nanos() * 11 / 10 + 10_000_000
    }

    /// As of one clock over all processes that took each other's place.
    fn of_all(&self, timed: Timed) -> Timed {
        later(timed, self.ahead_ns)
    }

    /// Where a model's nodes run: a few runs under the runtime's profiler, fallback allowed.
    pub fn place(&mut self, onnx: impl Into<Onnx>) -> Result<Placement, AgentError> {
        let onnx = onnx.into();
        match self.again(|agent| agent.ask_with(&onnx, Request::Place))? {
            Reply::Placed(placement) => Ok(placement),
            other => Err(self.unexpected("place", &other)),
        }
    }

    /// Profiles an ONNX model, node by node, in the order in which the nodes run.
    pub fn nodes(&mut self, onnx: impl Into<Onnx>, runs: u32) -> Result<Profiled, AgentError> {
        let onnx = onnx.into();
        match self.again(|agent| agent.ask_with(&onnx, |source| Request::Nodes { runs, source }))? {
            Reply::Nodes(profiled) => Ok(profiled),
            other => Err(self.unexpected("nodes", &other)),
        }
    }

    /// The machine's state now, as far as its system tells.
    pub fn look(&mut self) -> Result<Health, AgentError> {
        match self.ask(&Request::Look, &[])?.0 {
            Reply::Health(mut health) => {
                // What a device says is shown and written to files.
                let texts = [&mut health.clock, &mut health.power_profile, &mut health.slowed_by];
                texts.into_iter().flatten().for_each(|text| *text = printable(text));
                health.temperatures.iter_mut().for_each(|(name, _)| *name = printable(name));
                health.energy.iter_mut().for_each(|meter| meter.part = printable(&meter.part));
                health.accelerators.iter_mut().for_each(|gpu| gpu.name = printable(&gpu.name));
                health.at_ns = health.at_ns.saturating_add(self.ahead_ns);
                self.link.complement(&mut health);
                Ok(health)
            }
            other => Err(self.unexpected("look", &other)),
        }
    }

    /// The cores that the agent is pinned to.
    pub fn pinned(&self) -> &[usize] {
        &self.pinned
    }

    /// Runs a model on an fp32 input: extents and values of its output.
    pub fn run(&mut self, model: ModelId, dims: &[usize], input: &[f32]) -> Result<(Vec<usize>, Vec<f32>), AgentError> {
        let bytes: Vec<u8> = input.iter().flat_map(|x| x.to_le_bytes()).collect();
        let request = Request::Run { model: model.0, dims: dims.to_vec(), payload: bytes.len() as u64 };
        match self.ask(&request, &bytes)? {
            (Reply::Output { dims, .. }, bytes) if bytes.len() == 4 * dims.iter().product::<usize>() => {
                let (values, _) = bytes.as_chunks::<4>();
                Ok((dims, values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()))
            }
            (other, _) => Err(self.unexpected("run", &other)),
        }
    }

    /// The reply to a request; asked again where the connection broke off.
    fn ask(&mut self, request: &Request, payload: &[u8]) -> Result<(Reply, Vec<u8>), AgentError> {
        self.again(|agent| agent.ask_once(request, payload))
    }

    /// Does something again where the connection broke off meanwhile.
    fn again<T>(&mut self, mut ask: impl FnMut(&mut Self) -> Result<T, Broken>) -> Result<T, AgentError> {
        let mut tries = 0;
        loop {
            tries += 1;
            match ask(self) {
                Err(Broken::Cut(what)) if tries < TRIES => self.reconnect(&what)?,
                Err(broken) => return Err(self.off(broken)),
                Ok(done) => return Ok(done),
            }
        }
    }

    fn ask_once(&mut self, request: &Request, payload: &[u8]) -> Result<(Reply, Vec<u8>), Broken> {
        let Some(wire) = &mut self.wire else { return Err(Broken::Cut("there is no agent".to_owned())) };
        match wire.ask(request, payload, &*self.link, &*self.watch) {
            Ok((Reply::Failed { why }, _)) => {
                Err(AgentError::Failed { device: self.device.name.clone(), why: printable(&why) }.into())
            }
            Ok(reply) => Ok(reply),
            Err(lost) => Err(self.broken(lost)),
        }
    }

    fn broken(&mut self, lost: Lost) -> Broken {
        self.wire = None;
        if lost.is_cut && self.is_remote() {
            return Broken::Cut(lost.what);
        }
        AgentError::Lost { device: self.device.name.clone(), what: lost.what }.into()
    }

    fn off(&self, broken: Broken) -> AgentError {
        match broken {
            Broken::Cut(what) => AgentError::Lost { device: self.device.name.clone(), what },
            Broken::Off(error) => error,
        }
    }

    fn unexpected(&self, asked: &'static str, reply: &Reply) -> AgentError {
        let mut got = format!("{reply:?}");
        got.truncate(got.char_indices().nth(200).map_or(got.len(), |(index, _)| index));
        AgentError::Unexpected { device: self.device.name.clone(), asked, got }
    }
}

/// Why a request brought nothing.
enum Broken {
    /// The connection to another machine broke off: another one may be better.
    Cut(String),
    /// Anything else.
    Off(AgentError),
}

impl From<AgentError> for Broken {
    fn from(error: AgentError) -> Self {
        Self::Off(error)
    }
}

fn later(mut timed: Timed, ahead_ns: u64) -> Timed {
    timed.samples.iter_mut().for_each(|sample| sample.at_ns = sample.at_ns.saturating_add(ahead_ns));
    timed
}

impl AgentError {
    /// As a state of the device, with what to do.
    pub fn unready(&self) -> Unready {
        match self {
            Self::Connect { source, .. } => source.clone(),
            Self::Failed { why, .. } => {
                // The agent's words say both.
                let (what, remedy) = why
                    .split_once(": ")
                    .or_else(|| why.split_once("; "))
                    .unwrap_or((why, "see the device's configuration"));
                Unready::new(State::Unfit, what, remedy)
            }
            Self::Lost { what, .. } if what.contains("measures on this device") => {
                Unready::new(State::Busy, what.clone(), "wait until it has ended, or end it there")
            }
            Self::Lost { what, .. } => Unready::new(State::Failed, what.clone(), "try again"),
            Self::Unexpected { .. } => {
                Unready::new(State::StaleAgent, self.to_string(), "use agent and host of one version")
            }
        }
    }
}
