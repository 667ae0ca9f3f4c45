//! `fleetfoot profile`: the latency table of a space on a device, or on several at once.

mod part;
pub mod shard;
mod share;
pub mod shelf;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use fleetfoot_console::{Shard, say, usage};
use fleetfoot_profiler::{
    Agent, Campaign, Conditions, Context, Cost, DeviceConfig, LatencyTable, NodeProfile, Plan, Row, Spent,
    USAGE_REPEATS, median,
};
use fleetfoot_space::SearchSpace;
use serde::Serialize;

use crate::cli::{PlanOptions, batch_size};
use crate::measuring::{self, Measured, Output, What};
use crate::tabulating::Work;

/// Options of `profile`.
#[derive(Debug, Args)]
pub struct Options {
    /// Search space: a preset's name or a TOML file
    #[arg(long, value_name = "SPACE")]
    space: String,
    /// Device: a shipped configuration's name, one of your own (`fleetfoot devices`) or a TOML file; several at once, each given
    /// by itself
    #[arg(long, value_name = "DEVICE", default_value = "local-cpu")]
    device: Vec<String>,
    /// The latency table to write; raw samples are kept in FILE.journal. With several devices a folder: each one's table in it
    /// has its name
    #[arg(short, long, value_name = "FILE", required_unless_present = "dry_run")]
    output: Option<PathBuf>,
    /// How each unit is measured: alone with warm or cold caches, or within whole networks; the device's configuration says
    /// which where this doesn't
    #[arg(long, value_name = "cold|warm|network")]
    context: Option<Context>,
    /// What the table is of: latency, memory (the most that a process with the network alone has resident) or energy (of a
    /// run, by RAPL or the battery). The last two are measured in context network
    #[arg(long, value_name = "COST", default_value_t = Cost::default())]
    cost: Cost,
    /// The devices are identical: they measure one table together, each a part of it. A few networks, or units, are measured on all
    /// of them: where those differ, so do the devices, and there is no table
    #[arg(long)]
    share: bool,
    /// Measure part I of N of the table, FILE.IofN, with other parts measured elsewhere or at another time; goes on from its own journal
    /// by itself, and is done at once if the part is there. `fleetfoot merge` makes the table of all
    #[arg(long, value_name = "I/N", conflicts_with = "share")]
    shard: Option<Shard>,
    /// Batch size of the networks that the table is for
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = batch_size())]
    batch: usize,
    #[command(flatten)]
    plan: PlanOptions,
    /// Go on with what an earlier run left, or start if there is nothing
    #[arg(long, conflicts_with = "force")]
    resume: bool,
    /// Replace an existing table and its journal
    #[arg(long)]
    force: bool,
    /// Only say how many units there are and about how long they take
    #[arg(long, conflicts_with = "json")]
    dry_run: bool,
    /// Print what was spent as one line of JSON at the end
    #[arg(long)]
    json: bool,
}

/// The line that scripts read: one for each table, which says whose it is where there are several devices.
#[derive(Debug, Serialize)]
struct Ended<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<String>,
    rows: usize,
    #[serde(flatten)]
    spent: Spent,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<()> {
    let space = SearchSpace::load(&options.space)?;
    let devices = options.device.iter().map(|name| DeviceConfig::load(name)).collect::<Result<Vec<_>, _>>()?;
    let plan = options.plan.plan()?;
    if options.cost != Cost::Latency && !plan.soak.is_zero() {
        return Err(usage(format!(
            "--soak is for latencies: {} is read as often as it takes, busy or not",
            options.cost
        )));
    }
    let path = options.output.as_deref().filter(|_| !options.dry_run);
    if let (true, Some(path)) = (options.share, path) {
        return share::run(options, &space, &devices, plan, path);
    }
    if let Some(shard) = options.shard {
        let [device] = devices.as_slice() else {
            return Err(usage(
                "--shard is for one device: run a shard for each, or let several share the work by --share",
            ));
        };
        return match path {
            Some(path) => shard::run(options, &space, device, (plan, shard), path),
            None => shard::dry_run(options, &space, device, (plan, shard)),
        };
    }
    match (devices.as_slice(), path) {
        ([device], path) => table(options, &space, device, plan, path),
        (several, Some(folder)) => {
            shelf::run(several, folder, |device, path| table(options, &space, device, plan.clone(), Some(path)))
        }
        (several, None) => several.iter().try_for_each(|device| table(options, &space, device, plan.clone(), None)),
    }
}

