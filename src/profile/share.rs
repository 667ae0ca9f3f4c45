//! One table that several identical devices measure together.
//!
//! What has to be measured, networks or units, is dealt out; a few of them, the references, are measured on every device. Nothing is
//! rescaled: devices on which the references differ aren't identical, and their parts make no table.

use std::path::Path;
use std::thread;

use anyhow::{Result, anyhow, bail};
use fleetfoot_console::{one_line, say, speak_as, usage};
use fleetfoot_profiler::{Context, Cost, DeviceConfig, LatencyTable, Plan, Row, Spent, median};
use fleetfoot_space::SearchSpace;

use super::{Options, ended, part, shelf};
use crate::measuring::{self, Output, What};
use crate::sharding::{Part, REFERENCES, REFERENCES_APART, Whole, deal};
use crate::tabulating::Work;

/// What to do with devices that aren't identical.
const REMEDY: &str = "measure each one's table by itself";

/// Makes the table.
pub fn run(options: &Options, space: &SearchSpace, devices: &[DeviceConfig], plan: Plan, path: &Path) -> Result<()> {
    let [first, _, ..] = devices else {
        return Err(usage("--share is for several devices: name each with --device"));
    };
    let context = options.context.unwrap_or(first.usual_context());
    if options.cost != Cost::Latency {
        return Err(usage(format!("--share is for latencies: measure {} on one device", options.cost)));
    }
    if let Some(other) = devices.iter().find(|device| device.precision != first.precision) {
        return Err(usage(format!(
            "'{}' computes in {}, '{}' in {}: what they share is one table of one precision",
            first.name, first.precision, other.name, other.precision
        )));
    }
    shelf::check_apart(devices)?;
    let all = Work::new(space, options.batch, first.precision, context, Cost::Latency)?;
    let plan = &all.planned(plan);
    let deals = deal(all.subjects().len(), devices.len(), 1, REFERENCES);
    let all_of_it = &all;
    let parts: Vec<Result<(Part, Spent)>> = thread::scope(|scope| {
        let workers = devices.iter().zip(deals).map(|(device, positions)| {
            scope.spawn(move || {
                speak_as(&device.name);
                let part = part(options, (space, context), (device, all_of_it, positions), plan, path);
                part.inspect_err(|error| say(format!("failed: {}", one_line(error))))
            })
        });
        let workers: Vec<_> = workers.collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| Err(anyhow!("a worker panicked")))).collect()
    });
    let failed = parts.iter().zip(devices).filter_map(|(part, device)| Some((device, part.as_ref().err()?)));
    let failed: Vec<String> = failed.map(|(device, error)| format!("{}: {}", device.name, one_line(error))).collect();
    if !failed.is_empty() {
        bail!(
            "{} of {} devices failed; {}; what the others measured is kept, go on with --resume",
            failed.len(),
            devices.len(),
            failed.join("; ")
        );
    }
    let parts = parts.into_iter().collect::<Result<Vec<_>>>()?;
    write(options, &all, parts, path)
}

/// Measures one device's part of the table.
fn part(
    options: &Options,
    (space, context): (&SearchSpace, Context),
    (device, all, positions): (&DeviceConfig, &Work, Vec<usize>),
    plan: &Plan,
    path: &Path,
) -> Result<(Part, Spent)> {
    let output = Output::with_journal(path, &format!(".{}.journal", device.name), options.resume, options.force)?;
    let mut agent = measuring::start(device)?;
    let conditions = agent.conditions(context, plan).at_batch(options.batch);
    part::measure(
        &mut agent,
        (space, all),
        (device.name.clone(), positions),
        (plan, &conditions),
        What::units(space),
        output,
    )
}

fn write(options: &Options, all: &Work, parts: Vec<(Part, Spent)>, path: &Path) -> Result<()> {
    let (parts, spent): (Vec<Part>, Vec<Spent>) = parts.into_iter().unzip();
    let subjects: Vec<&str> = all.subjects().iter().map(|subject| subject.name.as_str()).collect();
    let mut whole = Whole::of(&parts, &subjects, 1, REMEDY)?;
    let names: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
    whole.head.set("device", names[0]);
    whole.head.set("shared_by", names.join(", "));
    whole.head.set(REFERENCES_APART, format!("{:.2}", 100.0 * whole.apart));
    let (overhead, rows) = all.rows(&whole.measured, (&whole.profiles, &whole.contention), &mut whole.head)?;
    let table = LatencyTable::new(whole.head, overhead, rows)?;
    table.write(path)?;
    let mut together = Spent::default();
    for own in spent {
        together.samples_taken_again += own.samples_taken_again;
        together.disturbed_windows += own.disturbed_windows;
        together.seconds_measuring = together.seconds_measuring.max(own.seconds_measuring);
        together.seconds_waiting = together.seconds_waiting.max(own.seconds_waiting);
    }
    let halves = table.rows().iter().filter_map(Row::half_width);
    say(format!(
        "{}: {} units measured by {} devices ({}), which differ by {:.1} % at most; ±{:.1} % in the median",
        path.display(),
        table.rows().len(),
        parts.len(),
        names.join(", "),
        100.0 * whole.apart,
        100.0 * median(halves).unwrap_or_default(),
    ));
    if options.json {
        ended(options, &names.join(" + "), path, table.rows().len(), together)?;
    }
    Ok(())
}
