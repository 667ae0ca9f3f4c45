//! One of several parts of a table, in a file of its own, and the table that all of them are.

use std::io::{self, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use fleetfoot_console::{Shard, claim_equal, say, usage};
use fleetfoot_profiler::{
    Campaign, Configuration, Context, Cost, DeviceConfig, LatencyTable, Plan, Row, Spent, Subject, median,
};
use fleetfoot_space::SearchSpace;
use serde::Serialize;

use super::{Options, part};
use crate::measuring::{self, Output, What};
use crate::sharding::{
    self, Content, Part, PartFile, REMEDY, Whole, check_dealt, deal_for, is_there, part_path, take_turn,
};
use crate::tabulating::Work;

/// Subjects that every shard measures: the empty graph.
const COMMON: usize = 1;

/// The line that scripts read.
#[derive(Debug, Serialize)]
struct Ended<'a> {
    shard: String,
    part: String,
    device: &'a str,
    subjects: usize,
    #[serde(flatten)]
    spent: Spent,
}

/// What is measured of a table, for a shard of it.
struct Sharded {
    work: Work,
    context: Context,
    plan: Plan,
    positions: Vec<usize>,
    configuration: Configuration,
}

impl Sharded {
    fn new(options: &Options, space: &SearchSpace, device: &DeviceConfig, plan: Plan, shard: Shard) -> Result<Self> {
        if options.cost != Cost::Latency {
            return Err(usage(format!("--shard is for latencies: measure {} on one device, without it", options.cost)));
        }
        let context = options.context.unwrap_or(device.usual_context());
        let work = Work::new(space, options.batch, device.precision, context, Cost::Latency)?;
        let plan = work.planned(plan);
        let positions = deal_for(shard, work.subjects().len(), COMMON)?;
        let asked = [("batch", options.batch.to_string()), ("context", context.to_string())];
        let configuration = sharding::setup(("latency table", space.name()), device, work.subjects(), &plan, &asked)?;
        Ok(Self { work, context, plan, positions, configuration })
    }
}

/// Measures a shard, unless it is there.
pub fn run(
    options: &Options,
    space: &SearchSpace,
    device: &DeviceConfig,
    (plan, shard): (Plan, Shard),
    path: &Path,
) -> Result<()> {
    let sharded = Sharded::new(options, space, device, plan, shard)?;
    let Sharded { work, context, plan, positions, configuration } = &sharded;
    let path = part_path(path, shard)?;
    if !options.force && is_there(&path, shard, configuration)? {
        say(format!("{} is there already", path.display()));
        return Ok(());
    }
    let output = Output::new(&path, !options.force, options.force)?;
    let _turn = take_turn(device)?;
    let mut agent = measuring::start(device)?;
    let conditions = agent.conditions(*context, plan).at_batch(options.batch);
    let what = What::units(space).part_of(configuration);
    let whose = (format!("shard {shard}"), positions.clone());
    let (part, spent) = part::measure(&mut agent, (space, work), whose, (plan, &conditions), what, output)?;
    let content = Content::Table { space: space.text().to_owned() };
    PartFile { path: path.clone(), shard, configuration: configuration.clone(), part, content }.write()?;
    say(format!(
        "{}: shard {shard}, {} of {} subjects; `fleetfoot merge` makes the table of all shards",
        path.display(),
        positions.len() - COMMON,
        work.subjects().len() - COMMON,
    ));
    if options.json {
        let subjects = positions.len();
        let ended =
            Ended { shard: shard.to_string(), part: path.display().to_string(), device: &device.name, subjects, spent };
        writeln!(io::stdout().lock(), "{}", serde_json::to_string(&ended)?)?;
    }
    Ok(())
}

/// Says how much a shard has to measure.
pub fn dry_run(
    options: &Options,
    space: &SearchSpace,
    device: &DeviceConfig,
    (plan, shard): (Plan, Shard),
) -> Result<()> {
    let Sharded { work, plan, positions, .. } = Sharded::new(options, space, device, plan, shard)?;
    let sizes = work.sizes();
    let own: Vec<(u64, u64)> = positions.iter().map(|position| sizes[*position]).collect();
    let minutes = Campaign::estimate(&plan, &own).as_secs_f64() / 60.0;
    let (space, count, all) = (space.name(), positions.len() - COMMON, work.subjects().len() - COMMON);
    writeln!(
        io::stdout(),
        "space {space}, shard {shard}: {count} of {all} subjects on {}, about {minutes:.1} minutes; nothing measured",
        device.name
    )?;
    Ok(())
}

/// Makes the table of all its parts.
pub fn merge(parts: Vec<PartFile>, space: &str, output: &Path, force: bool) -> Result<()> {
    let Some(first) = parts.first().cloned() else { bail!("no parts: nothing to merge") };
    let (origin, conditions) = (first.path.display().to_string(), &first.part.conditions);
    let space = SearchSpace::from_toml(space, &origin)?;
    let context: Context = conditions.context.parse().with_context(|| origin.clone())?;
    let (Some(precision), Some(batch)) = (conditions.precision, conditions.batch) else {
        bail!("{origin} doesn't say its precision and batch size: measure it again with --force");
    };
    let work = Work::new(&space, batch, precision, context, Cost::Latency)?;
    if first.configuration.get(sharding::MODELS) != Some(&Subject::digest(work.subjects())) {
        bail!("{origin} is of other models than this fleetfoot makes: use the version that measured");
    }
    check_dealt(&parts, work.subjects().len(), COMMON)?;
    let of = parts.len();
    let names: Vec<&str> = work.subjects().iter().map(|subject| subject.name.as_str()).collect();
    let parts: Vec<Part> = parts.into_iter().map(|part| part.part).collect();
    let mut whole = Whole::of(&parts, &names, COMMON, REMEDY)?;
    let (overhead, rows) = work.rows(&whole.measured, (&whole.profiles, &whole.contention), &mut whole.head)?;
    whole.tell_shards(of);
    let apart = whole.apart;
    let table = LatencyTable::new(whole.head, overhead, rows)?;
    claim_equal(output, &table.to_csv()?, force, "or replace it with --force")?;
    table.write(output)?;
    say(format!(
        "{}: {} units from {of} shards, which differ by {:.1} % at most; ±{:.1} % in the median",
        output.display(),
        table.rows().len(),
        100.0 * apart,
        100.0 * median(table.rows().iter().filter_map(Row::half_width)).unwrap_or_default(),
    ));
    Ok(())
}
