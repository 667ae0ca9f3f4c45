//! A campaign: subjects visited in interleaved rounds until every one is known well enough.

mod elsewhere;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fleetfoot_protocol::{Health, Pace, Sample, Timed, Timing, VectorPace, Whole};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::agent::{Agent, AgentError};
use crate::clock::Clock;
use crate::course::{Course, Moment};
use crate::disturbance::{Best, Judgement, Sharing, Visited, judge};
use crate::journal::{Header, Journal, JournalError, Records, Soak, Visit};
use crate::look::Look;
use crate::pace::{contention, settled};
use crate::residents::Residents;
use crate::sittings;
use crate::statistics::{self, INTERVAL_ROUNDS, Measurement, Sieve, Statistic, median};
use crate::steady::Steward;
use crate::subject::Subject;
use crate::sustained::{HALF_MINUTE, keep_busy};
use crate::unique::unique_name;
use crate::vectors::Halts;
use crate::warmup::steady_after;

/// How long a campaign goes on.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Rounds that every subject gets at least; undisturbed ones, where they can be had within twice as many.
    pub min_rounds: u32,
    /// Rounds that a subject gets at most.
    pub max_rounds: u32,
    /// Time that visits take at most, whether they count or not, pauses between two runs not included: behind it no round
    /// begins, if eight are over.
    pub max_time: Option<Duration>,
    /// A subject is done when half its 99 % interval is below this share of its latency, or one and a half times that, behind twice the
    /// least number of rounds.
    pub half_width: f64,
    /// So well is the machine's usual speed to be known, which all subjects have in common: what it is off by doesn't average out
    /// over them.
    pub common_half_width: f64,
    /// Rounds behind which the agent is started anew: where a process' memory lies makes a model faster or slower by some
    /// percent as long as it runs. At 0 one process makes all rounds.
    pub sitting: u32,
    /// Time that the timed runs of one visit should take.
    pub visit: Duration,
    /// What a latency is of a round's samples.
    pub statistic: Statistic,
    /// At what pace of the core values stand.
    pub standing: Standing,
    /// Seed of the order within each round.
    pub seed: u64,
    /// How long the device is kept busy before the first round: what is measured then is its sustained speed.
    pub soak: Duration,
}

/// At what pace of the core a campaign's values stand. At the usual one in any case where the device is kept busy beforehand: what
/// it is slower for then is what is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Standing {
    /// At the best that it sees in vector arithmetic, where that is told.
    #[default]
    Best,
    /// At this one: what a chunk of vector arithmetic takes, in ns.
    At(f64),
    /// At the usual one, whatever that is.
    Usual,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            min_rounds: 25,
            max_rounds: 120,
            max_time: None,
            half_width: 0.01,
            common_half_width: 0.01,
            sitting: 2,
            visit: Duration::from_millis(4),
            statistic: Statistic::default(),
            standing: Standing::default(),
            seed: 0,
            soak: Duration::ZERO,
        }
    }
}

impl Plan {
    /// That by which a journal's visits are judged again.
    pub fn of(header: &Header) -> Self {
        let soak = Duration::from_secs(header.conditions.soak_seconds);
        Self { sitting: header.sitting, soak, ..Self::default() }
    }

    /// The sitting that a round belongs to; the warm-up belongs to the first.
    fn sitting_of(&self, round: u32) -> u32 {
        round.saturating_sub(1).checked_div(self.sitting).unwrap_or(0)
    }

    fn is_new_sitting(&self, round: u32) -> bool {
        round > 1 && self.sitting_of(round) != self.sitting_of(round - 1)
    }
}

/// Samples of the warm-up visit, from which the others are sized: so many at a time, until they are steady, and at most.
const WARMUP_SAMPLES: (u32, usize) = (10, 100);
/// Untimed runs in front of every visit, at least and at most: the first finds its code and weights in no cache at all.
const LEAD: (u32, u32) = (1, 20);
/// A sample sums so many runs that it takes at least this long: far above the clock's resolution.
const SAMPLE_NS: u64 = 50_000;
/// The most runs that one sample sums.
const MAX_BATCH: u64 = 16;
/// Subjects that every round visits at least, as far as there are so many.
const COMPANY: usize = 10;
/// Quiet rounds without which the disturbed ones count, too.
const FEWEST_ROUNDS: usize = 6;
/// Behind so many times the least number of rounds a machine isn't waited for much longer: so many quiet rounds are enough, as a share of
/// that number, and an interval so many times as wide as was wanted.
const LONG: u32 = 2;
const ENOUGH: f64 = 0.6;
const NEARLY: f64 = 1.5;
/// One subject of so many is few.
const FEW: usize = 20;
/// Share of the visits at which somebody else is on the core's units, from which on single samples are told, too.
const BURSTS: f64 = 0.05;
/// What a subject takes next to the median one that needn't be known as well: an empty graph among networks.
const SLIGHT: f64 = 0.05;
/// Samples of a visit, at least and at most.
const VISIT_SAMPLES: (u64, u64) = (5, 40);
/// Samples that a subject's rounds together should have at least, in multiples of what the statistic needs.
const TAIL_SAMPLES: u64 = 5;

