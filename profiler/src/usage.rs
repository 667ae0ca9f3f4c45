//! What networks take besides time: memory and energy.
//!
//! Memory is what a process that loads one model and runs it has resident at most, whatever else it holds: the runtime and the
//! model's bytes as they were read are part of it. Energy is what the machine's meters say over a long loop of runs, the
//! power that the machine takes while it does nothing included; where there is no meter but a battery, its power over the time.

use std::sync::atomic::{AtomicBool, Ordering};

use fleetfoot_protocol::{Health, Timing};
use serde::{Deserialize, Serialize};

use crate::agent::{Agent, AgentError};
use crate::campaign::CampaignError;
use crate::cost::Cost;
use crate::journal::Journal;
use crate::latency::Latency;
use crate::statistics::{Interval, Measurement, around_median};
use crate::steady::Steward;
use crate::subject::Subject;
use crate::sustained::chunk;

/// How often the memory and the energy of a network are measured, unless somebody says otherwise.
pub const USAGE_REPEATS: u32 = 5;
/// Runs of a model, the first of which may take more memory than those behind it.
const MEMORY_RUNS: u32 = 3;
/// How long a loop is whose energy is read, in ns: a thousand times what meters need for a new value.
const LOOP_NS: u64 = 1_000_000_000;
/// How long it runs between two looks, in ns.
const CHUNK_NS: f64 = 100e6;

/// One reading.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// The subject's number.
    pub subject: u32,
    /// Which of the repeats, from 0.
    pub repeat: u32,
    /// Of what.
    pub cost: Cost,
    /// How much, in the cost's unit; `None` where the device doesn't tell.
    pub amount: Option<f64>,
}

/// Reads what every subject takes, `repeats` times, going on behind earlier readings. Each is in the journal before the
/// next one is taken; `watch` is told how many there are.
pub fn take_usage(
    agent: &mut Agent,
    subjects: &[Subject],
    costs: &[Cost],
    repeats: u32,
    (mut journal, earlier): (Option<&mut Journal>, Vec<Usage>),
    stop: &AtomicBool,
    watch: &mut dyn FnMut(usize),
) -> Result<Vec<Usage>, CampaignError> {
    let (mut usages, mut steward) = (earlier, Steward::default());
    for repeat in 0..repeats {
        for &cost in costs {
            for (index, subject) in subjects.iter().enumerate() {
                let number = index as u32;
                if usages.iter().any(|known| (known.subject, known.repeat, known.cost) == (number, repeat, cost)) {
                    continue;
                }
                if stop.load(Ordering::Relaxed) {
                    return Err(CampaignError::Interrupted);
                }
                let failed = |source| CampaignError::Agent { subject: subject.name.clone(), source };
                steward.attend(agent, stop).map_err(failed)?;
                // A reading in which another process took the agent's place isn't of one process.
                let amount = loop {
                    let before = agent.reconnections();
                    let amount = match cost {
                        Cost::Memory => memory_mib(agent, subject).map_err(failed)?,
                        Cost::Energy => energy_mj(agent, subject).map_err(failed)?,
                        Cost::Latency => None,
                    };
                    if agent.reconnections() == before {
                        break amount;
                    }
                    if stop.load(Ordering::Relaxed) {
                        return Err(CampaignError::Interrupted);
                    }
                };
                let usage = Usage { subject: number, repeat, cost, amount };
                if let Some(journal) = journal.as_deref_mut() {
                    journal.append_usage(&usage).and_then(|()| journal.sync())?;
                }
                usages.push(usage);
                watch(usages.len());
            }
        }
    }
    Ok(usages)
}

/// What the readings say of a subject: their median, with the interval that holds, with 99 %, what another campaign finds. `None` where
/// one isn't available.
pub fn usage_of(usages: &[Usage], subject: usize, cost: Cost) -> Option<Measurement> {
    let own = usages.iter().filter(|usage| usage.subject as usize == subject && usage.cost == cost);
    let amounts = own.map(|usage| usage.amount).collect::<Option<Vec<f64>>>()?;
    let amount = |amount: f64| Latency::from_ms(amount).ok();
    let (middle, low, high) = around_median(amounts.clone())?;
    let interval = Interval { low: amount(low)?, high: amount(high)? };
    let (latency, samples) = (amount(middle)?, amounts.len());
    Some(Measurement { latency, interval, samples, rounds: samples, disturbed: 0, common: 0.0 }.of_another())
}

fn memory_mib(agent: &mut Agent, subject: &Subject) -> Result<Option<f64>, AgentError> {
    agent.restart()?;
    let model = agent.load(&subject.onnx)?;
    agent.time(model, Timing { warmup: 0, samples: MEMORY_RUNS, batch: 1, evict_bytes: 0 })?;
    Ok(agent.look()?.peak_resident_bytes.map(|bytes| bytes as f64 / f64::from(1 << 20)))
}

