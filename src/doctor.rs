//! `fleetfoot doctor`: what on a device harms measurements, and how noisy it is now.

use std::io::{self, Write as _};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use fleetfoot_console::positive;
use fleetfoot_profiler::{
    Agent, DeviceConfig, Finding, Health, ModelId, Pace, Plan, ProviderShare, Subject, Timing, Whole, findings,
    relative_variance, shared_core, taken_core,
};
use fleetfoot_space::{Network, Operator, OperatorKey, Precision, Shape};
use serde_json::json;

use crate::measuring;

/// Options of `doctor`.
#[derive(Debug, Args)]
pub struct Options {
    /// Device: a shipped configuration's name or a TOML file
    #[arg(long, value_name = "DEVICE", default_value = "local-cpu")]
    device: String,
    /// Seconds to watch
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0, value_parser = positive)]
    seconds: f64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Time between two visits to the reference unit.
const PAUSE: Duration = Duration::from_millis(20);
/// Samples of a visit; each sums so many runs.
const VISIT: Timing = Timing { warmup: 1, samples: 5, batch: 8, evict_bytes: 0 };

/// Runs the command. Findings are what was asked for, not errors.
pub fn run(options: &Options) -> Result<()> {
    let device = DeviceConfig::load(&options.device)?;
    let mut agent = measuring::start(&device)?;
    let reference = reference(device.precision)?;
    let placement = agent.place(&reference.onnx)?;
    ProviderShare::permitted(&device, &[(reference.name.as_str(), placement.clone())])?;
    let model = agent.load(&reference.onnx)?;
    let before = agent.look()?;
    let Watched { visits, paces, lost } =
        watch(&mut agent, model, Duration::from_secs_f64(options.seconds.min(3600.0)))?;
    let after = agent.look()?;
    let mut findings = findings(&before, &after, agent.pinned());
    let uses_accelerators = !agent.machine().accelerators.is_empty();
    let (shared, finding) = shared_core(&paces, &visits);
    findings.extend(finding);
    let conditions = agent.conditions(device.usual_context(), &Plan::default());
    let lost = lost.filter(|_| conditions.computes_in_caller());
    findings.extend(taken_core(lost, &before, agent.pinned()));
    // The worst first; those alike in their order.
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let reference_percent = 100.0 * relative_variance(&visits).sqrt();
    let mut out = io::stdout().lock();
    if options.json {
        let report = json!({
            "device": device.name,
            "findings": findings,
            "reference_percent": reference_percent,
            "not_shown": unseen(&after, uses_accelerators),
            "shared_percent": shared.map(|shared| 100.0 * shared),
            "provider_nodes_percent": placement.nodes_percent(),
            "provider_time_percent": placement.time_percent(),
        });
        writeln!(out, "{report}")?;
        return Ok(());
    }
    for Finding { severity, what, remedy } in &findings {
        writeln!(out, "{severity:<8} {what}\n         → {remedy}")?;
    }
    if findings.is_empty() {
        writeln!(out, "nothing that the system shows harms measurements")?;
    }
    match unseen(&after, uses_accelerators)[..] {
        [] => writeln!(out, "seen: everything that is looked for")?,
        ref absent => writeln!(out, "not shown by the system: {}", absent.join(", "))?,
    }
    writeln!(
        out,
        "reference unit: {} visits in {:.0} s, one visit's value repeats within {reference_percent:.2} % (standard deviation)",
        visits.len(),
        options.seconds
    )?;
    match shared {
        Some(shared) => {
            writeln!(out, "somebody else on the core's execution units: {:.0} % of the time", 100.0 * shared)?
        }
        None => {
            writeln!(out, "somebody else on the core's execution units: not known, the device doesn't tell its pace")?
        }
    }
    writeln!(out, "reference unit: {placement}")?;
    Ok(())
}

/// A block that every small space has: its kernels are those that spaces of inverted bottlenecks are made of.
fn reference(precision: Precision) -> Result<Subject> {
    let operator =
        Operator::MbConv { kernel: 3, expansion: Some(6), stride: 1, c_in: 40, c_out: 40, groups: 1, shortcut: true };
    let key = OperatorKey { operator, input: Shape::new(1, 40, 14, 14), precision };
    Ok(Subject::of_network("reference".to_owned(), &Network::of_unit(&key, 1e-3)?)?)
}

/// What visits to the reference unit showed.
#[derive(Debug)]
struct Watched {
    /// Its median in each visit, in ns a run.
    visits: Vec<f64>,
    /// The core's pace around each.
    paces: Vec<[Pace; 2]>,
    /// The share of their time in which the measuring thread didn't have its core; `None` where that isn't known.
    lost: Option<f64>,
}

fn watch(agent: &mut Agent, model: ModelId, time: Duration) -> Result<Watched> {
    let start = Instant::now();
    let (mut visits, mut paces, mut whole) = (Vec::new(), Vec::new(), Whole::default());
    // At least as many as a standard deviation needs.
    while start.elapsed() < time || visits.len() < 10 {
        let timed = agent.time(model, VISIT)?;
        let mut samples: Vec<u64> = timed.samples.iter().map(|sample| sample.wall_ns).collect();
        samples.sort_unstable();
        paces.push(timed.paces);
        whole += timed.whole;
        visits.push(samples[samples.len() / 2] as f64 / f64::from(VISIT.batch));
        thread::sleep(PAUSE);
    }
    Ok(Watched { visits, paces, lost: whole.lost() })
}

/// What the system doesn't show: no finding there is no proof. Accelerators' state only matters where one computes.
fn unseen(health: &Health, uses_accelerators: bool) -> Vec<&'static str> {
    let cores = |known: fn(&fleetfoot_profiler::Core) -> bool| health.cores.iter().any(known);
    let shown = [
        ("load of cores", !health.cores.is_empty()),
        ("governor", cores(|core| core.governor.is_some())),
        ("frequency", cores(|core| core.maximum_khz.is_some())),
        ("turbo", health.turbo.is_some()),
        ("temperature", !health.temperatures.is_empty()),
        ("throttling", cores(|core| core.throttled.is_some())),
        ("clock source", health.clock.is_some()),
        ("state of an accelerator", !uses_accelerators || !health.accelerators.is_empty()),
        ("energy saving", health.power_profile.is_some() || cores(|core| core.preference.is_some())),
    ];
    shown.into_iter().filter(|(_, shown)| !shown).map(|(name, _)| name).collect()
}