/// Looks at Ctrl-C and the like are no waiting.
const NOTEWORTHY_WAIT: Duration = Duration::from_millis(50);

/// Whether all rounds so far are judged behind this one: behind each at first, then less often, since it takes the longer
/// the more there are.
fn is_judged_behind(round: u32) -> bool {
    round.is_multiple_of((round / 20).max(1))
}

/// How far a campaign is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Visits made, earlier runs' included.
    pub visits: u64,
    /// Visits that are still to come at most.
    pub remaining: u64,
    /// The round.
    pub round: u32,
    /// Subjects whose interval is narrow enough.
    pub done: usize,
}

/// A campaign that stopped before its end.
#[derive(Debug, thiserror::Error)]
pub enum CampaignError {
    /// The agent failed; the subject is named where one was at work.
    #[error("{}", at_work(subject, source))]
    Agent {
        /// The subject.
        subject: String,
        /// Why.
        source: AgentError,
    },
    /// The journal can't be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The user asked for it.
    #[error("interrupted")]
    Interrupted,
    /// A subject with too few samples for the statistic.
    #[error(
        "{subject} has {samples} samples that count, {statistic} needs {needed}: measure more rounds (with a higher --min-rounds; of a finished run with --resume), or choose another statistic"
    )]
    FewSamples {
        /// The subject.
        subject: String,
        /// How many it has.
        samples: usize,
        /// What a latency is of them.
        statistic: Statistic,
        /// How many that takes.
        needed: usize,
    },
}

/// What happened, and with which subject where that matters: a device that is gone is gone for all of them.
fn at_work(subject: &str, source: &AgentError) -> String {
    match source {
        AgentError::Connect { .. } => source.to_string(),
        AgentError::Failed { .. } | AgentError::Lost { .. } | AgentError::Unexpected { .. } => {
            format!("{subject}: {source}")
        }
    }
}

/// The core's best pace in dense vector arithmetic, at which a campaign's values stand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BestPace {
    /// What a chunk of it took then, in ns.
    pub vector_ns: f64,
    /// By what factor visits that count took longer than that for it, in the median.
    pub slower: f64,
}

/// A run over subjects on one agent.
pub struct Campaign<'a> {
    plan: Plan,
    subjects: &'a [Subject],
    states: Vec<State>,
    /// Visits in the order of time: subject, and position among its rounds.
    log: Vec<(usize, usize)>,
    /// The last round of a run that is gone on from; 0 where there was none.
    under_way: u32,
    /// Times of the subjects that have a reference, in ns.
    references: BTreeMap<usize, f64>,
    /// Which samples of a visit count, as the rounds were judged last.
    sieve: Sieve,
    doubt: f64,
    wander: f64,
    slower: Option<f64>,
    sharing: Sharing,
    best_ns: Option<f64>,
    clock: Clock,
    looks: Vec<Look>,
    /// Whether the plan's time was used up when the rounds were judged last.
    late: bool,
    /// Whether the journal says that the campaign came to its end with these visits.
    ended: bool,
    /// What the machine's state was at the last look of this run.
    health: Health,
    soaked: Option<Soak>,
    /// What the device keeps its visits under, where it keeps them.
    session: String,
    /// How long was waited for the device since the last look.
    waited: Duration,
    steward: Steward,
    residents: Residents,
}

impl std::fmt::Debug for Campaign<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Campaign")
            .field("plan", &self.plan)
            .field("subjects", &self.subjects.len())
            .finish_non_exhaustive()
    }
}

/// What a visit brought.
#[derive(Clone, Debug)]
struct Round {
    number: u32,
    samples: Vec<Sample>,
    disturbed: bool,
    /// By what factor the machine was slower than it usually is at the core's best pace.
    slower: f64,
    /// How much of that the pace of dense vector arithmetic tells, as a logarithm.
    over_the_best: f64,
    whole: Whole,
    paces: [Pace; 2],
    vectors: VectorPace,
    /// Start of its first sample and end of its last, in ns of the campaign.
    span: (u64, u64),
}

/// What is known of one subject.
#[derive(Clone, Debug, Default)]
struct State {
    warmup: Option<Vec<Sample>>,
    rounds: Vec<Round>,
    /// Rounds visited; the next visit is in the round behind.
    visited: u32,
    batch: u32,
    samples: u32,
    /// Untimed runs in front of every visit; `None` where the warm-up never got steady.
    lead: Option<u32>,
    /// Half of the interval that the choice of sittings leaves open, as a share.
    doubt: f64,
    /// Half of its interval, as a share of its latency, or of what is slight if it takes less, when the rounds were judged last.
    half_width: Option<f64>,
    /// Whether its interval was narrow enough, or its rounds were used up, when the rounds were judged last.
    done: bool,
}

