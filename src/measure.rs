//! `fleetfoot measure`: whole networks on a device.

mod more;
pub mod shard;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use fleetfoot_console::{Shard, usage};
use fleetfoot_profiler::{
    Agent, Conditions, Configuration, Context, DeviceConfig, Measurement, Plan, Provenance, Subject, write_atomically,
};
use fleetfoot_space::{Network, Precision, SearchSpace};
use fleetfoot_worklist::ArchitectureOptions;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use self::more::{Asked, Column, MoreOptions};
use crate::cli::{PlanOptions, batch_size};
use crate::measuring::{self, Output, What};

/// Options of `measure`.
#[derive(Debug, Args)]
pub struct Options {
    /// Search space: a preset's name or a TOML file
    #[arg(long, value_name = "SPACE")]
    space: Option<String>,
    /// Device: a shipped configuration's name or a TOML file
    #[arg(long, value_name = "DEVICE", default_value = "local-cpu")]
    device: String,
    #[command(flatten)]
    architectures: ArchitectureOptions,
    /// Measure this many random architectures of the space
    #[arg(long, value_name = "N", default_value_t = 0, requires = "space")]
    random: usize,
    /// Batch size of the architectures
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = batch_size(), conflicts_with = "onnx")]
    batch: usize,
    /// Measure ONNX models as they are: one input, of fixed shape and in fp32
    #[arg(long, value_name = "FILE", num_args = 1..)]
    onnx: Vec<PathBuf>,
    /// Write CSV here instead of standard output; raw samples are kept in FILE.journal
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    more: MoreOptions,
    #[command(flatten)]
    plan: PlanOptions,
    /// Measure part I of N of the networks into FILE.IofN, with other parts measured elsewhere or at another time; goes on from its own
    /// journal by itself, and is done at once if the part is there. `fleetfoot merge` makes the file of all
    #[arg(long, value_name = "I/N", requires = "output")]
    shard: Option<Shard>,
    /// Go on with what an earlier run left, or start if there is nothing
    #[arg(long, requires = "output", conflicts_with = "force")]
    resume: bool,
    /// Replace an existing file and its journal
    #[arg(long, requires = "output")]
    force: bool,
}

/// A network to measure: where it comes from, what it is.
pub struct Measured {
    model: String,
    architecture: String,
    subject: Subject,
}

impl Measured {
    /// Where it comes from and what it is.
    fn named(&self) -> (&str, &str) {
        (&self.model, &self.architecture)
    }
}

/// Where results are kept, with whether journals are gone on with or replaced.
struct Kept<'a> {
    path: &'a Path,
    resume: bool,
    force: bool,
}

impl Kept<'_> {
    fn output(&self) -> Result<Output> {
        Output::new(self.path, self.resume, self.force)
    }
}

/// What is asked of networks.
struct Asking<'a> {
    options: &'a Options,
    plan: &'a Plan,
    /// Where it is asked of a part of them, what decides the whole.
    configuration: Option<&'a Configuration>,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<()> {
    let space = options.space.as_deref().map(SearchSpace::load).transpose()?;
    let device = DeviceConfig::load(&options.device)?;
    let networks = networks(options, space.as_ref(), device.precision)?;
    let plan = options.plan.plan()?;
    if let (Some(shard), Some(path)) = (options.shard, &options.output) {
        return shard::run(options, &device, space.as_ref(), &networks, (&plan, shard), path);
    }
    let kept = options.output.as_ref().map(|path| Kept { path, resume: options.resume, force: options.force });
    let output = kept.as_ref().map(Kept::output).transpose()?;
    let mut agent = measuring::start(&device)?;
    let subjects: Vec<Subject> = networks.iter().map(|network| network.subject.clone()).collect();
    let asking = Asking { options, plan: &plan, configuration: None };
    let told = asking.ask(&mut agent, space.as_ref(), &subjects, (kept.as_ref(), output.as_ref()))?;
    let named: Vec<(&str, &str)> = networks.iter().map(Measured::named).collect();
    let csv = csv(&told.head.to_head(), &named, &told.measured, &told.columns)?;
    match &options.output {
        Some(path) => write_atomically(path, &csv).with_context(|| format!("can't write {}", path.display()))?,
        None => io::stdout().lock().write_all(&csv)?,
    }
    Ok(())
}

/// What was told of networks.
struct Told {
    measured: Vec<Measurement>,
    conditions: Conditions,
    head: Provenance,
    columns: Vec<Column>,
}

impl Asking<'_> {
    /// Measures networks, and what else is asked for.
    fn ask(
        &self,
        agent: &mut Agent,
        space: Option<&SearchSpace>,
        subjects: &[Subject],
        (kept, output): (Option<&Kept<'_>>, Option<&Output>),
    ) -> Result<Told> {
        let Self { options, plan, configuration } = *self;
        let mut conditions = agent.conditions(Context::Warm, plan).at_batch(options.batch);
        if !options.onnx.is_empty() {
            conditions = Conditions { precision: None, batch: None, ..conditions };
        }
        let what = What::networks(options.space.as_deref().unwrap_or("models"));
        let what = configuration.map_or(what, |configuration| what.part_of(configuration));
        let (measured, mut head) = whole(agent, subjects, plan, what, &conditions, output)?;
        if let Some(space) = space {
            head.set("space", space.name());
        }
        let output = kept.map(|kept| (kept.path, kept.resume, kept.force));
        let asked = Asked { subjects, plan, what, conditions: &conditions, output };
        let columns = options.more.columns(agent, &asked, &measured, &mut head)?;
        Ok(Told { measured, conditions, head, columns })
    }
}

