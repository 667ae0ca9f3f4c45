//! One table that several identical devices measure together.
//!
//! What has to be measured, networks or units, is dealt out; a few of them, the references, are measured on every device. Nothing is
//! rescaled: devices on which the references differ aren't identical, and their parts make no table.

use std::path::Path;
use std::thread;

use anyhow::{Context as _, Result, anyhow, bail};
use fleetfoot_console::{one_line, say, speak_as, usage};
use fleetfoot_profiler::{
    Conditions, Context, Cost, DeviceConfig, LatencyTable, Measurement, NodeProfile, Plan, Provenance, Row, Spent,
    Subject, Z, median,
};
use fleetfoot_space::SearchSpace;

use super::{Options, ended, shelf};
use crate::measuring::{self, Measured, Output, What};
use crate::tabulating::Work;

/// Networks or units that every device measures, besides the empty graph.
const REFERENCES: usize = 7;
/// By so much identical devices may differ, as a share: what two profiles of one device differ by, and more.
const ALIKE: f64 = 0.03;

/// What one device has measured: the positions of its subjects among all.
struct Part {
    name: String,
    positions: Vec<usize>,
    measured: Measured,
    profiles: Vec<NodeProfile>,
    provenance: Provenance,
    conditions: Conditions,
}

/// Makes the table.
pub fn run(
    options: &Options,
    space: &SearchSpace,
    devices: &[DeviceConfig],
    mut plan: Plan,
    path: &Path,
) -> Result<()> {
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
    if let Work::Networks(..) = all {
        plan.half_width *= 2.0;
    }
    let deals = deal(all.subjects().len(), devices.len());
    let (all_of_it, plan) = (&all, &plan);
    let parts: Vec<Result<Part>> = thread::scope(|scope| {
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
    let parts: Vec<Part> = parts.into_iter().collect::<Result<_>>()?;
    let apart = check_alike(&parts, all.subjects())?;
    write(options, space, &all, &parts, apart, path)
}

/// Positions of the subjects that each device measures: the empty graph and the references, and its share of the others.
fn deal(subjects: usize, devices: usize) -> Vec<Vec<usize>> {
    let networks = subjects.saturating_sub(1);
    let references = REFERENCES.min(networks);
    let is_reference =
        |index: usize| (0..references).any(|which| index == 1 + (2 * which + 1) * networks / (2 * references));
    let mut deals = vec![Vec::new(); devices];
    let mut next = 0;
    for index in 0..subjects {
        if index == 0 || is_reference(index) {
            deals.iter_mut().for_each(|deal| deal.push(index));
        } else {
            deals[next % devices].push(index);
            next += 1;
        }
    }
    deals
}

fn part(
    options: &Options,
    (space, context): (&SearchSpace, Context),
    (device, all, positions): (&DeviceConfig, &Work, Vec<usize>),
    plan: &Plan,
    path: &Path,
) -> Result<Part> {
    let output = Output::with_journal(path, &format!(".{}.journal", device.name), options.resume, options.force)?;
    let mut agent = measuring::start(device)?;
    let conditions = agent.conditions(context, plan).at_batch(options.batch);
    let what = || What::units(space);
    let (profiles, output) = match all.profiled() {
        Some(networks) => {
            measuring::node_profiles(&mut agent, &networks.part(&positions), plan, what(), &conditions, output)?
        }
        None => (Vec::new(), output),
    };
    let subjects: Vec<Subject> = positions.iter().map(|position| all.subjects()[*position].clone()).collect();
    let measured = measuring::measure(&mut agent, &subjects, plan, what(), &conditions, Some(&output))?;
    let mut provenance = measuring::provenance(&agent, &conditions, plan, measured.provider_share.as_ref());
    measured.to_provenance(plan, &mut provenance);
    let among_all = |profile: NodeProfile| {
        let subject = positions.get(profile.subject as usize).copied().unwrap_or_default() as u32;
        NodeProfile { subject, ..profile }
    };
    let profiles = profiles.into_iter().map(among_all).collect();
    Ok(Part { name: device.name.clone(), positions, measured, profiles, provenance, conditions })
}

impl Part {
    fn of(&self, position: usize) -> Option<&Measurement> {
        let own = self.positions.iter().position(|known| *known == position)?;
        self.measured.subjects.get(own)
    }
}

/// By how much the devices differ, the most, as a share; too much is an error.
fn check_alike(parts: &[Part], subjects: &[Subject]) -> Result<f64> {
    let [first, others @ ..] = parts else { return Ok(0.0) };
    let mut most: f64 = 0.0;
    for other in others {
        let same = Conditions { device: first.conditions.device.clone(), ..other.conditions.clone() };
        first.conditions.compatible(&same).map_err(|differences| {
            anyhow!(
                "'{}' and '{}' aren't identical ({differences}): measure each one's table by itself",
                first.name,
                other.name
            )
        })?;
        let references = first.positions.iter().filter(|position| **position > 0 && other.positions.contains(position));
        let ratios: Vec<(f64, f64, &str)> = references
            .filter_map(|&position| {
                let (ours, theirs) = (first.of(position)?, other.of(position)?);
                let doubt = ours.half_width().hypot(theirs.half_width());
                Some((theirs.latency.ms() / ours.latency.ms() - 1.0, doubt, subjects[position].name.as_str()))
            })
            .collect();
        let apart = alike(&ratios).map_err(|(apart, permitted)| {
            let worst = ratios.iter().max_by(|a, b| a.0.abs().total_cmp(&b.0.abs())).map_or("", |(.., name)| name);
            anyhow!(
                "'{}' and '{}' aren't identical: what both measured takes {:+.1} % on '{}' in the median (most differs {worst}), more \
                 than {:.1} %: measure each one's table by itself, or when both are in the same state",
                first.name,
                other.name,
                100.0 * apart,
                other.name,
                100.0 * permitted,
            )
        })?;
        most = most.max(apart.abs());
    }
    Ok(most)
}

/// By how much two devices differ, from their references' differences and doubts: the median, if it is no more than is permitted, else both.
fn alike(ratios: &[(f64, f64, &str)]) -> Result<f64, (f64, f64)> {
    let apart = median(ratios.iter().map(|(apart, ..)| *apart)).unwrap_or(f64::NAN);
    let doubt = median(ratios.iter().map(|(_, doubt, _)| *doubt)).unwrap_or(f64::NAN);
    // Half a 99 % interval is Z deviations; a few references are alike if their median is.
    let permitted = ALIKE.max(3.0 * doubt / Z);
    if apart.abs() <= permitted { Ok(apart) } else { Err((apart, permitted)) }
}

fn write(options: &Options, space: &SearchSpace, all: &Work, parts: &[Part], apart: f64, path: &Path) -> Result<()> {
    let measured = (0..all.subjects().len()).map(|position| {
        let of_any = parts.iter().find_map(|part| part.of(position));
        of_any.copied().with_context(|| format!("nobody measured {}", all.subjects()[position].name))
    });
    let measured = measured.collect::<Result<Vec<Measurement>>>()?;
    let names: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
    let mut provenance = parts.first().map(|part| part.provenance.clone()).unwrap_or_default();
    provenance.set("space", space.name());
    provenance.set("shared_by", names.join(", "));
    provenance.set("references_apart_percent", format!("{:.2}", 100.0 * apart));
    // A network that several devices profiled has the profiles of all.
    let profiles: Vec<NodeProfile> = parts.iter().flat_map(|part| part.profiles.iter().cloned()).collect();
    let contention: Vec<f64> = parts.iter().flat_map(|part| part.measured.contention.iter().copied()).collect();
    let (overhead, rows) = all.rows(&measured, (&profiles, &contention), &mut provenance)?;
    let table = LatencyTable::new(provenance, overhead, rows)?;
    table.write(path)?;
    let mut spent = Spent::default();
    for part in parts {
        let own = part.measured.course.spent();
        spent.samples_taken_again += own.samples_taken_again;
        spent.disturbed_windows += own.disturbed_windows;
        spent.seconds_measuring = spent.seconds_measuring.max(own.seconds_measuring);
        spent.seconds_waiting = spent.seconds_waiting.max(own.seconds_waiting);
    }
    let halves = table.rows().iter().filter_map(Row::half_width);
    say(format!(
        "{}: {} units measured by {} devices ({}), which differ by {:.1} % at most; ±{:.1} % in the median",
        path.display(),
        table.rows().len(),
        parts.len(),
        names.join(", "),
        100.0 * apart,
        100.0 * median(halves).unwrap_or_default(),
    ));
    if options.json {
        ended(options, &names.join(" + "), path, table.rows().len(), spent)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_that_differ_by_more_than_noise_arent_identical() {
        let ratios = |all: &[f64], doubt: f64| alike(&all.iter().map(|apart| (*apart, doubt, "")).collect::<Vec<_>>());
        assert_eq!(ratios(&[0.01, -0.01, 0.02], 0.01), Ok(0.01));
        assert!(ratios(&[0.08, 0.07, 0.09], 0.01).is_err());
        assert!(ratios(&[-0.05, -0.04, -0.06], 0.01).is_err());
        // One that was hit says little; what is hardly known says nothing.
        assert_eq!(ratios(&[0.0, 0.5, 0.0], 0.01), Ok(0.0));
        assert!(ratios(&[0.08, 0.07, 0.09], 0.2).is_ok());
        assert!(ratios(&[], 0.01).is_err());
    }

    #[test]
    fn networks_are_dealt_out_once_and_references_to_all() {
        for (subjects, devices) in [(85, 2), (85, 3), (9, 2), (4, 5)] {
            let deals = deal(subjects, devices);
            let count = |index: usize| deals.iter().filter(|deal| deal.contains(&index)).count();
            assert!((0..subjects).all(|index| count(index) == 1 || count(index) == devices));
            assert_eq!(count(0), devices, "the empty graph");
            let references = (1..subjects).filter(|index| count(*index) == devices).count();
            assert_eq!(references, REFERENCES.min(subjects - 1));
            let most = deals.iter().map(Vec::len).max().unwrap();
            let least = deals.iter().map(Vec::len).min().unwrap();
            assert!(most - least <= 1, "{deals:?}");
        }
    }
}