impl<'a> Campaign<'a> {
    /// A campaign that goes on from the visits of a journal. `detect` says whether interruptions can be told from waiting
    /// ([`Conditions::computes_in_caller`](crate::Conditions::computes_in_caller)).
    pub fn new(plan: Plan, subjects: &'a [Subject], earlier: Records, detect: bool) -> Self {
        let states = vec![State::default(); subjects.len()];
        let references = subjects.iter().enumerate();
        let references = references.filter_map(|(index, subject)| Some((index, subject.reference?.ms() * 1e6)));
        let mut campaign = Self {
            plan,
            subjects,
            states,
            log: Vec::new(),
            under_way: 0,
            references: references.filter(|(_, time)| *time > 0.0).collect(),
            sieve: Sieve { interruptions: detect, bursts: false },
            doubt: 0.0,
            wander: 0.0,
            slower: None,
            sharing: Sharing::default(),
            clock: Clock::default(),
            looks: earlier.looks,
            best_ns: None,
            late: false,
            ended: earlier.ended,
            soaked: earlier.soaks.last().copied(),
            health: Health::default(),
            session: String::new(),
            waited: Duration::ZERO,
            steward: Steward::default(),
            residents: Residents::default(),
        };
        campaign.under_way = earlier.visits.iter().map(|visit| visit.round).max().unwrap_or(0);
        // What is due in a round is decided by the rounds before, and by nothing behind them: a run that is taken up in its
        // middle, or at its end, decides alike.
        let last = (0..campaign.under_way).rev().find(|&round| is_judged_behind(round));
        let (before, behind): (Vec<Visit>, Vec<Visit>) =
            earlier.visits.into_iter().partition(|visit| last.is_some_and(|last| visit.round <= last));
        before.into_iter().for_each(|visit| campaign.record(visit));
        if let Some(last) = last {
            campaign.judge(last + 1, false);
        }
        behind.into_iter().for_each(|visit| campaign.record(visit));
        campaign
    }

    fn record(&mut self, visit: Visit) {
        let subject = visit.subject as usize;
        let Some(state) = self.states.get_mut(subject) else { return };
        self.clock.pass(&visit);
        let before = state.rounds.len();
        state.record(&self.plan, visit);
        if state.rounds.len() > before {
            self.log.push((subject, before));
        }
    }

    /// Marks the visits of all rounds before this one that were disturbed, and the subjects that are known well enough.
    /// What isn't at the references' speed is waited for, unless this is the `last` judgement.
    fn judge(&mut self, round: u32, last: bool) {
        let of = |&(subject, position): &(usize, usize)| &self.states[subject].rounds[position];
        let judged: Vec<(usize, usize)> = self.log.iter().filter(|visit| of(visit).number < round).copied().collect();
        let visited = |sieve: Sieve| {
            let visited = judged.iter().map(|visit| {
                let (samples, batch) = (&of(visit).samples, self.states[visit.0].batch);
                let (time, interrupted) =
                    statistics::of_visit(samples, of(visit).whole, batch, Statistic::Median, sieve);
                let (paces, vectors) = (of(visit).paces, of(visit).vectors);
                Visited { subject: visit.0, time, interrupted, paces, vectors }
            });
            visited.collect::<Vec<_>>()
        };
        let mut sieve = Sieve { bursts: false, ..self.sieve };
        let best = self.best();
        let mut judgement = judge(&visited(sieve), &self.references, last, false, best);
        // A tail is made of the slowest samples: there nothing tells what is the device's own.
        if judgement.sharing.share > BURSTS && !self.plan.statistic.is_tail() {
            sieve.bursts = true;
            judgement = judge(&visited(sieve), &self.references, last, true, best);
        }
        self.sieve = sieve;
        let Judgement { disturbed, levels, over_the_best, best_ns, best_wander, doubt, wander, slower, sharing } =
            judgement;
        // Among few, a subject's own noise would pass for the machine's.
        let many = self.subjects.len() >= COMPANY;
        let told = disturbed.into_iter().zip(levels.into_iter().zip(over_the_best));
        // What the device itself says outweighs what the times show: all of them may be slow.
        let hot: BTreeSet<u32> = self.looks.iter().filter(|look| look.is_slowed()).map(|look| look.round).collect();
        for ((subject, position), (mark, (level, over_the_best))) in judged.into_iter().zip(told) {
            let round = &mut self.states[subject].rounds[position];
            let level = if many && level.is_finite() { level } else { 0.0 };
            round.disturbed = mark || hot.contains(&round.number);
            round.slower = (level + over_the_best).exp();
            round.over_the_best = over_the_best;
        }
        self.best_ns = best_ns;
        (self.doubt, self.wander) = if many { (doubt, wander.hypot(best_wander)) } else { (0.0, best_wander) };
        self.slower = slower.map(f64::exp);
        self.sharing = sharing;
        let rounds = |state: &State| state.logarithms(&self.plan, self.sieve);
        let doubts = sittings::doubts(&self.states.iter().map(rounds).collect::<Vec<_>>());
        let measured = self.states.iter_mut().zip(doubts).map(|(state, doubt)| {
            state.doubt = doubt;
            state.measurement(&self.plan, self.sieve)
        });
        let measured: Vec<Option<Measurement>> = measured.collect();
        let slight = SLIGHT * median(measured.iter().flatten().map(|known| known.latency.ms())).unwrap_or_default();
        for (state, measured) in self.states.iter_mut().zip(measured) {
            state.half_width = measured.map(|known| half_width(&known, slight));
            state.done = state.is_done(&self.plan);
        }
        let rounds = self.states.iter().map(|state| state.visited).max().unwrap_or(0);
        self.late = rounds as usize >= INTERVAL_ROUNDS
            && self.plan.max_time.is_some_and(|most| self.course().spent().seconds() >= most.as_secs_f64());
    }

