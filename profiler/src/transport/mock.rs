//! A simulated agent in a thread: instant, and the same numbers for the same requests.

use std::collections::HashMap;
use std::io::{self, BufReader};
use std::thread;

use fleetfoot_protocol::{
    EnergyMeter, Engine, EngineError, Health, Machine, NodeTime, Pace, Placed, Placement, Profiled, Sample, Setup,
    Timed, Timing, VectorPace, Whole, serve,
};
use fleetfoot_space::{OnnxNode, onnx_nodes};

use super::{Connection, Link, Peer};
use crate::unready::{State, Unready};

/// The simulation.
pub(super) struct Mock;

impl Link for Mock {
    fn connect(&self) -> Result<Connection, Unready> {
        connected().map_err(|error| Unready::new(State::Failed, format!("no pipes ({error})"), "close some files"))
    }
}

fn connected() -> io::Result<Connection> {
    let (agent_from, host_to) = io::pipe()?;
    let (host_from, mut agent_to) = io::pipe()?;
    thread::spawn(move || serve(&mut BufReader::new(agent_from), &mut agent_to, &mut Simulation::default(), None));
    Ok(Connection { from: Box::new(host_from), to: Box::new(host_to), peer: Box::new(Thread) })
}

struct Thread;

impl Peer for Thread {
    fn epitaph(&mut self) -> String {
        "the simulated agent ended".to_owned()
    }
}

/// The core's pace, which never changes.
const PACES: [Pace; 2] = [Pace { chain_ns: 5_000, wide_ns: 2_000, talk_ns: 0 }; 2];
/// Bytes of a model that cost a nanosecond.
const NS_BYTES: u64 = 4;
/// What a run of a model takes.
fn latency_ns(onnx: &[u8]) -> u64 {
    2_000 + onnx.len() as u64 / NS_BYTES
}

/// What profiling adds to each node.
const WRITING_NS: u64 = 3_000;

/// The provider option that says how much memory it has.
const MEMORY: &str = "memory_mib";
/// What a loaded model takes of it, in its own bytes.
const LOADED: u64 = 2;

/// Latency and memory grow with the model's size, energy with time; noise of about 1 % depends on the size and the sample's number only.
#[derive(Default)]
struct Simulation {
    /// What a run takes, and memory.
    models: HashMap<u32, (u64, u64)>,
    clock_ns: u64,
    /// Bytes of memory; absent: as many as anybody wants.
    memory: Option<u64>,
    /// Of the largest model so far.
    largest: u64,
}

/// Memory of a simulated process without a model, in bytes.
const EMPTY_PROCESS: u64 = 10 << 20;
/// What a simulated machine takes, in watts.
const WATTS: u64 = 2;

impl Engine for Simulation {
    fn open(&mut self, setup: &Setup) -> Result<(String, String, Vec<usize>, Machine), EngineError> {
        // Whatever else there is is a real provider's.
        if let Some(value) = setup.provider_options.get(MEMORY) {
            let wrong = |_| EngineError(format!("{MEMORY} = \"{value}\": wanted a number of MiB"));
            self.memory = Some(value.parse::<u64>().map_err(wrong)? << 20);
        }
        let machine = Machine {
            cpu: "simulation".into(),
            os: "none".into(),
            arch: "none".into(),
            cores: 1,
            ..Machine::default()
        };
        Ok(("simulation 1".into(), String::new(), setup.cores.clone(), machine))
    }

    fn load(&mut self, model: u32, onnx: &[u8]) -> Result<(Vec<usize>, Vec<usize>), EngineError> {
        let bytes = LOADED * onnx.len() as u64;
        if self.available_bytes().is_some_and(|available| available < bytes) {
            return Err(EngineError("the simulated memory is full".to_owned()));
        }
        self.models.insert(model, (latency_ns(onnx), bytes));
        self.largest = self.largest.max(onnx.len() as u64);
        Ok((Vec::new(), Vec::new()))
    }

    fn unload(&mut self, model: u32) -> Result<(), EngineError> {
        self.models.remove(&model).map(drop).ok_or_else(|| EngineError(format!("no model {model} is loaded")))
    }

    fn time(&mut self, model: u32, timing: &Timing) -> Result<Timed, EngineError> {
        let unknown = || EngineError(format!("no model {model} is loaded"));
        let (base, _) = *self.models.get(&model).ok_or_else(unknown)?;
        let samples = (0..u64::from(timing.samples)).map(|index| {
            let noise = (index * 37 + base * 11) % 21;
            let wall_ns = base * u64::from(timing.batch) * (990 + noise) / 1000;
            self.clock_ns += wall_ns;
            Sample { at_ns: self.clock_ns - wall_ns, wall_ns, cpu_ns: wall_ns }
        });
        let samples: Vec<Sample> = samples.collect();
        let all = samples.iter().map(|sample| sample.wall_ns).sum();
        let whole = Whole { wall_ns: all, cpu_ns: all };
        Ok(Timed { samples, whole, paces: PACES, vectors: VectorPace::default() })
    }

    fn place(&mut self, onnx: &[u8]) -> Result<Placement, EngineError> {
        let wanted = "simulation".to_owned();
        let time_us = latency_ns(onnx) / 1000;
        let placed = vec![Placed { provider: wanted.clone(), operator: "model".to_owned(), nodes: 1, time_us }];
        Ok(Placement { wanted, placed })
    }

    fn nodes(&mut self, onnx: &[u8], runs: u32) -> Result<Profiled, EngineError> {
        let nodes = onnx_nodes(onnx).ok_or_else(|| EngineError("not a model that fleetfoot wrote".to_owned()))?;
        let runs = u64::from(runs);
        let node = |OnnxNode { name, op, bytes }| {
            let ns = bytes / NS_BYTES;
            let (kernel_us, span_us) = (runs * (ns / 1000), runs * (ns + WRITING_NS) / 1000);
            NodeTime { name, op, calls: runs, kernel_us, span_us }
        };
        let plain_ns = latency_ns(onnx);
        Ok(Profiled { nodes: nodes.into_iter().map(node).collect(), plain_ns, paces: PACES })
    }

    fn available_bytes(&self) -> Option<u64> {
        let taken: u64 = self.models.values().map(|(_, bytes)| bytes).sum();
        Some(self.memory?.saturating_sub(taken))
    }

    fn look(&mut self) -> Health {
        let microjoules = WATTS * self.clock_ns / 1000;
        Health {
            at_ns: self.clock_ns,
            peak_resident_bytes: Some(EMPTY_PROCESS + LOADED * self.largest),
            available_bytes: self.available_bytes(),
            energy: vec![EnergyMeter { part: "simulation".into(), microjoules, wraps_at: u64::MAX }],
            ..Health::default()
        }
    }

    fn run(&mut self, _: u32, _: &[usize], _: &[f32]) -> Result<(Vec<usize>, Vec<f32>), EngineError> {
        Err(EngineError("a simulated device computes nothing".to_owned()))
    }
}
