//! The protocol's engine on ONNX Runtime.

use std::collections::HashMap;
use std::path::Path;

use fleetfoot_protocol::{Engine, EngineError, Health, Machine, NodeTime, Optimisation, Sample, Setup, Timing};
use ort::environment::{Environment, GlobalThreadPoolOptions};
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::{Tensor, ValueType};

use crate::provider::Provider;
use crate::timer::Timer;
use crate::{health, library, machine, node_profile, provider};

/// The most runs of one profile: the runtime keeps a million events, a few hundred of each run.
const MAX_PROFILED_RUNS: u32 = 1000;

/// ONNX Runtime with its sessions.
#[derive(Default)]
pub struct Runtime {
    opened: Option<Opened>,
    models: HashMap<u32, Model>,
    timer: Timer,
}

struct Opened {
    environment: Environment,
    provider: Provider,
    optimisation: Optimisation,
    threads: usize,
}

struct Model {
    session: Session,
    input: Tensor<f32>,
    input_dims: Vec<usize>,
}

fn failed(what: &str) -> impl Fn(ort::Error) -> EngineError + '_ {
    move |error| EngineError(format!("{what}: {error}"))
}

impl Runtime {
    /// A session of a model. One that is profiled writes to a file whose name starts like `profile`.
    fn session(&self, onnx: &[u8], profile: Option<&Path>) -> Result<Session, EngineError> {
        let opened = self.opened.as_ref().ok_or_else(|| EngineError("no runtime is open".to_owned()))?;
        let level = match opened.optimisation {
            Optimisation::Disable => GraphOptimizationLevel::Disable,
            Optimisation::Basic => GraphOptimizationLevel::Level1,
            Optimisation::Extended => GraphOptimizationLevel::Level2,
            Optimisation::All => GraphOptimizationLevel::All,
        };
        let builder = match opened.provider {
            // The CPU provider is ONNX Runtime's default and needs no registration.
            Provider::Cpu => Session::builder(&opened.environment).map_err(failed("session"))?,
        };
        let options = || -> Result<Session, ort::Error> {
            // Threads are always set: the default pool would take every core, whatever the process is pinned to.
            let builder = match profile {
                Some(prefix) => builder.with_profiling(prefix)?,
                None => builder,
            };
            builder
                .with_intra_threads(opened.threads)?
                .with_inter_threads(1)?
                .with_optimization_level(level)?
                .commit_from_memory(onnx)
        };
        options().map_err(failed("ONNX Runtime can't load the model"))
    }

    fn model(&mut self, model: u32) -> Result<(&mut Model, &mut Timer), EngineError> {
        let known = self.models.get_mut(&model);
        known.map(|model| (model, &mut self.timer)).ok_or_else(|| EngineError(format!("no model {model} is loaded")))
    }
}

impl Engine for Runtime {
    fn open(&mut self, setup: &Setup) -> Result<(String, String, Vec<usize>, Machine), EngineError> {
        if self.opened.is_some() {
            return Err(EngineError("the runtime is open already; one agent holds one runtime".to_owned()));
        }
        if setup.threads == 0 {
            return Err(EngineError("0 threads: wanted at least 1".to_owned()));
        }
        let provider = provider::by_name(&setup.provider)?;
        let machine = machine::describe();
        let pinned = machine::pin(&setup.cores, setup.threads)?;
        let path = library::find(setup.library.as_deref())?;
        let version = library::version(&path)?;
        let mut environment = ort::init_from(&path)
            .map_err(|error| EngineError(format!("ONNX Runtime at {}: {error}", path.display())))?
            .with_name("fleetfoot-agent")
            .with_telemetry(false);
        if setup.threads > 1 {
            // One pool for all sessions: the idle pools of many would disturb the one that is measured.
            let pool = || GlobalThreadPoolOptions::default().with_intra_threads(setup.threads)?.with_inter_threads(1);
            environment = environment.with_global_thread_pool(pool().map_err(failed("threads"))?);
        }
        let environment = environment.build().map_err(failed("ONNX Runtime's environment"))?;
        let (optimisation, threads) = (setup.optimisation, setup.threads);
        self.opened = Some(Opened { environment, provider, optimisation, threads });
        Ok((format!("ONNX Runtime {version}"), path.display().to_string(), pinned, machine))
    }

