//! The agent's side: requests in, replies out.

use std::io::{self, BufRead, Write};

use crate::{
    Folder, FrameError, Health, MAGIC, Machine, PROTOCOL, Placement, Profiled, Record, Reply, Request, Series, Setup,
    Source, Timed, Timing, read_message, write_message,
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
    /// Bytes of memory that the process may still have, where that is told.
    fn available_bytes(&self) -> Option<u64>;
    /// Looks at the machine.
    fn look(&mut self) -> Health;
    /// Runs a model on an input: extents and values of the output.
    fn run(&mut self, model: u32, dims: &[usize], input: &[f32]) -> Result<(Vec<usize>, Vec<f32>), EngineError>;
}

/// Answers requests until the host says quit or goes away. What is to outlast the process is kept in the folder, if there
/// is one.
pub fn serve(
    from: &mut impl BufRead,
    to: &mut impl Write,
    engine: &mut impl Engine,
    folder: Option<&Folder>,
) -> Result<(), FrameError> {
    loop {
        let (request, payload) = match read_message::<Request>(from) {
            Err(FrameError::Closed) => return Ok(()),
            message => message?,
        };
        let quit = request == Request::Quit;
        let (reply, payload) = match answer(engine, folder, request, payload) {
            Ok(answer) => answer,
            Err(error) => (Reply::Failed { why: error.to_string() }, Vec::new()),
        };
        write_message(to, &reply, &payload)?;
        if quit {
            return Ok(());
        }
    }
}

fn answer(
    engine: &mut impl Engine,
    folder: Option<&Folder>,
    request: Request,
    payload: Vec<u8>,
) -> Result<(Reply, Vec<u8>), EngineError> {
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
        Request::Load { model, source } => match model_of(folder, source, payload)? {
            Some(onnx) => {
                let (input, output) = engine.load(model, &onnx)?;
                Reply::Loaded { input, output, available_bytes: engine.available_bytes() }
            }
            None => Reply::Unkept,
        },
        Request::Unload { model } => {
            engine.unload(model)?;
            Reply::Done
        }
        Request::Time { model, timing } => Reply::Timed(engine.time(model, &timing)?),
        Request::Series(series) => time_all(engine, needed(folder)?, &series)?,
        Request::Kept { session } => {
            let records = needed(folder)?.records(&session).map_err(|error| unkept(folder, &error))?;
            Reply::Kept { records }
        }
        Request::Forget { session } => {
            needed(folder)?.forget(&session).map_err(|error| unkept(folder, &error))?;
            Reply::Done
        }
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
        Request::Place(source) => match model_of(folder, source, payload)? {
            Some(onnx) => Reply::Placed(engine.place(&onnx)?),
            None => Reply::Unkept,
        },
        Request::Nodes { runs, source } => match model_of(folder, source, payload)? {
            Some(onnx) => Reply::Nodes(engine.nodes(&onnx, runs)?),
            None => Reply::Unkept,
        },
        Request::Look => Reply::Health(engine.look()),
        Request::Quit => Reply::Done,
    };
    Ok((reply, Vec::new()))
}

fn needed(folder: Option<&Folder>) -> Result<&Folder, EngineError> {
    folder.ok_or_else(|| EngineError("this agent has no folder to keep anything in".to_owned()))
}

fn unkept(folder: Option<&Folder>, error: &io::Error) -> EngineError {
    let path = folder.map(|folder| folder.path().display().to_string()).unwrap_or_default();
    let remedy = if is_full(error) {
        "free some space on the device"
    } else {
        "see to it that the device's configuration names a folder there that can be written"
    };
    EngineError(format!("nothing can be kept in the device's folder {path} ({error}): {remedy}"))
}

/// The model that is meant; `None` where it has to be sent first. One that was sent with its digest is kept from now on.
fn model_of(folder: Option<&Folder>, source: Source, payload: Vec<u8>) -> Result<Option<Vec<u8>>, EngineError> {
    match (folder, source.digest) {
        (Some(known), Some(digest)) if source.payload == 0 => Ok(known.model(&digest)),
        (None, Some(_)) if source.payload == 0 => Ok(None),
        (Some(known), Some(digest)) => match known.keep_model(&digest, &payload) {
            // It is sent again when it is wanted again.
            Err(error) if !is_full(&error) => Err(unkept(folder, &error)),
            _ => Ok(Some(payload)),
        },
        _ => Ok(Some(payload)),
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Keeps something; where there is no space left, in place of the models, which can be sent again.
fn making_room<T>(folder: &Folder, mut keep: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    match keep() {
        Err(error) if is_full(&error) => {
            folder.forget_models()?;
            keep()
        }
        kept => kept,
    }
}

/// Makes the visits of a series, each kept before the next one begins.
fn time_all(engine: &mut impl Engine, folder: &Folder, series: &Series) -> Result<Reply, EngineError> {
    let failed = |error: io::Error| unkept(Some(folder), &error);
    let mut file = making_room(folder, || folder.begin(&series.session)).map_err(failed)?;
    let mut timed = Vec::new();
    for planned in &series.visits {
        let made = engine.time(planned.model, &planned.timing).and_then(|made| {
            let record = Record { ahead_ns: series.ahead_ns, planned: *planned, timed: made };
            making_room(folder, || Folder::append(&mut file, &record)).map_err(failed)?;
            Ok(record.timed)
        });
        match made {
            Ok(made) => timed.push(made),
            Err(EngineError(why)) => return Ok(Reply::Series { timed, failed: Some(why) }),
        }
    }
    Ok(Reply::Series { timed, failed: None })
}
