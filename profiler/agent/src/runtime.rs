//! The protocol's engine on ONNX Runtime.

use std::collections::HashMap;

use fleetfoot_protocol::{
    Engine, EngineError, Fallback, Health, Machine, Optimisation, Pace, Placement, Profiled, Setup, Timed, Timing,
    VectorPace,
};
use ort::environment::{Environment, GlobalThreadPoolOptions};
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::{Tensor, ValueType};

use crate::accelerator::Monitor;
use crate::provider::Attached;
use crate::timer::Timer;
use crate::{accelerator, health, library, machine, node_profile, pace, placement, provider, vectors};

/// The most runs of one profile: the runtime keeps a million events, a few hundred of each run.
const MAX_PROFILED_RUNS: u32 = 1000;

/// ONNX Runtime with its sessions.
#[derive(Default)]
pub struct Runtime {
    opened: Option<Opened>,
    models: HashMap<u32, Model>,
    timer: Timer,
    /// Where something else than the processor computes.
    monitor: Option<Monitor>,
}

struct Opened {
    environment: Environment,
    attached: Attached,
    fallback: Fallback,
    optimisation: Optimisation,
    threads: usize,
    /// The cores that the threads run on, where each of several has one of its own; else the caller's is looked at.
    cores: Vec<usize>,
    /// The cores that the process is pinned to, and its threads that were there before.
    pinned: Vec<usize>,
    helpers: Vec<String>,
}

/// What profiled and plain runs of a model brought.
struct Run {
    /// What the runtime's profiler wrote.
    profile: Vec<u8>,
    /// What each plain run took, in ns, and the pace in front of it.
    plain: Vec<(u64, Pace)>,
    /// The pace in front of each profiled run.
    paces: Vec<Pace>,
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
    /// A session without a model yet: the provider, the threads, the optimisation.
    fn builder(&self) -> Result<SessionBuilder, EngineError> {
        let opened = self.opened.as_ref().ok_or_else(|| EngineError("no runtime is open".to_owned()))?;
        let level = match opened.optimisation {
            Optimisation::Disable => GraphOptimizationLevel::Disable,
            Optimisation::Basic => GraphOptimizationLevel::Level1,
            Optimisation::Extended => GraphOptimizationLevel::Level2,
            Optimisation::All => GraphOptimizationLevel::All,
        };
        let builder = opened.attached.append(&opened.environment)?;
        let options = || -> Result<SessionBuilder, ort::Error> {
            // Threads are always set: the default pool would take every core, whatever the process is pinned to.
            let builder = builder.with_intra_threads(opened.threads)?.with_inter_threads(1)?;
            Ok(builder.with_optimization_level(level)?)
        };
        options().map_err(failed("session"))
    }

    fn session(&self, onnx: &[u8]) -> Result<Session, EngineError> {
        let mut builder = self.builder()?;
        let strict = self
            .opened
            .as_ref()
            .filter(|opened| opened.fallback == Fallback::Forbid && !opened.attached.provider.is_cpu());
        if strict.is_some() {
            builder = builder.with_disable_cpu_fallback().map_err(|error| failed("session")(error.into()))?;
        }
        builder.commit_from_memory(onnx).map_err(failed("ONNX Runtime can't load the model"))
    }

    /// The pace now, of the cores that the runtime's threads run on.
    fn pace(&self) -> Result<Pace, EngineError> {
        pace::take(self.opened.as_ref().map_or(&[], |opened| &opened.cores))
    }

    /// So many profiled runs of a model, in a session of its own in which nodes may run elsewhere, and so many plain ones behind
    /// them.
    fn profile(&self, onnx: &[u8], runs: u32, plain: u32) -> Result<Run, EngineError> {
        let folder = tempfile::tempdir().map_err(|error| EngineError(format!("a folder for the profile: {error}")))?;
        let builder = self.builder()?.with_profiling(folder.path().join("profile"));
        let mut builder = builder.map_err(|error| failed("profile")(error.into()))?;
        let mut session = builder.commit_from_memory(onnx).map_err(failed("ONNX Runtime can't load the model"))?;
        let (_, input) = input_of(&session)?;
        let mut paces = Vec::new();
        for _ in 0..runs {
            paces.push(self.pace()?);
            session.run(ort::inputs![&input]).map_err(failed("run"))?;
        }
        let path = session.end_profiling().map_err(failed("profile"))?;
        let mut timer = Timer::default();
        let mut run = || session.run(ort::inputs![&input]).map(drop);
        let plain = (0..plain).map(|_| {
            let pace = self.pace()?;
            let sample = timer.sample(1, 0, &[], &mut run).map_err(failed("run"))?;
            Ok((sample.wall_ns, pace))
        });
        let plain = plain.collect::<Result<Vec<_>, EngineError>>()?;
        let profile = std::fs::read(&path).map_err(|error| EngineError(format!("profile {path}: {error}")))?;
        Ok(Run { profile, plain, paces })
    }

