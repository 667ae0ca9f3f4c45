//! Whole networks of a space as subjects, and the costs of its units solved from what they took.
//!
//! The networks are those of a design: each candidate stands in each decision equally often. A network's time, less the
//! call's, `y_i = T_i - O`, is the sum of its units' costs: `sum_u n_iu x_u = y_i`. Units outnumber what these equations can tell apart,
//! so the runtime's profile says beforehand how a network's time is divided among its units, `p_u` in the mean over the
//! networks; the costs are those nearest to it that give the networks' times, and how near they are to be, these times say.
//!
//! A profile writes while it measures, and so every node seems to take longer by the same time `c`, 3 to 7 µs on a CPU. Where
//! all `m_i` nodes of network i together took `S_i`, and a run right behind them that isn't profiled `P_i`, the call's `O`
//! included, `S_i = P_i - O + l_i c m_i`, where `l_i = (P_i - O) / y_i` is how slow the machine was then; the median of `c` over
//! the networks, at each one's speed, is taken off every node: but no more than the shortest nodes take, since profiles may slow
//! down nodes otherwise, too.
//!
//! Other costs than latency are solved alike: energy is divided among a network's units as its time is, memory as their
//! weights are.
//!
//! The rows' intervals hold what another campaign finds: what its networks' times and its profiles would scatter by, and
//! what all networks of a campaign have in common.

use std::collections::HashMap;
use std::f64::consts::SQRT_2;
use std::sync::atomic::{AtomicBool, Ordering};

use fleetfoot_protocol::NodeTime;
use fleetfoot_space::{Architecture, Network, Operator, OperatorKey, Precision, SearchSpace, Shape};

use crate::agent::Agent;
use crate::anchored::{Anchor, Equation, likeliest, solve};
use crate::campaign::CampaignError;
use crate::conditions::Context;
use crate::designs::balanced;
use crate::doubts::Doubts;
use crate::journal::Journal;
use crate::latency::Latency;
use crate::node_profiles::{NetworkNodes, NodeProfile, ProfilesCounted, shared};
use crate::statistics::{Measurement, Z, median, middle_and_spread};
use crate::steady::Steward;
use crate::subject::{Subject, SubjectError};
use crate::table::{LatencyTable, Row};

/// Profiled runs of each network in one process, at least and at most: a profile's whole microseconds are coarse for small
/// networks only.
const PROFILED_RUNS: (u64, u64) = (8, 60);
/// Multiply-accumulate operations that they should add up to.
const PROFILED_MACS: u64 = 2_000_000_000;
/// Processes in which each network is profiled, one after the other: what is slow for a while, or by where a process' memory
/// lies, is so in one of them.
const PROFILINGS: u32 = 3;
/// Processes at most, where somebody else was on the core's units: of each network so many profiles without that are wanted.
const MOST_PROFILINGS: u32 = 6;
const PROFILINGS_ALONE: usize = 2;
/// By how much of its time a network isn't the sum of its units, as a standard deviation.
const NOT_ADDITIVE: f64 = 0.005;
/// How far a unit's share of the profile may be off, as a standard deviation; and so much of the mean unit for small ones.
const SHARE_OFF: (f64, f64) = (0.015, 0.0075);
/// Or so many times as much, as the networks' times say.
const SHARES_OFF: [f64; 14] = [1.0, 1.15, 1.3, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 12.0, 20.0, 50.0];
/// What a unit takes in one network is drawn in to so many standard deviations from what it takes in the others, where so many tell.
const FAR: f64 = 3.0;
const FEW: usize = 6;

/// Everything that has to be measured for the latency table of a space, as whole networks.
#[derive(Clone, Debug)]
pub struct NetworkCampaign {
    /// The empty graph, then the networks.
    subjects: Vec<Subject>,
    sizes: Vec<(u64, u64)>,
    architectures: Vec<Architecture>,
    units: Vec<OperatorKey>,
    /// Bytes of each unit's weights.
    weights: Vec<f64>,
    /// Names of the units of each network that cost something, with their positions among `units`.
    places: Vec<Vec<(String, usize)>>,
}

/// Each network's units' shares of its cost.
type Shares = Vec<Vec<f64>>;

/// How a network's cost is divided among its units beforehand.
#[derive(Clone, Copy, Debug)]
pub enum Attribution<'a> {
    /// As its time is, by the runtime's profile, given the contention of the visits ([`Campaign::contention`](crate::Campaign::contention)).
    Time(&'a [NodeProfile], &'a [f64]),
    /// As its time is, where the cost isn't time.
    Energy(&'a [NodeProfile]),
    /// As its weights are.
    Weights,
}