/// Makes the table of one device.
fn table(options: &Options, space: &SearchSpace, device: &DeviceConfig, plan: Plan, path: Option<&Path>) -> Result<()> {
    let usual = if options.cost == Cost::Latency { device.usual_context() } else { Context::Network };
    let context = options.context.unwrap_or(usual);
    let work = Work::new(space, options.batch, device.precision, context, options.cost)?;
    let plan = work.planned(plan);
    let Some(path) = path else {
        return dry_run(space, &work, &plan, device);
    };
    let output = Output::new(path, options.resume, options.force)?;
    let mut agent = measuring::start(device)?;
    let conditions = agent.conditions(context, &plan).at_batch(options.batch).of_cost(options.cost);
    if options.cost != Cost::Latency {
        return of_usage(options, space, &work, &plan, (&mut agent, &conditions), output);
    }
    let (profiles, output) = node_profiles(&work, &mut agent, &plan, What::units(space), &conditions, output)?;
    let measured =
        measuring::measure(&mut agent, work.subjects(), &plan, What::units(space), &conditions, Some(&output))?;
    let mut provenance = measuring::provenance(&agent, &conditions, &plan, measured.provider_share.as_ref());
    provenance.set("space", space.name());
    measured.to_provenance(&plan, &mut provenance);
    let Measured { subjects: measured, course, contention, .. } = measured;
    let (overhead, rows) = work.rows(&measured, (&profiles, &contention), &mut provenance)?;
    let table = LatencyTable::new(provenance, overhead, rows)?;
    table.write(output.path())?;
    let spent = course.spent();
    let mut halves: Vec<f64> = table.rows().iter().filter_map(Row::half_width).collect();
    halves.sort_by(f64::total_cmp);
    say(format!(
        "{}: {} units on {}, ±{:.1} % in the median, the widest ±{:.1} %; empty graph {:.1} µs",
        path.display(),
        table.rows().len(),
        device.name,
        100.0 * median(halves.iter().copied()).unwrap_or_default(),
        100.0 * halves.last().copied().unwrap_or_default(),
        1000.0 * overhead.ms(),
    ));
    if options.json {
        ended(options, &device.name, path, table.rows().len(), spent)?;
    }
    Ok(())
}

/// Writes the line that scripts read.
fn ended(options: &Options, device: &str, table: &Path, rows: usize, spent: Spent) -> Result<()> {
    let several = options.device.len() > 1;
    let (device, table) = (several.then_some(device), several.then(|| table.display().to_string()));
    let ended = Ended { device, table, rows, spent };
    writeln!(io::stdout().lock(), "{}", serde_json::to_string(&ended)?)?;
    Ok(())
}

/// How the networks' costs are divided among their nodes, where that has to be known.
fn node_profiles(
    work: &Work,
    agent: &mut Agent,
    plan: &Plan,
    what: What<'_>,
    conditions: &Conditions,
    output: Output,
) -> Result<(Vec<NodeProfile>, Output)> {
    match work.profiled() {
        Some(networks) => measuring::node_profiles(agent, networks, plan, what, conditions, output),
        None => Ok((Vec::new(), output)),
    }
}

/// A table of what networks take besides time.
fn of_usage(
    options: &Options,
    space: &SearchSpace,
    work: &Work,
    plan: &Plan,
    (agent, conditions): (&mut Agent, &Conditions),
    output: Output,
) -> Result<()> {
    let cost = options.cost;
    let began = Instant::now();
    measuring::check_told(agent, cost, conditions)?;
    let (profiles, output) = node_profiles(work, agent, &Plan::default(), What::units(space), conditions, output)?;
    let repeated = (cost, USAGE_REPEATS);
    let (measured, share) =
        measuring::cost(agent, work.subjects(), repeated, What::units(space), conditions, Some(&output))?;
    let mut provenance = measuring::provenance(agent, conditions, plan, share.as_ref());
    provenance.set("space", space.name());
    let (overhead, rows) = work.rows(&measured, (&profiles, &[]), &mut provenance)?;
    let table = LatencyTable::new(provenance, overhead, rows)?;
    table.write(output.path())?;
    let seconds_measuring = began.elapsed().as_secs_f64();
    let (path, count, device) = (output.path().display(), table.rows().len(), &conditions.device);
    let empty = cost.show(overhead);
    say(format!(
        "{path}: {cost} of {count} units on {device}, empty graph {empty}; {seconds_measuring:.0} s measuring"
    ));
    if options.json {
        let spent = Spent { seconds_measuring, ..Spent::default() };
        ended(options, &conditions.device, output.path(), count, spent)?;
    }
    Ok(())
}

fn dry_run(space: &SearchSpace, work: &Work, plan: &Plan, device: &DeviceConfig) -> Result<()> {
    let minutes = Campaign::estimate(plan, &work.sizes()).as_secs_f64() / 60.0;
    let (space, count, device) = (space.name(), work.units(), &device.name);
    writeln!(io::stdout(), "space {space}: {count} units on {device}, about {minutes:.1} minutes; nothing measured")?;
    Ok(())
}