    /// Whether all threads keep to the cores that they were pinned to. Other providers than the CPU's see to their own.
    fn check_pinning(&self) -> Result<(), EngineError> {
        let pinned =
            self.opened.as_ref().filter(|opened| opened.attached.provider.is_cpu() && !opened.pinned.is_empty());
        match pinned.and_then(|opened| machine::escaped(&opened.pinned, &opened.helpers)) {
            Some(escaped) => Err(EngineError(format!(
                "{escaped}, though the process is pinned to others: a core may have gone offline, or the system moves processes; name others (cores)"
            ))),
            None => Ok(()),
        }
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
        let mut machine = machine::describe();
        let helpers = machine::helpers();
        let pinned = machine::pin(setup, &machine.clusters)?;
        provider.options(setup)?;
        let path = library::find(setup.library.as_deref(), provider.name)?;
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
        let attached = provider.attach(&environment, &path, setup)?;
        if provider.uses_accelerators() {
            machine.accelerators = accelerator::describe();
            self.monitor = Some(Monitor::open());
        }
        let plugin = attached.plugin.as_ref().map(|plugin| format!(", {plugin}")).unwrap_or_default();
        let Setup { fallback, optimisation, threads, .. } = *setup;
        let cores = if pinned.len() == threads && threads > 1 { pinned.clone() } else { Vec::new() };
        self.opened = Some(Opened {
            environment,
            attached,
            fallback,
            optimisation,
            threads,
            cores,
            pinned: pinned.clone(),
            helpers,
        });
        Ok((format!("ONNX Runtime {version}{plugin}"), path.display().to_string(), pinned, machine))
    }

    fn load(&mut self, model: u32, onnx: &[u8]) -> Result<(Vec<usize>, Vec<usize>), EngineError> {
        let session = self.session(onnx)?;
        let (input_dims, input) = input_of(&session)?;
        let output = session.outputs().first().map(|output| extents(output.dtype())).transpose()?.unwrap_or_default();
        if self.models.is_empty() {
            self.check_pinning()?;
        }
        self.models.insert(model, Model { session, input, input_dims: input_dims.clone() });
        Ok((input_dims, output))
    }

    fn unload(&mut self, model: u32) -> Result<(), EngineError> {
        let dropped = self.models.remove(&model).map(drop);
        dropped.ok_or_else(|| EngineError(format!("no model {model} is loaded")))
    }

    fn time(&mut self, model: u32, timing: &Timing) -> Result<Timed, EngineError> {
        let cores = self.opened.as_ref().map_or_else(Vec::new, |opened| opened.cores.clone());
        let pinned = self.opened.as_ref().filter(|opened| !opened.pinned.is_empty());
        // A core that goes offline takes its pinning with it.
        if pinned.is_some_and(|opened| !machine::allowed().iter().all(|core| opened.pinned.contains(core))) {
            self.check_pinning()?;
        }
        let (model, timer) = self.model(model)?;
        let evict = usize::try_from(timing.evict_bytes).unwrap_or(usize::MAX);
        if evict > 1 << 30 || timing.batch == 0 || timing.samples > 1 << 20 {
            return Err(EngineError(format!("can't take such samples: {timing:?}")));
        }
        let Model { session, input, .. } = model;
        let (_, values) = input.extract_tensor();
        let mut run = || session.run(ort::inputs![&*input]).map(drop);
        for _ in 0..timing.warmup {
            timer.sample(1, evict, values, &mut run).map_err(failed("run"))?;
        }
        let before = pace::take(&cores)?;
        if cores.len() > 1 {
            // Looking at the cores has stopped the runtime's threads there.
            timer.sample(1, evict, values, &mut run).map_err(failed("run"))?;
        }
        let (samples, whole) = timer.whole(|timer| {
            let sample = |_| timer.sample(timing.batch, evict, values, &mut run);
            (0..timing.samples).map(sample).collect::<Result<Vec<_>, _>>()
        });
        let samples = samples.map_err(failed("run"))?;
        let behind = pace::take(&cores)?;
        // Of several threads' cores the caller's says too little.
        let vectors = if cores.len() > 1 { VectorPace::default() } else { vectors::take() };
        Ok(Timed { samples, whole, paces: [before, behind], vectors })
    }

    fn place(&mut self, onnx: &[u8]) -> Result<Placement, EngineError> {
        let Run { profile, .. } = self.profile(onnx, placement::RUNS, 0)?;
        let wanted = self.opened.as_ref().map(|opened| opened.attached.provider.ort_name).unwrap_or_default();
        Ok(Placement { wanted: wanted.to_owned(), placed: placement::parse(&profile)? })
    }

    fn nodes(&mut self, onnx: &[u8], runs: u32) -> Result<Profiled, EngineError> {
        if !(1..=MAX_PROFILED_RUNS).contains(&runs) {
            return Err(EngineError(format!("can't profile {runs} runs: wanted 1 to {MAX_PROFILED_RUNS}")));
        }
        let Run { profile, mut plain, paces } = self.profile(onnx, node_profile::UNCOUNTED + runs, runs)?;
        let (nodes, counted) = node_profile::sum(&node_profile::parse(&profile)?)?;
        let most = node_profile::undisturbed_up_to(plain.iter().map(|(ns, _)| *ns), 0);
        plain.retain(|(ns, _)| *ns <= most);
        let plain_ns = plain.iter().map(|(ns, _)| ns).sum::<u64>() / plain.len().max(1) as u64;
        let at = counted.iter().filter_map(|run| paces.get(*run as usize).copied());
        let paces = [pace::usual(at.collect()), pace::usual(plain.into_iter().map(|(_, pace)| pace).collect())];
        Ok(Profiled { nodes, plain_ns, paces })
    }

    fn available_bytes(&self) -> Option<u64> {
        health::available_bytes()
    }

    fn look(&mut self) -> Health {
        let mut health = health::look(self.timer.now_ns());
        if let Some(monitor) = &self.monitor {
            monitor.look(&mut health);
        }
        health
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

/// A model's one input: its extents and a tensor to run with.
fn input_of(session: &Session) -> Result<(Vec<usize>, Tensor<f32>), EngineError> {
    let [input] = session.inputs() else {
        return Err(EngineError(format!("the model has {} inputs, wanted 1", session.inputs().len())));
    };
    let dims = extents(input.dtype())?;
    let elements: usize = dims.iter().product();
    let tensor = Tensor::from_array((dims.clone(), noise(elements))).map_err(failed("input"))?;
    Ok((dims, tensor))
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
