//! The host's side of an agent.

use std::io::{self, BufReader, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use fleetfoot_protocol::{
    FrameError, Health, MAGIC, Machine, PROTOCOL, Placement, Profiled, Reply, Request, Timed, Timing, read_message,
    write_message,
};

use crate::campaign::Plan;
use crate::conditions::{Conditions, Context};
use crate::cost::Cost;
use crate::device::{DeviceConfig, TransportKind};
use crate::transport::{self, Peer};

/// How long an answer may take before the agent counts as hanging.
const PATIENCE: Duration = Duration::from_secs(180);

/// A model in an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ModelId(u32);

/// A measuring process on a device, with its runtime loaded.
pub struct Agent {
    // Dropped first, so that the agent sees the end of its input before its process is waited for.
    to: Box<dyn Write + Send>,
    replies: Receiver<Result<(Reply, Vec<u8>), FrameError>>,
    peer: Box<dyn Peer>,
    device: DeviceConfig,
    runtime: String,
    library: String,
    pinned: Vec<usize>,
    machine: Machine,
    next_model: u32,
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
        source: io::Error,
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
        let connection =
            transport::connect(device).map_err(|source| AgentError::Connect { device: device.name.clone(), source })?;
        let (sender, replies) = channel();
        let mut from = BufReader::new(connection.from);
        thread::spawn(move || {
            loop {
                let message = read_message::<Reply>(&mut from);
                let ended = message.is_err();
                if sender.send(message).is_err() || ended {
                    return;
                }
            }
        });
        let mut agent = Self {
            to: connection.to,
            replies,
            peer: connection.peer,
            device: device.clone(),
            runtime: String::new(),
            library: String::new(),
            pinned: Vec::new(),
            machine: Machine::default(),
            next_model: 0,
        };
        agent.greet()?;
        match agent.ask(&Request::Open(device.setup()), &[])?.0 {
            Reply::Opened { runtime, library, pinned, machine } => {
                (agent.runtime, agent.library, agent.pinned, agent.machine) = (runtime, library, pinned, machine);
                Ok(agent)
            }
            other => Err(agent.unexpected("open", &other)),
        }
    }

    /// A new process in place of this one, set up alike; what was loaded is gone.
    pub fn restart(&mut self) -> Result<(), AgentError> {
        let device = self.device.clone();
        *self = Self::start(&device)?;
        Ok(())
    }

    fn greet(&mut self) -> Result<(), AgentError> {
        let hello = Request::Hello { magic: MAGIC.to_owned(), protocol: PROTOCOL };
        match self.ask(&hello, &[])?.0 {
            Reply::Hello { magic, protocol, .. } if magic == MAGIC && protocol == PROTOCOL => Ok(()),
            other => Err(self.unexpected("hello", &other)),
        }
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
    pub fn load(&mut self, onnx: &[u8]) -> Result<ModelId, AgentError> {
        Ok(self.load_shaped(onnx)?.0)
    }

    /// The same, with the extents of the model's input.
    pub fn load_shaped(&mut self, onnx: &[u8]) -> Result<(ModelId, Vec<usize>), AgentError> {
        let model = self.next_model;
        match self.ask(&Request::Load { model, payload: onnx.len() as u64 }, onnx)?.0 {
            Reply::Loaded { input, .. } => {
                self.next_model += 1;
                Ok((ModelId(model), input))
            }
            other => Err(self.unexpected("load", &other)),
        }
    }

    /// Drops a session.
    pub fn unload(&mut self, model: ModelId) -> Result<(), AgentError> {
        match self.ask(&Request::Unload { model: model.0 }, &[])?.0 {
            Reply::Done => Ok(()),
            other => Err(self.unexpected("unload", &other)),
        }
    }

    /// Takes samples of a model.
    pub fn time(&mut self, model: ModelId, timing: Timing) -> Result<Timed, AgentError> {
        match self.ask(&Request::Time { model: model.0, timing }, &[])?.0 {
            Reply::Timed(timed) if timed.samples.len() == timing.samples as usize => Ok(timed),
            other => Err(self.unexpected("time", &other)),
        }
    }

    /// Where a model's nodes run: a few runs under the runtime's profiler, fallback allowed.
    pub fn place(&mut self, onnx: &[u8]) -> Result<Placement, AgentError> {
        match self.ask(&Request::Place { payload: onnx.len() as u64 }, onnx)?.0 {
            Reply::Placed(placement) => Ok(placement),
            other => Err(self.unexpected("place", &other)),
        }
    }

    /// Profiles an ONNX model, node by node, in the order in which the nodes run.
    pub fn nodes(&mut self, onnx: &[u8], runs: u32) -> Result<Profiled, AgentError> {
        match self.ask(&Request::Nodes { runs, payload: onnx.len() as u64 }, onnx)?.0 {
            Reply::Nodes(profiled) => Ok(profiled),
            other => Err(self.unexpected("nodes", &other)),
        }
    }

    /// The machine's state now, as far as its system tells.
    pub fn look(&mut self) -> Result<Health, AgentError> {
        match self.ask(&Request::Look, &[])?.0 {
            Reply::Health(health) => Ok(health),
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

    fn ask(&mut self, request: &Request, payload: &[u8]) -> Result<(Reply, Vec<u8>), AgentError> {
        if let Err(error) = write_message(&mut self.to, request, payload) {
            return Err(self.lost(&error));
        }
        match self.replies.recv_timeout(PATIENCE) {
            Ok(Ok((Reply::Failed { why }, _))) => Err(AgentError::Failed { device: self.device.name.clone(), why }),
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => Err(self.lost(&error)),
            Err(RecvTimeoutError::Disconnected) => Err(self.lost(&FrameError::Closed)),
            Err(RecvTimeoutError::Timeout) => {
                let what = format!("the agent hasn't answered for {} s", PATIENCE.as_secs());
                Err(AgentError::Lost { device: self.device.name.clone(), what })
            }
        }
    }

    fn lost(&mut self, error: &FrameError) -> AgentError {
        let what = format!("{error}: {}", self.peer.epitaph());
        AgentError::Lost { device: self.device.name.clone(), what }
    }

    fn unexpected(&self, asked: &'static str, reply: &Reply) -> AgentError {
        let mut got = format!("{reply:?}");
        got.truncate(got.char_indices().nth(200).map_or(got.len(), |(index, _)| index));
        AgentError::Unexpected { device: self.device.name.clone(), asked, got }
    }
}