impl Attribution<'_> {
    /// How many node profiles it rests on; `None` where it rests on none.
    pub fn counted(&self) -> Option<ProfilesCounted> {
        match self {
            Self::Time(profiles, visits) => Some(ProfilesCounted::of(profiles, visits)),
            Self::Energy(profiles) => Some(ProfilesCounted::of(profiles, &[])),
            Self::Weights => None,
        }
    }
}

/// Profiles from which no costs can be solved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttributionError {
    /// There is no profile of a network.
    #[error("there is no node profile of network {0}: go on with `fleetfoot profile --resume`")]
    Missing(String),
    /// The runtime has put the network into nodes that don't say to which unit they belong.
    #[error(
        "the runtime's profile of network {network} names no node of unit {unit}: its costs can't be told apart here, use `fleetfoot profile --context cold`"
    )]
    Nameless {
        /// The network.
        network: String,
        /// The unit.
        unit: String,
    },
}

impl NetworkCampaign {
    /// The empty graph, and the networks of the space's design: at least as many as there are units.
    pub fn new(space: &SearchSpace, batch: usize, precision: Precision) -> Result<Self, SubjectError> {
        let units = space.distinct_units(batch, precision);
        let positions: HashMap<OperatorKey, usize> =
            units.iter().enumerate().map(|(index, key)| (*key, index)).collect();
        let architectures = Self::design(space);
        let empty = Network::empty(Shape::new(1, 1, 1, 1), precision, space.bn_eps());
        let mut campaign = Self {
            subjects: vec![Subject::of_network("empty graph".to_owned(), &empty)?],
            sizes: vec![(0, 0)],
            architectures: Vec::new(),
            weights: Vec::new(),
            units,
            places: Vec::new(),
        };
        for key in &campaign.units {
            let unit = Network::of_unit(key, space.bn_eps())?;
            campaign.weights.push(unit.weight_bytes() as f64);
        }
        for architecture in architectures {
            let network = space.network_at(&architecture, batch, precision).map_err(Box::new)?;
            campaign.subjects.push(Subject::of_network(architecture.to_string(), &network)?);
            campaign.sizes.push((network.macs(), 0));
            let costly = network.units().iter().filter(|unit| unit.key.operator != Operator::Zero);
            campaign.places.push(costly.map(|unit| (unit.name.clone(), positions[&unit.key])).collect());
            campaign.architectures.push(architecture);
        }
        Ok(campaign)
    }

    /// The architectures that are measured for a space.
    pub fn design(space: &SearchSpace) -> Vec<Architecture> {
        let candidates: Vec<usize> = space.decisions().iter().map(|decision| decision.candidates.len()).collect();
        // fp32 or not: every precision has as many units.
        let units = space.distinct_units(1, Precision::Fp32).len();
        balanced(&candidates, units).into_iter().filter_map(Architecture::new).collect()
    }

    /// So many of the networks, from the fastest to the slowest by a table of these units, as subjects that tell the speed at
    /// which the table was measured: their units' sums are what they took then.
    pub fn references(&self, table: &LatencyTable, count: usize) -> Vec<Subject> {
        let reference = |(places, subject): (&Vec<(String, usize)>, &Subject)| {
            let costs = places.iter().map(|(_, unit)| Some(table.get(&self.units[*unit])?.latency.ms()));
            let sum = costs.sum::<Option<f64>>()? + table.overhead().ms();
            Some(Subject { reference: Some(Latency::from_ms(sum).ok()?), ..subject.clone() })
        };
        let mut all: Vec<Subject> = self.places.iter().zip(&self.subjects[1..]).filter_map(reference).collect();
        all.sort_by(|a, b| a.reference.partial_cmp(&b.reference).unwrap_or(std::cmp::Ordering::Equal));
        let count = count.min(all.len());
        (0..count).map(|index| all[(2 * index + 1) * all.len() / (2 * count)].clone()).collect()
    }

    /// How far the sum of a network's rows is from what the network took, as a share: half of a 99 % interval.
    pub const SUM_OFF: f64 = Z * NOT_ADDITIVE;

    /// Of the networks only these, by their positions among the subjects: what one of several identical devices measures.
    pub fn part(&self, subjects: &[usize]) -> Self {
        let of = |index: &usize| index - 1;
        let mut part = Self {
            subjects: vec![self.subjects[0].clone()],
            sizes: vec![self.sizes[0]],
            architectures: Vec::new(),
            units: self.units.clone(),
            weights: self.weights.clone(),
            places: Vec::new(),
        };
        for index in subjects.iter().filter(|index| **index > 0) {
            part.subjects.push(self.subjects[*index].clone());
            part.sizes.push(self.sizes[*index]);
            part.architectures.push(self.architectures[of(index)].clone());
            part.places.push(self.places[of(index)].clone());
        }
        part
    }