    fn load(&mut self, model: u32, onnx: &[u8]) -> Result<(Vec<usize>, Vec<usize>), EngineError> {
        let session = self.session(onnx, None)?;
        let [input] = session.inputs() else {
            return Err(EngineError(format!("the model has {} inputs, wanted 1", session.inputs().len())));
        };
        let input_dims = extents(input.dtype())?;
        let output = session.outputs().first().map(|output| extents(output.dtype())).transpose()?.unwrap_or_default();
        let elements: usize = input_dims.iter().product();
        let input = Tensor::from_array((input_dims.clone(), noise(elements))).map_err(failed("input"))?;
        self.models.insert(model, Model { session, input, input_dims: input_dims.clone() });
        Ok((input_dims, output))
    }

    fn unload(&mut self, model: u32) -> Result<(), EngineError> {
        let dropped = self.models.remove(&model).map(drop);
        dropped.ok_or_else(|| EngineError(format!("no model {model} is loaded")))
    }

    fn time(&mut self, model: u32, timing: &Timing) -> Result<Vec<Sample>, EngineError> {
        let (model, timer) = self.model(model)?;
        let evict = usize::try_from(timing.evict_bytes).unwrap_or(usize::MAX);
        if evict > 1 << 30 || timing.batch == 0 || timing.samples > 1 << 20 {
            return Err(EngineError(format!("can't take such samples: {timing:?}")));
        }
        let Model { session, input, .. } = model;
        let (_, values) = input.extract_tensor();
        let mut run = || session.run(ort::inputs![&*input]).map(drop);
        let mut samples = Vec::with_capacity(timing.samples as usize);
        for _ in 0..timing.warmup {
            timer.sample(1, evict, values, &mut run).map_err(failed("run"))?;
        }
        for _ in 0..timing.samples {
            samples.push(timer.sample(timing.batch, evict, values, &mut run).map_err(failed("run"))?);
        }
        Ok(samples)
    }

    fn nodes(&mut self, onnx: &[u8], runs: u32) -> Result<Vec<NodeTime>, EngineError> {
        if !(1..=MAX_PROFILED_RUNS).contains(&runs) {
            return Err(EngineError(format!("can't profile {runs} runs: wanted 1 to {MAX_PROFILED_RUNS}")));
        }
        let folder = tempfile::tempdir().map_err(|error| EngineError(format!("a folder for the profile: {error}")))?;
        let mut session = self.session(onnx, Some(&folder.path().join("nodes")))?;
        let [input] = session.inputs() else {
            return Err(EngineError(format!("the model has {} inputs, wanted 1", session.inputs().len())));
        };
        let dims = extents(input.dtype())?;
        let elements = dims.iter().product();
        let input = Tensor::from_array((dims, noise(elements))).map_err(failed("input"))?;
        for _ in 0..node_profile::UNCOUNTED + runs {
            session.run(ort::inputs![&input]).map_err(failed("run"))?;
        }
        let path = session.end_profiling().map_err(failed("profile"))?;
        let text = std::fs::read(&path).map_err(|error| EngineError(format!("profile {path}: {error}")))?;
        node_profile::sum(&node_profile::parse(&text)?)
    }

    fn look(&mut self) -> Health {
        health::look(self.timer.now_ns())
    }

    fn run(&mut self, model: u32, dims: &[usize], input: &[f32]) -> Result<(Vec<usize>, Vec<f32>), EngineError> {
        let (model, _) = self.model(model)?;
        if dims != model.input_dims || dims.iter().product::<usize>() != input.len() {
            return Err(EngineError(format!("the model wants an input of {:?}, got {dims:?}", model.input_dims)));
        }
        let input = Tensor::from_array((dims.to_vec(), input.to_vec())).map_err(failed("input"))?;
        let outputs = model.session.run(ort::inputs![input]).map_err(failed("run"))?;
        let (shape, values) = outputs[0].try_extract_tensor::<f32>().map_err(failed("output"))?;
        Ok((shape.iter().map(|&extent| extent as usize).collect(), values.to_vec()))
    }
}

/// The extents of a tensor whose shape is fixed.
fn extents(kind: &ValueType) -> Result<Vec<usize>, EngineError> {
    let shape = kind.tensor_shape().ok_or_else(|| EngineError("an input or output that is no tensor".to_owned()))?;
    let fixed = shape.iter().map(|&extent| usize::try_from(extent).ok().filter(|&extent| extent > 0));
    fixed.collect::<Option<Vec<_>>>().ok_or_else(|| {
        EngineError(format!("the model's shape {shape:?} isn't fixed: export it with a fixed batch size"))
    })
}

/// Values between -1 and 1 that differ from each other: speed depends on values only through denormals, which these
/// aren't.
fn noise(len: usize) -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        // Xorshift (Marsaglia, 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    })
    .take(len)
    .collect()
}
