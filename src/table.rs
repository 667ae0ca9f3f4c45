//! `fleetfoot table`: a latency table again, from its raw samples, by another statistic.

use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use fleetfoot_console::claim;
use fleetfoot_profiler::{Campaign, Context, Cost, Journal, LatencyTable, Plan, Provenance, Statistic, Subject};
use fleetfoot_space::SearchSpace;

use crate::measuring::{JOURNAL_FORMAT, OLDEST_JOURNAL, journal_of};
use crate::sharding::parts_of;
use crate::tabulating::Work;

/// Options of `table`.
#[derive(Debug, Args)]
pub struct Options {
    /// The latency table; its raw samples lie beside it in TABLE.journal
    #[arg(value_name = "TABLE")]
    table: PathBuf,
    /// What a latency is of its samples: min, p20, median, p90 or p99
    #[arg(long)]
    statistic: Statistic,
    /// The latency table to write; without it, standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace an existing file
    #[arg(long, requires = "output")]
    force: bool,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<()> {
    if let Some(output) = &options.output {
        claim(output, options.force, "or replace it with --force")?;
    }
    let journal = journal_of(&options.table);
    let head = std::fs::read_to_string(&options.table).map(|text| Provenance::from_head(&text)).unwrap_or_default();
    if let Some(devices) = head.get("shared_by").filter(|_| !journal.exists()) {
        bail!(
            "{} was measured by several devices ({devices}), each with a journal of its own: it has the statistic that it was measured by; \
             measure it by another one with `fleetfoot profile --share --statistic`",
            options.table.display()
        );
    }
    if let (false, Some(part)) = (journal.exists(), parts_of(&options.table)?.first()) {
        bail!(
            "{} is of shards such as {}, each with a journal of its own: it has the statistic that they were measured by; measure all by \
             another one with `fleetfoot profile --shard --statistic`",
            options.table.display(),
            part.display()
        );
    }
    let (header, records) = Journal::read(&journal)?;
    let Some(space) = &header.space_toml else {
        bail!("journal {} isn't that of a latency table: wanted one of `fleetfoot profile`", journal.display());
    };
    if !(OLDEST_JOURNAL..=JOURNAL_FORMAT).contains(&header.fleetfoot_journal) {
        bail!(
            "journal {} is of form {}, this fleetfoot reads {OLDEST_JOURNAL} to {JOURNAL_FORMAT}: use the version that measured",
            journal.display(),
            header.fleetfoot_journal
        );
    }
    let space = SearchSpace::from_toml(space, &journal.display().to_string())?;
    let context: Context = header.conditions.context.parse().with_context(|| journal.display().to_string())?;
    let (Some(precision), Some(batch)) = (header.conditions.precision, header.conditions.batch) else {
        bail!("journal {} doesn't say its precision and batch size: use the version that measured", journal.display());
    };
    if header.conditions.cost != Cost::Latency {
        bail!(
            "{} is of {}, single readings that no statistic is taken of: only latencies have one",
            options.table.display(),
            header.conditions.cost
        );
    }
    let work = Work::new(&space, batch, precision, context, Cost::Latency)?;
    if Subject::digest(work.subjects()) != header.models {
        bail!(
            "journal {} holds other models than this fleetfoot makes: use the version that measured",
            journal.display()
        );
    }
    let plan = Plan { statistic: options.statistic, ..Plan::of(&header) };
    let (profiles, ended) = (records.profiles.clone(), records.ended);
    let mut campaign = Campaign::new(plan, work.subjects(), records, header.conditions.computes_in_caller());
    let unfinished = format!("journal {} is unfinished: go on with `fleetfoot profile --resume`", journal.display());
    let measured = campaign
        .measurements()
        .with_context(|| if ended { journal.display().to_string() } else { unfinished.clone() })?;
    if !ended {
        eprintln!("warning: {unfinished}; until then intervals are wider than they need to be");
    }
    // What the journal doesn't say (the date, the machine) stands in the table, if there is one yet.
    let mut provenance = Provenance::from_head(&std::fs::read_to_string(&options.table).unwrap_or_default());
    let conditions = fleetfoot_profiler::Conditions { statistic: options.statistic, ..header.conditions };
    conditions.to_provenance(&mut provenance);
    provenance.set("seed", header.seed);
    if let Some(pace) = campaign.pace() {
        provenance.set_pace(pace);
    }
    provenance.set_best_pace(campaign.best_pace());
    provenance.set_sharing(campaign.sharing());
    if !ended {
        provenance.set("unfinished", "from the journal of a campaign that was stopped before its end");
    }
    provenance.set("space", space.name());
    let (overhead, rows) = work.rows(&measured, (&profiles, &campaign.contention()), &mut provenance)?;
    let table = LatencyTable::new(provenance, overhead, rows)?;
    match &options.output {
        Some(path) => Ok(table.write(path)?),
        None => Ok(io::stdout().lock().write_all(&table.to_csv()?)?),
    }
}