    /// What has to be measured.
    pub fn subjects(&self) -> &[Subject] {
        &self.subjects
    }

    /// Number of units.
    pub fn units(&self) -> usize {
        self.units.len()
    }

    /// Multiply-accumulate operations and evicted bytes of every subject.
    pub fn sizes(&self) -> Vec<(u64, u64)> {
        self.sizes.clone()
    }

    /// Profiles the networks, in several processes, and goes on behind the profiles of a journal. `watch` is told how many are
    /// done and how many there are, as far as is known; `stop` ends it between two.
    pub fn profile(
        &self,
        agent: &mut Agent,
        (mut journal, earlier): (Option<&mut Journal>, Vec<NodeProfile>),
        stop: &AtomicBool,
        watch: &mut dyn FnMut(usize, usize),
    ) -> Result<Vec<NodeProfile>, CampaignError> {
        let mut profiles = earlier;
        let (mut running, mut steward) = (None, Steward::default());
        for process in 0..MOST_PROFILINGS {
            let before: Vec<NodeProfile> =
                profiles.iter().filter(|profile| profile.process < process).cloned().collect();
            let mut counts = vec![0; self.subjects.len()];
            let alone = before.iter().zip(shared(&before, &[])).filter(|(_, shared)| !shared);
            alone.for_each(|(profile, _)| counts[profile.subject as usize] += 1);
            let is_due = |subject: &usize| process < PROFILINGS || counts[*subject] < PROFILINGS_ALONE;
            let is_done = |subject: usize| {
                profiles.iter().any(|known| (known.subject as usize, known.process) == (subject, process))
            };
            let due: Vec<usize> =
                (1..self.subjects.len()).filter(is_due).filter(|&subject| !is_done(subject)).collect();
            for (position, &index) in due.iter().enumerate() {
                let subject = &self.subjects[index];
                let failed = |source| CampaignError::Agent { subject: subject.name.clone(), source };
                let least = PROFILINGS as usize * (self.subjects.len() - 1);
                watch(profiles.len(), least.max(profiles.len() + due.len() - position));
                if stop.load(Ordering::Relaxed) {
                    return Err(CampaignError::Interrupted);
                }
                if running.replace(process).is_some_and(|running| running != process) {
                    agent.restart().map_err(failed)?;
                }
                steward.attend(agent, stop).map_err(failed)?;
                let runs = PROFILED_MACS / self.sizes[index].0.max(1);
                let runs = runs.clamp(PROFILED_RUNS.0, PROFILED_RUNS.1) as u32;
                let profiled = agent.nodes(&subject.onnx, runs).map_err(failed)?;
                let profile = NodeProfile { subject: index as u32, process, profiled };
                if let Some(journal) = journal.as_deref_mut() {
                    journal.append_profile(&profile)?;
                }
                profiles.push(profile);
            }
            if let Some(journal) = journal.as_deref_mut() {
                journal.sync()?;
            }
        }
        watch(profiles.len(), profiles.len());
        Ok(profiles)
    }