    /// At what pace times are told.
    fn best(&self) -> Best {
        // Elsewhere the core that measures isn't the one that computes.
        if !self.sieve.interruptions || !self.plan.soak.is_zero() {
            return Best::Untold;
        }
        let is_fast = matches!(self.plan.statistic, Statistic::Min | Statistic::P20);
        let halts = if is_fast { Halts::None } else { Halts::Counted };
        match self.plan.standing {
            Standing::Best => Best::Of { halts, ns: None },
            Standing::At(ns) => Best::Of { halts, ns: Some(ns) },
            Standing::Usual => Best::Untold,
        }
    }

    /// Measures until every subject is done. `watch` is told of every visit; `stop` ends the campaign between two.
    pub fn run(
        &mut self,
        agent: &mut Agent,
        mut journal: Option<&mut Journal>,
        stop: &AtomicBool,
        watch: &mut dyn FnMut(Progress),
    ) -> Result<Vec<Measurement>, CampaignError> {
        let failed = |source| CampaignError::Agent { subject: "the machine's state".to_owned(), source };
        self.meet(agent).map_err(failed)?;
        self.session = journal.as_deref().map_or_else(unique_name, |journal| journal.session().to_owned());
        if agent.is_remote() {
            self.recover(agent, journal.as_deref_mut())?;
        }
        if !(self.under_way > 0 && self.is_done()) {
            self.soak(agent, journal.as_deref_mut(), stop)?;
        }
        // Earlier rounds are over: who wasn't visited in them wasn't due.
        for round in self.under_way..=self.plan.max_rounds {
            if round > self.under_way && round > 0 && self.is_done() {
                break;
            }
            if round > self.under_way && self.plan.is_new_sitting(round) {
                agent.restart().and_then(|()| self.meet(agent)).map_err(failed)?;
            }
            // Shuffled before it is filtered: a round that is taken up in its middle goes on in its order.
            let mut order: Vec<usize> = (0..self.subjects.len()).collect();
            order.shuffle(&mut ChaCha8Rng::seed_from_u64(self.plan.seed ^ (u64::from(round) << 32)));
            order.retain(|&index| self.is_due(index, round));
            self.settle(agent, stop).map_err(failed)?;
            let mut open = order.as_slice();
            while !open.is_empty() {
                if stop.load(Ordering::Relaxed) {
                    return Err(CampaignError::Interrupted);
                }
                // Everywhere but on this machine nobody talks while the device measures.
                if agent.is_remote() {
                    self.waited += self.steward.attend(agent, stop).map_err(failed)?;
                }
                let (visits, made) = if agent.is_remote() && round > 0 {
                    let together = self.together(open);
                    self.visits(agent, &open[..together], round)?
                } else {
                    (vec![self.visit(agent, open[0], round)?], Ok(()))
                };
                open = &open[visits.len().min(open.len())..];
                for visit in visits {
                    if let Some(journal) = journal.as_deref_mut() {
                        journal.append(&visit)?;
                    }
                    self.ended = false;
                    self.record(visit);
                    watch(self.progress(round));
                }
                made?;
            }
            // A round whose look stands in the journal was whole before.
            if self.looks.last().is_none_or(|look| look.round < round) {
                let look = self.look(agent, round).map_err(failed)?;
                if let Some(journal) = journal.as_deref_mut() {
                    journal.append_look(&look)?;
                }
                self.looks.push(look);
            }
            if let Some(journal) = journal.as_deref_mut() {
                journal.sync()?;
            }
            if round >= self.under_way && is_judged_behind(round) {
                self.judge(round + 1, false);
            }
        }
        self.residents.clear(agent).map_err(failed)?;
        if let Some(journal) = journal.filter(|_| !self.ended) {
            journal.append_end()?;
            journal.sync()?;
        }
        self.ended = true;
        if agent.is_remote() {
            agent.forget(&self.session).map_err(failed)?;
        }
        self.measurements()
    }

