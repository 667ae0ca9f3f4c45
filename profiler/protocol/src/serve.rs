//! The agent's side: requests in, replies out.

use std::io::{BufRead, Write};

use crate::{
    FrameError, Health, MAGIC, Machine, PROTOCOL, Placement, Profiled, Reply, Request, Setup, Timed, Timing,
    read_message, write_message,
};

/// Why an engine couldn't do what it was asked, for people.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct EngineError(pub String);

/// What an agent can do: ONNX Runtime in `fleetfoot-agent`, a simulation in the mock transport.
pub trait Engine {
    /// Pins the process and loads the runtime: name and version, library path, cores.
    fn open(&mut self, setup: &Setup) -> Result<(String, String, Vec<usize>, Machine), EngineError>;
    /// Makes a session: extents of input and output.
    fn load(&mut self, model: u32, onnx: &[u8]) -> Result<(Vec<usize>, Vec<usize>), EngineError>;
    /// Drops a session.
    fn unload(&mut self, model: u32) -> Result<(), EngineError>;
    /// Takes samples.
    fn time(&mut self, model: u32, timing: &Timing) -> Result<Timed, EngineError>;
    /// Runs a model under the runtime's profiler.
    fn place(&mut self, onnx: &[u8]) -> Result<Placement, EngineError>;
    /// Profiles a model, node by node.
    fn nodes(&mut self, onnx: &[u8], runs: u32) -> Result<Profiled, EngineError>;
    /// Looks at the machine.
    fn look(&mut self) -> Health;
    /// Runs a model on an input: extents and values of the output.
    fn run(&mut self, model: u32, dims: &[usize], input: &[f32]) -> Result<(Vec<usize>, Vec<f32>), EngineError>;
}

/// Answers requests until the host says quit or goes away.
pub fn serve(from: &mut impl BufRead, to: &mut impl Write, engine: &mut impl Engine) -> Result<(), FrameError> {
    loop {
        let (request, payload) = match read_message::<Request>(from) {
            Err(FrameError::Closed) => return Ok(()),
            message => message?,
        };
        let quit = request == Request::Quit;
        let (reply, payload) = match answer(engine, request, &payload) {
            Ok(answer) => answer,
            Err(error) => (Reply::Failed { why: error.to_string() }, Vec::new()),
        };
        write_message(to, &reply, &payload)?;
        if quit {
            return Ok(());
        }
    }
}

fn answer(engine: &mut impl Engine, request: Request, payload: &[u8]) -> Result<(Reply, Vec<u8>), EngineError> {
    let reply = match request {
        Request::Hello { magic, protocol } => {
            if magic != MAGIC || protocol != PROTOCOL {
                let why = format!(
                    "this agent speaks protocol {PROTOCOL}, the host {protocol}: use agent and host of one version"
                );
                return Err(EngineError(why));
            }
            let tool = env!("CARGO_PKG_VERSION").to_owned();
            Reply::Hello { magic: MAGIC.to_owned(), protocol: PROTOCOL, tool }
        }
        Request::Open(setup) => {
            let (runtime, library, pinned, machine) = engine.open(&setup)?;
            Reply::Opened { runtime, library, pinned, machine }
        }
        Request::Load { model, .. } => {
            let (input, output) = engine.load(model, payload)?;
            Reply::Loaded { input, output }
        }
        Request::Unload { model } => {
            engine.unload(model)?;
            Reply::Done
        }
        Request::Time { model, timing } => Reply::Timed(engine.time(model, &timing)?),
        Request::Run { model, dims, .. } => {
            let (values, rest) = payload.as_chunks::<4>();
            if !rest.is_empty() {
                return Err(EngineError(format!("an fp32 input of {} bytes", payload.len())));
            }
            let input: Vec<f32> = values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            let (dims, output) = engine.run(model, &dims, &input)?;
            let bytes: Vec<u8> = output.iter().flat_map(|x| x.to_le_bytes()).collect();
            return Ok((Reply::Output { dims, payload: bytes.len() as u64 }, bytes));
        }
        Request::Place { .. } => Reply::Placed(engine.place(payload)?),
        Request::Nodes { runs, .. } => Reply::Nodes(engine.nodes(payload, runs)?),
        Request::Look => Reply::Health(engine.look()),
        Request::Quit => Reply::Done,
    };
    Ok((reply, Vec::new()))
}