    /// The empty graph's time and the units' rows from the subjects' measurements, in the order of
    /// [`subjects`](Self::subjects), and the networks' profiles.
    pub fn rows(
        &self,
        measured: &[Measurement],
        attribution: Attribution<'_>,
    ) -> Result<(Latency, Vec<Row>), AttributionError> {
        let (empty, networks) = (measured[0].latency, &measured[1..]);
        let times: Vec<f64> = networks.iter().map(|network| (network.latency.ms() - empty.ms()).max(0.0)).collect();
        let (shares, moved) = match attribution {
            Attribution::Time(profiles, visits) => {
                let (shares, moved) = self.shares((profiles, visits), empty, &times)?;
                (shares, Some(moved))
            }
            Attribution::Energy(profiles) => {
                // What a call takes isn't known in time: next to a network it is little.
                let (shares, moved) = self.shares((profiles, &[]), Latency::default(), &times)?;
                (shares, Some(moved))
            }
            Attribution::Weights => (self.shares_of_weights(), None),
        };
        let mut attributed: Vec<Vec<f64>> = vec![Vec::new(); self.units.len()];
        let mut samples = vec![0; self.units.len()];
        let mut equations = Vec::new();
        for ((places, shares), (network, &time)) in self.places.iter().zip(&shares).zip(networks.iter().zip(&times)) {
            let mut coefficients = vec![0.0; self.units.len()];
            for (&(_, unit), share) in places.iter().zip(shares) {
                coefficients[unit] += 1.0;
                attributed[unit].push(share * time);
                samples[unit] += network.samples as u64;
            }
            let (ms, half) = (network.latency.ms(), network.half_width());
            // Without what all networks have in common, which moves what is known beforehand as well; that of another campaign
            // is part of the interval.
            let own = (half * half - network.common * network.common).max(0.0).sqrt() / SQRT_2 / Z;
            let (deviation, spread) = (ms * NOT_ADDITIVE.hypot(own), ms * own);
            equations.push(Equation {
                coefficients,
                value: time,
                deviation,
                spread,
                pulls: vec![0.0; self.units.len()],
            });
        }
        // What the doubt of the cost of writing does to all anchors together.
        let mut shifts = vec![0.0; self.units.len()];
        if let Some(moved) = moved {
            for (((places, moved), shares), &time) in self.places.iter().zip(&moved).zip(&shares).zip(&times) {
                for ((&(_, unit), moved), share) in places.iter().zip(moved).zip(shares) {
                    shifts[unit] += (moved - share) * time / attributed[unit].len() as f64;
                }
            }
        }
        // A unit's cost by its shares is the mean over the networks.
        for (equation, (places, shares)) in equations.iter_mut().zip(self.places.iter().zip(&shares)) {
            for (&(_, unit), share) in places.iter().zip(shares) {
                equation.pulls[unit] += share / attributed[unit].len() as f64;
            }
        }
        attributed.iter_mut().for_each(|costs| draw_in(costs));
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
        let costs: Vec<f64> = attributed.iter().map(|costs| mean(costs)).collect();
        let least = SHARE_OFF.1 * mean(&costs) + f64::MIN_POSITIVE.sqrt();
        let anchors = costs.iter().zip(&attributed).map(|(&value, costs)| {
            let n = costs.len() as f64;
            let spread = costs.iter().map(|cost| (cost - value).powi(2)).sum::<f64>() / (n * (n - 1.0)).max(1.0);
            Anchor { value, deviation: (SHARE_OFF.0 * value).max(least), spread: spread.sqrt() }
        });
        let mut anchors: Vec<Anchor> = anchors.collect();
        let factor = likeliest(&equations, &anchors, &SHARES_OFF);
        anchors.iter_mut().for_each(|anchor| anchor.deviation *= factor);
        let solution = solve(&equations, &anchors, &shifts);
        let common = networks.iter().map(|network| network.common).fold(0.0, f64::max);
        let latency = |ms: f64| Latency::from_ms(ms.max(0.0)).unwrap_or_default();
        let rows = self.units.iter().zip(solution.values.iter().zip(&solution.deviations)).zip(samples);
        let rows = rows.map(|((&key, (&cost, deviation)), samples)| {
            let doubt = (SQRT_2 * Z * deviation).hypot(common * cost);
            Row {
                key,
                latency: latency(cost),
                low: latency(cost - doubt),
                high: latency(cost + doubt),
                samples,
                raw: None,
                boundary: None,
                measured: Some(Context::Network),
                doubts: Doubts::NONE,
            }
        });
        Ok((empty, rows.collect()))
    }

    /// Each network's units' shares of its weights, in the order of `places`.
    fn shares_of_weights(&self) -> Shares {
        let of_network = |places: &Vec<(String, usize)>| {
            let bytes: Vec<f64> = places.iter().map(|&(_, unit)| self.weights[unit]).collect();
            let sum = bytes.iter().sum::<f64>().max(1.0);
            bytes.iter().map(|bytes| bytes / sum).collect()
        };
        self.places.iter().map(of_network).collect()
    }

    /// Each network's units' shares of its time, by its profile, in the order of `places`; and what they would be if writing
    /// cost a standard deviation more. `call` is what a call takes, in ms; `times` are the networks' costs, less the call's.
    fn shares(
        &self,
        (profiles, visits): (&[NodeProfile], &[f64]),
        call: Latency,
        times: &[f64],
    ) -> Result<(Shares, Shares), AttributionError> {
        let shared = shared(profiles, visits);
        let nodes = |(index, subject): (usize, &Subject)| {
            let missing = || AttributionError::Missing(subject.name.clone());
            NetworkNodes::of(profiles, &shared, index).ok_or_else(missing)
        };
        let profiles = self.subjects.iter().enumerate().skip(1).map(nodes);
        let profiles = profiles.collect::<Result<Vec<NetworkNodes>, _>>()?;
        let plain = profiles.iter().map(|network| (network.plain_ms - call.ms()).max(0.0));
        let plain: Vec<f64> = plain.collect();
        let level = |(plain, time): (&f64, &f64)| if *time > 0.0 && *plain > 0.0 { plain / time } else { 1.0 };
        let levels: Vec<f64> = plain.iter().zip(times).map(level).collect();
        let (per_node, doubt) = cost_of_writing(&profiles, &plain, &levels);
        let divided = |per_node: f64| self.divided(&profiles, &levels, per_node);
        Ok((divided(per_node)?, divided(per_node + doubt)?))
    }