    /// A visit in the campaign's time.
    fn told(
        &self,
        round: u32,
        subject: usize,
        batch: u32,
        samples: Vec<Sample>,
        (whole, paces, vectors): (Whole, [Pace; 2], VectorPace),
    ) -> Visit {
        let samples = self.clock.tell(samples);
        let unix_ms = self.clock.unix_ms(samples.first().map_or(self.clock.end_ns(), |sample| sample.at_ns));
        Visit { round, subject: subject as u32, batch, unix_ms, samples, whole, paces, vectors }
    }

    /// Keeps the device busy with the largest model, and writes down how much slower that made it.
    fn soak(
        &mut self,
        agent: &mut Agent,
        journal: Option<&mut Journal>,
        stop: &AtomicBool,
    ) -> Result<(), CampaignError> {
        let largest = self.subjects.iter().max_by_key(|subject| subject.onnx.len());
        let Some(subject) = largest.filter(|_| !self.plan.soak.is_zero()) else { return Ok(()) };
        let failed = |source| CampaignError::Agent { subject: subject.name.clone(), source };
        let model = agent.load(&subject.onnx).map_err(failed)?;
        let mut runs: Vec<(u64, f64)> = Vec::new();
        loop {
            let each = |timing: Timing, timed: Timed| {
                let run = |sample: &Sample| (sample.at_ns, sample.wall_ns as f64 / f64::from(timing.batch));
                runs.extend(timed.samples.iter().map(run));
                Ok(())
            };
            if keep_busy(agent, model, self.plan.soak, stop, each, failed)? {
                break;
            }
            runs.clear();
        }
        agent.unload(model).map_err(failed)?;
        let (began, ended) = (runs.first().map_or(0, |run| run.0), runs.last().map_or(0, |run| run.0));
        let window = (HALF_MINUTE.as_nanos() as u64).min((ended - began) / 2);
        let within = |from: u64, to: u64| {
            let runs = runs.iter().filter(|run| (from..=to).contains(&run.0)).map(|run| run.1);
            median(runs).unwrap_or(f64::NAN)
        };
        let (first_ns, last_ns) = (within(began, began + window), within(ended - window, ended));
        let unix_ms = self.clock.unix_ms(self.clock.at_ns(ended));
        let soak = Soak { unix_ms, seconds: (ended - began) as f64 / 1e9, first_ns, last_ns };
        if let Some(journal) = journal {
            journal.append_soak(&soak)?;
        }
        self.soaked = Some(soak);
        Ok(())
    }

    /// How the device was kept busy before the first round; the last time, where the campaign was gone on with.
    pub fn soaked(&self) -> Option<Soak> {
        self.soaked
    }

    /// Sets out with an agent that has just started.
    fn meet(&mut self, agent: &mut Agent) -> Result<(), AgentError> {
        self.health = agent.look()?;
        self.clock.set(&self.health, agent.is_simulated());
        self.residents.begin(&self.health);
        Ok(())
    }

    /// Waits until the device may be measured.
    fn settle(&mut self, agent: &mut Agent, stop: &AtomicBool) -> Result<(), AgentError> {
        let (health, waited) = self.steward.settle(agent, self.health.clone(), stop)?;
        self.health = health;
        self.waited += waited;
        Ok(())
    }

    fn look(&mut self, agent: &mut Agent, round: u32) -> Result<Look, AgentError> {
        let now = agent.look()?;
        let mut look = Look::between(&self.health, &now, agent.pinned(), round, self.clock.at_ns(now.at_ns));
        let waited = std::mem::take(&mut self.waited);
        look.tolerated_status = agent.device().hygiene.most_thermal_status;
        look.waited_s = (waited > NOTEWORTHY_WAIT).then_some(waited.as_secs_f64());
        self.health = now;
        Ok(look)
    }

    /// What the samples so far say of every subject; the intervals hold, with 99 %, what another campaign finds.
    pub fn measurements(&mut self) -> Result<Vec<Measurement>, CampaignError> {
        self.judge(u32::MAX, true);
        let measured = self.states.iter().zip(self.subjects);
        measured
            .map(|(state, subject)| {
                let measured = state.measurement(&self.plan, self.sieve);
                let measured = measured.map(|measured| measured.with_common_doubt(self.wander).of_another());
                measured.ok_or_else(|| CampaignError::FewSamples {
                    subject: subject.name.clone(),
                    samples: state.rounds.iter().map(|round| round.samples.len()).sum(),
                    statistic: self.plan.statistic,
                    needed: self.plan.statistic.fewest_samples(),
                })
            })
            .collect()
    }

    /// By what factor the machine was slower, in what counts, than the subjects' references say; `None` without references.
    pub fn slower(&self) -> Option<f64> {
        self.slower
    }

    /// The cores that measure which may not run as fast as they are made for: what they may, and what they are made for, in kHz.
    pub fn capped(&self, pinned: &[usize]) -> Vec<(usize, u64, u64)> {
        let cores = self.health.cores.iter().filter(|core| pinned.contains(&core.core));
        let told = cores.filter_map(|core| Some((core.core, core.permitted_khz?, core.maximum_khz?)));
        told.filter(|(_, permitted, maximum)| permitted < maximum).collect()
    }

