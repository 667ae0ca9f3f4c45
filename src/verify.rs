//! `fleetfoot verify`: is a latency table still true for its device today?

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use fleetfoot_console::{count, share};
use fleetfoot_profiler::{
    Comparison, Cost, DeviceConfig, Journal, LatencyTable, NetworkCampaign, Provenance, Subject, USAGE_REPEATS,
    paces_apart,
};
use fleetfoot_space::{OperatorKey, SearchSpace};
use serde_json::json;

use crate::cli::PlanOptions;
use crate::evaluate::context_of;
use crate::measuring::{self, What, journal_of, tell_paces};
use crate::tabulating::Work;

/// Options of `verify`.
#[derive(Debug, Args)]
pub struct Options {
    /// The latency table
    #[arg(value_name = "TABLE")]
    table: PathBuf,
    /// Device, where it isn't the configuration that the table names
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Search space, where neither the table's journal nor a preset's name tells it
    #[arg(long, value_name = "SPACE")]
    space: Option<String>,
    /// Rows to measure again; of a table in context network, networks
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = count())]
    rows: usize,
    /// What the rows may be off by in the median, in percent, where most differ beyond noise; a single row may be off by three
    /// times as much, beyond what its interval leaves open
    #[arg(long, value_name = "PERCENT", default_value_t = 3.0, value_parser = share)]
    tolerance: f64,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    plan: PlanOptions,
}

/// Runs the command. A table that isn't true any more is an error.
pub fn run(options: &Options) -> Result<()> {
    let (table, warnings) = LatencyTable::read(&options.table)?;
    warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    let space = space(options, &table)?;
    let device = match (&options.device, table.provenance.get("device")) {
        (Some(device), _) => DeviceConfig::load(device)?,
        (None, Some(name)) => DeviceConfig::load(name)
            .with_context(|| format!("{} was measured on '{name}': name it with --device", options.table.display()))?,
        (None, None) => {
            bail!("{} doesn't say on which device it was measured: name it with --device", options.table.display())
        }
    };
    device.check_precision(table.precision(), "--device")?;
    let mut plan = options.plan.plan()?;
    plan.standing = measuring::standing_of(&table);
    if let Some(conditions) = table.conditions() {
        plan.statistic = conditions.statistic;
        plan.soak = Duration::from_secs(conditions.soak_seconds);
    }
    let context = context_of(&table)?;
    let cost = table.cost();
    let work = Work::new(&space, table.batch(), table.precision(), context, cost)?;
    let mut agent = measuring::start(&device)?;
    let conditions = agent.conditions(context, &plan).at_batch(table.batch()).of_cost(cost);
    if let Some(known) = table.conditions() {
        known.compatible(&conditions).with_context(|| {
            format!("{} was measured under other conditions than device '{}' has", options.table.display(), device.name)
        })?;
    }
    let what = What::units(&space);
    let mut measure = |subjects: &[Subject]| {
        if cost == Cost::Latency {
            let measured = measuring::measure(&mut agent, subjects, &plan, what, &conditions, None)?;
            return Ok::<_, anyhow::Error>((measured.subjects, measured.pace));
        }
        Ok((measuring::cost(&mut agent, subjects, (cost, USAGE_REPEATS), what, &conditions, None)?.0, None))
    };
    let then = table.provenance.pace();
    let foreign =
        || format!("{} has no unit of space {}: name its space with --space", options.table.display(), space.name());
    let (comparison, now) = match work {
        Work::Alone(units) => {
            let chosen: Vec<OperatorKey> = table.informative(options.rows).iter().map(|row| row.key).collect();
            let units = units.only(&chosen);
            if units.units() == 0 {
                bail!(foreign());
            }
            let (measured, pace) = measure(units.subjects())?;
            let (overhead, rows) = units.rows(&measured);
            let again = LatencyTable::new(Provenance::default(), overhead, rows)?;
            (Comparison::new(&table, &again), pace)
        }
        // A unit can't be had out of its network: networks whose rows add up to what they took are measured again.
        Work::Networks(networks, _) => {
            let references = networks.references(&table, options.rows);
            if references.is_empty() {
                bail!(foreign());
            }
            let subjects: Vec<Subject> =
                references.iter().map(|subject| Subject { reference: None, ..subject.clone() }).collect();
            let (measured, pace) = measure(&subjects)?;
            (Comparison::with_references(&references, &measured, NetworkCampaign::SUM_OFF), pace)
        }
    };
    let median = comparison.median_ratio().context("the rows that were measured again cost nothing")?;
    let (operators, beyond) = (comparison.ratios.len(), comparison.beyond_noise());
    let off = 100.0 * (median - 1.0);
    let is_true = comparison.is_within(options.tolerance / 100.0);
    let mut out = io::stdout().lock();
    if options.json {
        let figures = json!({
            "operators": operators, "median_percent": off, "beyond_noise": beyond, "true": is_true,
            "pace_percent": paces_apart(then, now),
        });
        writeln!(out, "{figures}")?;
    } else {
        for ratio in &comparison.ratios {
            let (now, then) = (cost.show(ratio.second), cost.show(ratio.first));
            let sure = if ratio.is_beyond_noise() { "differs" } else { "within noise" };
            writeln!(
                out,
                "{then} then, {now} now, x {:.3} ({:.3} to {:.3}), {sure}: {}",
                ratio.ratio, ratio.low, ratio.high, ratio.name
            )?;
        }
    }
    tell_paces(then, now, "against that of the table");
    if !is_true {
        bail!(
            "{} isn't true any more: {beyond} of {operators} rows differ beyond noise, by {off:+.1} % in the median; measure \
             it again with `fleetfoot profile`, or see what disturbs the machine",
            options.table.display()
        );
    }
    eprintln!(
        "{} is still true: {operators} rows, {off:+.1} % in the median, {beyond} beyond noise",
        options.table.display()
    );
    Ok(())
}

/// The space that the table is of: as it is named, else as the journal keeps it, else the preset that the table names.
fn space(options: &Options, table: &LatencyTable) -> Result<SearchSpace> {
    if let Some(space) = &options.space {
        return Ok(SearchSpace::load(space)?);
    }
    let journal = journal_of(&options.table);
    if journal.exists()
        && let Some(text) = Journal::read(&journal)?.0.space_toml
    {
        return Ok(SearchSpace::from_toml(&text, &journal.display().to_string())?);
    }
    match table.provenance.get("space") {
        Some(name) => SearchSpace::load(name).context("name the table's space with --space"),
        None => bail!("{} doesn't say of which space it is: name it with --space", options.table.display()),
    }
}