    /// The shares by profiles in which writing costs so much a node, at each network's speed then.
    fn divided(&self, profiles: &[NetworkNodes], levels: &[f64], per_node: f64) -> Result<Shares, AttributionError> {
        let of_network = |(index, profile): (usize, &NetworkNodes)| {
            let (places, subject) = (&self.places[index], &self.subjects[index + 1]);
            let mut shares = vec![0.0; places.len()];
            let mut seen = vec![false; places.len()];
            let mut place = 0;
            for node in &profile.nodes {
                // What belongs to no unit (a reorder that the runtime has put in) belongs to the unit in front of it.
                if let Some(named) = places.iter().position(|(unit, _)| is_of(node, unit)) {
                    place = named;
                    seen[place] = true;
                }
                shares[place] += node_ms(node) - levels[index] * per_node;
            }
            if let Some(nameless) = seen.iter().position(|seen| !seen) {
                let unit = places[nameless].0.clone();
                return Err(AttributionError::Nameless { network: subject.name.clone(), unit });
            }
            shares.iter_mut().for_each(|share| *share = share.max(0.0));
            let sum: f64 = shares.iter().sum();
            // Nothing but what writing costs: all alike.
            let share = |share: f64| if sum > 0.0 { share / sum } else { 1.0 / shares.len() as f64 };
            Ok(shares.iter().copied().map(share).collect())
        };
        profiles.iter().enumerate().map(of_network).collect()
    }
}

fn is_of(node: &NodeTime, unit: &str) -> bool {
    node.name.strip_prefix(unit).is_some_and(|rest| rest.starts_with('.'))
}

fn node_ms(node: &NodeTime) -> f64 {
    node.span_us as f64 / 1000.0 / node.calls.max(1) as f64
}

/// Draws in what lies far from the middle: a profile in which somebody was on the core while one unit ran.
fn draw_in(costs: &mut [f64]) {
    if costs.len() < FEW {
        return;
    }
    let (middle, spread) = middle_and_spread(costs).unwrap_or_default();
    costs.iter_mut().for_each(|cost| *cost = cost.clamp(middle - FAR * spread, middle + FAR * spread));
}

/// What writing the profile adds to each node at the machine's usual speed, in ms: the median over the networks, but no more than
/// their shortest nodes take, and its standard deviation. `plain` is what each takes when it isn't profiled, `levels` are by what
/// factor the machine was slower then.
fn cost_of_writing(profiles: &[NetworkNodes], plain: &[f64], levels: &[f64]) -> (f64, f64) {
    let each = profiles.iter().zip(plain.iter().zip(levels)).map(|(profile, (plain, level))| {
        let nodes: f64 = profile.nodes.iter().map(node_ms).sum();
        (nodes - plain) / profile.nodes.len().max(1) as f64 / level
    });
    let each: Vec<f64> = each.collect();
    let (cost, error) = middle_and_spread(&each).unwrap_or_default();
    let shortest = profiles.iter().zip(levels).filter_map(|(profile, level)| {
        let shortest = profile.nodes.iter().map(node_ms).reduce(f64::min);
        Some(shortest? / level)
    });
    let cost = cost.min(median(shortest).unwrap_or(f64::INFINITY));
    // A median's standard error is sqrt(pi / 2) times a mean's.
    let doubt = std::f64::consts::FRAC_PI_2.sqrt() * error / (each.len().max(1) as f64).sqrt();
    (cost.max(0.0), doubt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_profile_that_was_hit_hardly_moves_what_a_unit_takes() {
        let quiet = [1.01, 0.99, 1.0, 1.02, 0.98, 1.0, 1.01];
        let mut costs = quiet;
        draw_in(&mut costs);
        assert_eq!(costs, quiet);
        costs[2] = 1.6;
        draw_in(&mut costs);
        assert!(costs[2] < 1.08 && costs[0] == 1.01, "{costs:?}");
        // Of a few nobody knows which of them was hit.
        let mut few = [1.0, 1.0, 1.0, 1.6];
        draw_in(&mut few);
        assert_eq!(few, [1.0, 1.0, 1.0, 1.6]);
    }
}