    /// How often somebody else was on the core's units.
    pub fn sharing(&self) -> Sharing {
        self.sharing
    }

    /// Contention of the core's units at every visit: by how much independent operations took longer than dependent ones, as a
    /// logarithm. Only differences tell.
    pub fn contention(&self) -> Vec<f64> {
        let paces = self.log.iter().map(|&(subject, position)| self.states[subject].rounds[position].paces);
        contention(&settled(&paces.collect::<Vec<_>>()))
    }

    /// How it went, as the rounds were judged last.
    pub fn course(&self) -> Course {
        let many = self.subjects.len() >= COMPANY;
        let choosy: Vec<bool> = self.states.iter().map(State::leaves_disturbed_aside).collect();
        let moment = |&(subject, position): &(usize, usize)| {
            let round = &self.states[subject].rounds[position];
            let (at_ns, end_ns) = round.span;
            let (slower, samples, disturbed) = (many.then_some(round.slower), round.samples.len(), round.disturbed);
            Moment { at_ns, end_ns, slower, disturbed, counts: !(disturbed && choosy[subject]), samples }
        };
        Course::new(self.log.iter().map(moment).collect(), self.looks.clone(), self.sieve)
    }

    /// Subjects that were hardly ever measured undisturbed, so that disturbed rounds count, too.
    pub fn never_quiet(&self) -> usize {
        let is_restless = |state: &&State| state.quiet() < state.rounds.len() && !state.leaves_disturbed_aside();
        self.states.iter().filter(is_restless).count()
    }

    /// Subjects whose interval is as narrow as the plan wants it; the others' rounds, or time, ended before.
    pub fn known(&self) -> usize {
        self.states.iter().filter(|state| state.is_within(self.plan.half_width)).count()
    }

    /// Whether the plan's time ended it, before it was done.
    pub fn is_late(&self) -> bool {
        self.late && !self.is_known()
    }

    /// The core's usual pace in the visits that count.
    pub fn pace(&self) -> Option<Pace> {
        let rounds = || self.states.iter().flat_map(|state| state.counted().0);
        let usual = |of: fn(&Pace) -> u64| median(rounds().flat_map(|round| &round.paces).map(|pace| of(pace) as f64));
        let [chain_ns, wide_ns, talk_ns] =
            [usual(|pace| pace.chain_ns)?, usual(|pace| pace.wide_ns)?, usual(|pace| pace.talk_ns)?];
        Some(Pace { chain_ns: chain_ns as u64, wide_ns: wide_ns as u64, talk_ns: talk_ns as u64 })
    }

    /// At what pace of dense vector arithmetic its values stand, where that is known.
    pub fn best_pace(&self) -> Option<BestPace> {
        let over = self.states.iter().flat_map(|state| state.counted().0).map(|round| round.over_the_best);
        Some(BestPace { vector_ns: self.best_ns?, slower: median(over)?.exp() })
    }

    /// Untimed runs in front of every visit, the fewest and the most of all subjects.
    pub fn leads(&self) -> (u32, u32) {
        let leads = || self.states.iter().map(|state| state.lead.unwrap_or(LEAD.1));
        (leads().min().unwrap_or_default(), leads().max().unwrap_or_default())
    }

    /// Names of the subjects whose warm-up never got steady.
    pub fn unsteady(&self) -> Vec<&str> {
        let unsteady =
            self.states.iter().zip(self.subjects).filter(|(state, _)| state.warmup.is_some() && state.lead.is_none());
        unsteady.map(|(_, subject)| subject.name.as_str()).collect()
    }

    fn is_due(&self, index: usize, round: u32) -> bool {
        let state = &self.states[index];
        match state.warmup {
            None => round == 0,
            Some(_) => round > state.visited && (!state.done || self.is_wandering() || self.is_company(index, round)),
        }
    }

    fn is_done(&self) -> bool {
        self.late || self.is_known()
    }

    /// Whether all is known well enough, or so nearly all, on a machine that isn't waited for any longer, that the few others aren't either.
    fn is_known(&self) -> bool {
        let undone = || self.states.iter().filter(|state| !state.done);
        let are_few = FEW * undone().count() <= self.states.len() && undone().all(|state| state.is_long(&self.plan));
        !self.is_wandering() && are_few
    }

    /// Whether the machine's usual speed is still in doubt: subjects that are known well against each other are measured
    /// on, lest all of them are of one moment.
    fn is_wandering(&self) -> bool {
        self.references.is_empty() && self.doubt > self.plan.common_half_width
    }

    /// Whether a subject is visited in a round though it may be done: a few of them always are, in turns, lest the rounds of
    /// the last ones follow each other within one slow episode, and no level can be told from a single subject.
    fn is_company(&self, index: usize, round: u32) -> bool {
        let turns = self.subjects.len().div_ceil(COMPANY);
        self.states[index].visited < self.plan.max_rounds && (index + round as usize).is_multiple_of(turns)
    }