/// Measures whole networks in interleaved rounds; what stands in the head of their file.
fn whole(
    agent: &mut Agent,
    subjects: &[Subject],
    plan: &Plan,
    what: What<'_>,
    conditions: &Conditions,
    output: Option<&Output>,
) -> Result<(Vec<Measurement>, Provenance)> {
    let measured = measuring::measure(agent, subjects, plan, what, conditions, output)?;
    let mut head = measuring::provenance(agent, conditions, plan, measured.provider_share.as_ref());
    head.set_best_pace(measured.best_pace);
    if let Some(soak) = measured.soaked {
        let slower = 100.0 * (soak.last_ns / soak.first_ns - 1.0);
        eprintln!("kept busy for {:.0} s, the device became {slower:+.1} % slower", soak.seconds);
    }
    Ok((measured.subjects, head))
}

/// Measures a space's networks on a device and writes the file that `measure` writes of them. Each has a label of its own.
pub fn on_device(
    device: &DeviceConfig,
    space: &SearchSpace,
    networks: &[(String, Network)],
    (batch, plan): (usize, &Plan),
    output: &Output,
) -> Result<(Vec<Measurement>, Provenance)> {
    let measured = networks.iter().map(|(label, network)| {
        let subject = Subject::of_network(label.clone(), network)?;
        Ok(Measured { model: String::new(), architecture: label.clone(), subject })
    });
    let networks = measured.collect::<Result<Vec<_>>>()?;
    let subjects: Vec<Subject> = networks.iter().map(|network| network.subject.clone()).collect();
    let mut agent = measuring::start(device)?;
    let conditions = agent.conditions(Context::Warm, plan).at_batch(batch);
    let what = What::networks(space.name());
    let (measured, mut head) = whole(&mut agent, &subjects, plan, what, &conditions, Some(output))?;
    head.set("space", space.name());
    let path = output.path();
    let named: Vec<(&str, &str)> = networks.iter().map(Measured::named).collect();
    let csv = csv(&head.to_head(), &named, &measured, &[])?;
    write_atomically(path, &csv).with_context(|| format!("can't write {}", path.display()))?;
    Ok((measured, head))
}

fn networks(options: &Options, space: Option<&SearchSpace>, precision: Precision) -> Result<Vec<Measured>> {
    let mut networks = Vec::new();
    if let Some(space) = space {
        let mut rng = ChaCha8Rng::seed_from_u64(options.plan.seed);
        let random = (0..options.random).map(|_| {
            let architecture = space.random(&mut rng);
            (architecture.to_string(), space.clone(), architecture)
        });
        let random: Vec<_> = random.collect();
        for (label, space, architecture) in options.architectures.resolve(space)?.into_iter().chain(random) {
            let network = space.network_at(&architecture, options.batch, precision)?;
            let subject = Subject::of_network(label.clone(), &network)?;
            networks.push(Measured { model: String::new(), architecture: label, subject });
        }
    } else if !options.architectures.is_empty() {
        return Err(usage("architectures need --space"));
    }
    for path in &options.onnx {
        let onnx = std::fs::read(path).with_context(|| format!("can't read the model {}", path.display()))?;
        let model = path.display().to_string();
        let architecture = architecture_of(path);
        let subject = Subject { name: model.clone(), onnx: onnx.into(), evict_bytes: 0, reference: None };
        networks.push(Measured { subject, model, architecture });
    }
    if networks.is_empty() {
        return Err(usage("nothing to measure: name architectures, --random N or --onnx FILE"));
    }
    Ok(networks)
}

/// What `fleetfoot export` wrote beside the model, where it did.
fn architecture_of(model: &Path) -> String {
    let record = model.with_file_name("train.json");
    let text = std::fs::read_to_string(record).unwrap_or_default();
    let value: Option<serde_json::Value> = serde_json::from_str(&text).ok();
    value.and_then(|value| value["architecture"].as_str().map(str::to_owned)).unwrap_or_default()
}

/// The file: of each network where it comes from, what it is, and what was told of it.
fn csv(head: &str, networks: &[(&str, &str)], measured: &[Measurement], more: &[Column]) -> Result<Vec<u8>> {
    let models = networks.iter().any(|(model, _)| !model.is_empty());
    let mut writer = csv::Writer::from_writer(head.as_bytes().to_vec());
    let columns = ["model", "architecture", "latency_ms", "low_ms", "high_ms", "n"];
    let more_names = more.iter().map(|(name, _)| name.as_str());
    writer.write_record(columns.into_iter().chain(more_names).skip(usize::from(!models)))?;
    for (index, ((model, architecture), measurement)) in networks.iter().zip(measured).enumerate() {
        let times = [measurement.latency, measurement.interval.low, measurement.interval.high];
        let mut record = vec![(*model).to_owned(), (*architecture).to_owned()];
        record.extend(times.map(|latency| latency.ms().to_string()));
        record.push(measurement.samples.to_string());
        record.extend(more.iter().map(|(_, cells)| cells[index].clone()));
        writer.write_record(&record[usize::from(!models)..])?;
    }
    Ok(writer.into_inner().map_err(csv::IntoInnerError::into_error)?)
}