fn energy_mj(agent: &mut Agent, subject: &Subject) -> Result<Option<f64>, AgentError> {
    if !tells(Cost::Energy, &agent.look()?) {
        return Ok(None);
    }
    let model = agent.load(&subject.onnx)?;
    let known = agent.time(model, Timing { warmup: 2, samples: 5, batch: 1, evict_bytes: 0 })?;
    let timing = chunk(&known.samples, CHUNK_NS);
    let mut looks = vec![agent.look()?];
    let mut runs = 0;
    while looks.len() < 2 || since(&looks) < LOOP_NS {
        agent.time(model, timing)?;
        runs += u64::from(timing.samples) * u64::from(timing.batch);
        looks.push(agent.look()?);
    }
    agent.unload(model)?;
    Ok(energy_between(&looks).map(|millijoules| millijoules / runs as f64))
}

fn since(looks: &[Health]) -> u64 {
    let ends = looks.first().zip(looks.last());
    ends.map_or(0, |(first, last)| last.at_ns.saturating_sub(first.at_ns))
}

/// Whether a device in this state tells such a cost.
pub fn tells(cost: Cost, health: &Health) -> bool {
    match cost {
        Cost::Latency => true,
        Cost::Memory => health.peak_resident_bytes.is_some(),
        Cost::Energy => {
            let battery = health.battery.is_some_and(|battery| battery.discharging && battery.milliwatts.is_some());
            !health.energy.is_empty() || battery
        }
    }
}

/// Energy from the first look to the last, in millijoules: by the meters, else by the battery's power.
fn energy_between(looks: &[Health]) -> Option<f64> {
    let pairs = || looks.iter().zip(looks.get(1..).unwrap_or_default());
    if looks.iter().all(|look| !look.energy.is_empty()) {
        let taken = pairs().map(|(then, now)| {
            let part = |meter: &fleetfoot_protocol::EnergyMeter| {
                let earlier = then.energy.iter().find(|earlier| earlier.part == meter.part)?;
                Some(meter.since(earlier))
            };
            now.energy.iter().map(part).sum::<Option<u64>>()
        });
        return taken.sum::<Option<u64>>().map(|microjoules| microjoules as f64 / 1000.0);
    }
    let power = |look: &Health| look.battery.filter(|battery| battery.discharging)?.milliwatts;
    let taken = pairs().map(|(then, now)| {
        let mean = (power(then)? + power(now)?) / 2.0;
        Some(mean * now.at_ns.saturating_sub(then.at_ns) as f64 / 1e9)
    });
    taken.sum()
}

#[cfg(test)]
mod tests {
    use fleetfoot_protocol::{Battery, EnergyMeter};

    use super::*;

    fn look(at_ns: u64, energy: &[(&str, u64)], milliwatts: Option<f64>) -> Health {
        let meter = |&(part, microjoules): &(&str, u64)| EnergyMeter { part: part.into(), microjoules, wraps_at: 1000 };
        let battery = milliwatts.map(|_| Battery { discharging: true, milliwatts, ..Battery::default() });
        Health { at_ns, energy: energy.iter().map(meter).collect(), battery, ..Health::default() }
    }

    #[test]
    fn meters_count_every_part_over_their_turns() {
        let looks = [
            look(0, &[("a", 900), ("b", 0)], Some(1e9)),
            look(5, &[("b", 10), ("a", 400)], None),
            look(9, &[("a", 300), ("b", 11)], None),
        ];
        // a: 500 and 900 microjoules, b: 11.
        assert_eq!(energy_between(&looks), Some(1.411));
    }

    #[test]
    fn a_battery_s_power_counts_where_there_is_no_meter() {
        let looks = [
            look(0, &[], Some(1000.0)),
            look(1_000_000_000, &[], Some(3000.0)),
            look(3_000_000_000, &[], Some(3000.0)),
        ];
        assert_eq!(energy_between(&looks), Some(8000.0));
        let charging = Health { battery: None, ..looks[2].clone() };
        assert_eq!(energy_between(&[looks[0].clone(), charging]), None);
        assert!(!tells(Cost::Energy, &Health::default()) && tells(Cost::Energy, &looks[0]));
    }

    #[test]
    fn one_reading_that_is_missing_leaves_nothing() {
        let usage = |repeat, amount| Usage { subject: 1, repeat, cost: Cost::Memory, amount };
        let known = [usage(0, Some(3.0)), usage(1, Some(9.0)), usage(2, Some(4.0))];
        let measured = usage_of(&known, 1, Cost::Memory).unwrap();
        assert_eq!((measured.latency.ms(), measured.samples), (4.0, 3));
        // Three readings know little of a fourth.
        assert!(measured.interval.low.ms() < 3.0 && measured.interval.high.ms() > 9.0, "{measured:?}");
        assert_eq!(usage_of(&known, 0, Cost::Memory), None);
        assert_eq!(usage_of(&[known[0], usage(1, None)], 1, Cost::Memory), None);
    }
}