    fn visit(&mut self, agent: &mut Agent, index: usize, round: u32) -> Result<Visit, CampaignError> {
        let subject = &self.subjects[index];
        let failed = |source| CampaignError::Agent { subject: subject.name.clone(), source };
        let model = self.residents.model(agent, (index, &subject.onnx)).map_err(failed)?;
        let timing = if round == 0 {
            Timing { warmup: 0, samples: WARMUP_SAMPLES.0, batch: 1, evict_bytes: subject.evict_bytes }
        } else {
            self.states[index].timing(subject.evict_bytes)
        };
        let Timed { mut samples, mut whole, mut paces, vectors } = agent.time(model, timing).map_err(failed)?;
        while round == 0 && samples.len() < WARMUP_SAMPLES.1 && steady_after(&walls(&samples)).is_none() {
            let more = agent.time(model, timing).map_err(failed)?;
            samples.extend(more.samples);
            whole += more.whole;
            paces[1] = more.paces[1];
        }
        Ok(self.told(round, index, timing.batch, samples, (whole, paces, vectors)))
    }

    fn progress(&self, round: u32) -> Progress {
        let visits = self.states.iter().map(|state| u64::from(state.visited) + u64::from(state.warmup.is_some())).sum();
        let done = self.states.iter().filter(|state| state.done).count();
        let open = if self.is_wandering() { self.states.len() } else { self.states.len() - done } as u64;
        let to_come = if round < self.plan.min_rounds { self.plan.min_rounds - round } else { 1 };
        Progress { visits, remaining: open * u64::from(to_come), round, done }
    }

    /// About how long the plan takes for subjects of these sizes, from a rate of 2 G multiply-accumulates a second and
    /// the bytes that are evicted: known before anything is measured, right within a factor of about 3.
    pub fn estimate(plan: &Plan, sizes: &[(u64, u64)]) -> Duration {
        // On a quiet machine most are done soon behind the first rounds.
        let rounds = 1.5 * f64::from(plan.min_rounds);
        let visits = sizes.iter().map(|&(macs, evicted)| {
            let run = 10e-6 + macs as f64 / 2e9;
            let runs = (plan.visit.as_secs_f64() / run).clamp(VISIT_SAMPLES.0 as f64, 640.0);
            runs * (run + evicted as f64 / 20e9)
        });
        Duration::from_secs_f64(rounds * visits.sum::<f64>())
    }
}

/// Half of an interval, as a share of the latency, or of what is `slight`, in ms, if that takes less.
fn half_width(known: &Measurement, slight: f64) -> f64 {
    let ms = known.latency.ms();
    known.half_width() * ms / ms.max(slight)
}

/// The samples' wall times in ns.
fn walls(samples: &[Sample]) -> Vec<f64> {
    samples.iter().map(|sample| sample.wall_ns.max(1) as f64).collect()
}

impl State {
    fn record(&mut self, plan: &Plan, visit: Visit) {
        if visit.round == 0 {
            let runs = walls(&visit.samples);
            let run = median(runs[runs.len() / 2..].iter().copied()).map_or(SAMPLE_NS, |run| run as u64);
            let batch = SAMPLE_NS.div_ceil(run).clamp(1, MAX_BATCH);
            let visit_ns = plan.visit.as_nanos() as u64;
            self.batch = batch as u32;
            let needed = TAIL_SAMPLES * plan.statistic.fewest_samples() as u64;
            let least = needed.div_ceil(u64::from(plan.min_rounds).max(1)).clamp(VISIT_SAMPLES.0, VISIT_SAMPLES.1);
            self.samples = (visit_ns / (run * batch)).clamp(least, VISIT_SAMPLES.1) as u32;
            self.lead = steady_after(&runs).map(|runs| (runs as u32).clamp(LEAD.0, LEAD.1));
            self.warmup = Some(visit.samples);
        } else if visit.round > self.visited {
            self.visited = visit.round;
            let ends = visit.samples.first().zip(visit.samples.last());
            let span = ends.map_or((0, 0), |(first, last)| (first.at_ns, last.at_ns.saturating_add(last.wall_ns)));
            let Visit { round: number, samples, whole, paces, vectors, .. } = visit;
            self.rounds.push(Round {
                number,
                samples,
                disturbed: false,
                slower: 1.0,
                over_the_best: 0.0,
                whole,
                paces,
                vectors,
                span,
            });
        }
    }

    /// How its next visit is made.
    fn timing(&self, evict_bytes: u64) -> Timing {
        Timing { warmup: self.lead.unwrap_or(LEAD.1), samples: self.samples, batch: self.batch, evict_bytes }
    }

    /// Rounds that weren't disturbed.
    fn quiet(&self) -> usize {
        self.rounds.iter().filter(|round| !round.disturbed).count()
    }

    /// Whether its disturbed rounds are left aside: not where hardly any is quiet.
    fn leaves_disturbed_aside(&self) -> bool {
        self.quiet() >= FEWEST_ROUNDS.min(self.rounds.len())
    }

