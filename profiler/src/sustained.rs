//! What a device does when it is kept busy: as it warms up, it may slow down until its heat is steady.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fleetfoot_protocol::{Sample, Timed, Timing};

use crate::agent::{Agent, AgentError, ModelId};
use crate::campaign::CampaignError;
use crate::clock::Clock;
use crate::journal::{Journal, Visit};
use crate::statistics::{Measurement, Sieve, Statistic, median};
use crate::subject::Subject;

/// What is compared: so long at the beginning, and so long at the end.
pub const HALF_MINUTE: Duration = Duration::from_secs(30);
/// How long it runs between two requests, in ns.
const CHUNK_NS: f64 = 250e6;
/// A sample sums so many runs that it takes at least this long, in ns.
const SAMPLE_NS: f64 = 5e6;

/// A network's latency in the first half minute of a long run, and in the last.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sustained {
    /// In the first half minute.
    pub first: Measurement,
    /// In the last one.
    pub last: Measurement,
}

impl Sustained {
    /// By what factor it was slower at the end.
    pub fn slower(&self) -> f64 {
        self.last.latency.ms() / self.first.latency.ms()
    }

    /// Of the visits of a run that is at least two windows long.
    pub fn of_visits(visits: &[Visit], statistic: Statistic, detect: bool) -> Option<Self> {
        let (began, ended) = span(visits)?;
        let window = HALF_MINUTE.as_nanos() as u64;
        let within = |from: u64, to: u64| {
            let visits = visits.iter().filter(|visit| starts(visit).is_some_and(|at| (from..to).contains(&at)));
            let batch = visits.clone().next()?.batch;
            let rounds: Vec<(&[Sample], f64)> = visits.map(|visit| (visit.samples.as_slice(), 1.0)).collect();
            Measurement::from_rounds(&rounds, batch, statistic, Sieve { interruptions: detect, bursts: false })
        };
        let first = within(began, began.saturating_add(window))?;
        Some(Self { first, last: within(ended.saturating_sub(window), ended)? })
    }
}

fn starts(visit: &Visit) -> Option<u64> {
    visit.samples.first().map(|sample| sample.at_ns)
}

fn span(visits: &[Visit]) -> Option<(u64, u64)> {
    let last = visits.last()?.samples.last()?;
    Some((starts(visits.first()?)?, last.at_ns.saturating_add(last.wall_ns)))
}

/// How to run a model without a break for about so long, in ns, by what single runs of it took.
pub(crate) fn chunk(known: &[Sample], chunk_ns: f64) -> Timing {
    let run_ns = median(known.iter().map(|sample| sample.wall_ns as f64)).unwrap_or(1.0).max(1.0);
    let batch = (SAMPLE_NS / run_ns).ceil().clamp(1.0, 1e6) as u32;
    let samples = (chunk_ns / (run_ns * f64::from(batch))).ceil().clamp(1.0, 1000.0) as u32;
    Timing { warmup: 0, samples, batch, evict_bytes: 0 }
}

/// Runs one model over and over for so long; `each` gets what every request brought, and ends it by an error. Brings whether that was
/// without a break: a device that was out of reach for a while has cooled down.
pub(crate) fn keep_busy(
    agent: &mut Agent,
    model: ModelId,
    duration: Duration,
    stop: &AtomicBool,
    mut each: impl FnMut(Timing, Timed) -> Result<(), CampaignError>,
    failed: impl Fn(AgentError) -> CampaignError,
) -> Result<bool, CampaignError> {
    let before = agent.reconnections();
    let known = Timing { warmup: 0, samples: 3, batch: 1, evict_bytes: 0 };
    let known = agent.time(model, known).map_err(&failed)?;
    let began = known.samples.first().map_or(0, |sample| sample.at_ns);
    let timing = chunk(&known.samples, CHUNK_NS);
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(CampaignError::Interrupted);
        }
        let timed = agent.time(model, timing).map_err(&failed)?;
        if agent.reconnections() != before {
            return Ok(false);
        }
        let ended = timed.samples.last().map_or(u64::MAX, |sample| sample.at_ns.saturating_add(sample.wall_ns));
        each(timing, timed)?;
        if ended.saturating_sub(began) >= duration.as_nanos() as u64 {
            return Ok(true);
        }
    }
}

/// Runs every subject for so long without a break. A subject whose run is whole among the earlier visits isn't run again; one
/// whose run was cut is, from its beginning, since the device has cooled down. `watch` is told the seconds that are done.
pub fn sustain(
    agent: &mut Agent,
    subjects: &[Subject],
    duration: Duration,
    (mut journal, earlier): (Option<&mut Journal>, Vec<Visit>),
    stop: &AtomicBool,
    watch: &mut dyn FnMut(f64),
) -> Result<Vec<Vec<Visit>>, CampaignError> {
    let mut clock = Clock::default();
    earlier.iter().for_each(|visit| clock.pass(visit));
    let mut all = Vec::new();
    for (index, subject) in subjects.iter().enumerate() {
        let own = earlier.iter().filter(|visit| visit.subject as usize == index);
        // The last attempt.
        let mut visits: Vec<Visit> = Vec::new();
        for visit in own {
            if visit.round == 1 {
                visits.clear();
            }
            visits.push(visit.clone());
        }
        let before = index as f64 * duration.as_secs_f64();
        let whole = span(&visits).is_some_and(|(began, ended)| {
            // A chunk in front of the first tells how long a run takes.
            ended.saturating_sub(began) + CHUNK_NS as u64 >= duration.as_nanos() as u64
        });
        if !whole {
            visits.clear();
            let failed = |source| CampaignError::Agent { subject: subject.name.clone(), source };
            let health = agent.look().map_err(failed)?;
            clock.set(&health, agent.is_simulated());
            let model = agent.load(&subject.onnx).map_err(failed)?;
            loop {
                let each = |timing: Timing, timed: Timed| {
                    let samples = clock.tell(timed.samples);
                    let unix_ms = clock.unix_ms(samples.first().map_or(clock.end_ns(), |sample| sample.at_ns));
                    let (round, subject) = (visits.len() as u32 + 1, index as u32);
                    let visit = Visit {
                        round,
                        subject,
                        batch: timing.batch,
                        unix_ms,
                        samples,
                        whole: timed.whole,
                        paces: timed.paces,
                        vectors: timed.vectors,
                    };
                    if let Some(journal) = journal.as_deref_mut() {
                        journal.append(&visit)?;
                    }
                    clock.pass(&visit);
                    visits.push(visit);
                    watch(before + span(&visits).map_or(0.0, |(began, ended)| (ended - began) as f64 / 1e9));
                    Ok(())
                };
                if keep_busy(agent, model, duration, stop, each, failed)? {
                    break;
                }
                visits.clear();
            }
            agent.unload(model).map_err(failed)?;
            if let Some(journal) = journal.as_deref_mut() {
                journal.sync()?;
            }
        }
        all.push(visits);
    }
    Ok(all)
}