    /// The rounds that count, and those that are left aside.
    fn counted(&self) -> (Vec<&Round>, Vec<&Round>) {
        let choosy = self.leaves_disturbed_aside();
        self.rounds.iter().partition(|round| !(choosy && round.disturbed))
    }

    fn is_long(&self, plan: &Plan) -> bool {
        self.visited >= plan.min_rounds.saturating_mul(LONG)
    }

    fn is_done(&self, plan: &Plan) -> bool {
        let (share, times) = if self.is_long(plan) { (ENOUGH, NEARLY) } else { (1.0, 1.0) };
        let wanted = ((share * f64::from(plan.min_rounds)).ceil() as usize).max(INTERVAL_ROUNDS);
        self.visited >= plan.max_rounds || (self.quiet() >= wanted && self.is_within(times * plan.half_width))
    }

    fn is_within(&self, half_width: f64) -> bool {
        self.half_width.is_some_and(|known| known <= half_width)
    }

    /// Logarithms of the quiet rounds' times at the machine's usual speed, with their sittings.
    fn logarithms(&self, plan: &Plan, sieve: Sieve) -> Vec<(u32, f64)> {
        let quiet = self.rounds.iter().filter(|round| !round.disturbed);
        let logarithm = |round: &Round| {
            let (time, _) =
                statistics::of_visit(&round.samples, round.whole, self.batch, plan.statistic.of_visit(), sieve);
            (plan.sitting_of(round.number), (time / round.slower).ln())
        };
        quiet.map(logarithm).collect()
    }

    /// From the rounds that count.
    fn measurement(&self, plan: &Plan, sieve: Sieve) -> Option<Measurement> {
        let (counted, left) = self.counted();
        let samples: Vec<(&[Sample], f64)> =
            counted.iter().map(|round| (round.samples.as_slice(), round.slower)).collect();
        let mut measurement = Measurement::from_rounds(&samples, self.batch, plan.statistic, sieve)?;
        measurement.disturbed += left.iter().map(|round| round.samples.len()).sum::<usize>();
        Some(measurement.with_doubt(self.doubt))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A subject that always takes the same, with so many rounds, of which every third one was quiet.
    fn restless(rounds: u32) -> State {
        let sample = Sample { at_ns: 0, wall_ns: 100_000, cpu_ns: 100_000 };
        let round = |number: u32| Round {
            number,
            samples: vec![sample; 5],
            disturbed: !number.is_multiple_of(3),
            slower: 1.0,
            over_the_best: 0.0,
            whole: Whole::default(),
            paces: [Pace::default(); 2],
            vectors: VectorPace::default(),
            span: (0, 0),
        };
        State { rounds: (1..=rounds).map(round).collect(), visited: rounds, batch: 1, ..State::default() }
    }

    /// Once it has been judged.
    fn is_done_of(state: &State, plan: &Plan, slight: f64) -> bool {
        let known = state.measurement(plan, Sieve::default());
        State { half_width: known.map(|known| half_width(&known, slight)), ..state.clone() }.is_done(plan)
    }

    #[test]
    fn a_machine_that_is_hardly_quiet_is_waited_for_but_not_for_ever() {
        let plan = Plan::default();
        let is_done = |rounds| is_done_of(&restless(rounds), &plan, 0.0);
        // 14 quiet rounds of 44, 15 of 45 behind 25; three fifths of 25 are enough behind 50.
        assert!(!is_done(44) && !is_done(49) && is_done(50));
        // Eight are wanted in any case.
        let short = Plan { min_rounds: 8, max_rounds: 30, ..Plan::default() };
        let is_done = |rounds| is_done_of(&restless(rounds), &short, 0.0);
        assert!(!is_done(23) && is_done(24) && is_done(30));
        assert!(is_done_of(&restless(120), &Plan { min_rounds: u32::MAX, ..Plan::default() }, 0.0));
    }

    #[test]
    fn a_subject_that_scatters_is_measured_on_but_not_for_ever() {
        let mut state = restless(60);
        for round in &mut state.rounds {
            round.disturbed = false;
            round.samples.iter_mut().for_each(|sample| sample.wall_ns += 1_000 * u64::from(round.number % 5));
        }
        let half_width = state.measurement(&Plan::default(), Sieve::default()).unwrap().half_width();
        let is_done_among = |min_rounds, times: f64, slight: f64| {
            let plan = Plan { min_rounds, half_width: half_width / times, ..Plan::default() };
            is_done_of(&state, &plan, slight)
        };
        let is_done = |min_rounds, times| is_done_among(min_rounds, times, 0.0);
        // It takes a tenth of a millisecond: next to what takes seconds it is known well enough.
        assert!(is_done_among(31, 1.2, 0.2) && !is_done_among(31, 1.2, 0.1));
        assert!(is_done(31, 0.9) && !is_done(31, 1.2) && is_done(30, 1.2) && !is_done(30, 1.6), "{half_width}");
    }
}
