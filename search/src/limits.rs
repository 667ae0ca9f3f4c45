//! What a network may need: hard limits, and the projection that holds the gates' expectations at them.

use std::fmt;

use fleetfoot_predictor::CostMatrix;
use fleetfoot_space::Architecture;
use serde::{Deserialize, Serialize};

use crate::demand::Demand;
use crate::error::SearchError;
use crate::fitting::best_within;
use crate::gates::Gates;

/// How near to a limit an expectation is brought, relative to it.
const TOLERANCE: f64 = 1e-9;
/// Projections onto one limit after the other, until all hold.
const SWEEPS: usize = 100;
/// Halvings of a bracket.
const HALVINGS: usize = 80;
/// A difference of logits beyond which the less probable candidate is as good as gone.
const DECIDED: f64 = 40.0;

/// Whether a limit is to be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// What the network is to need, at most and as nearly as possible: one beyond what the space holds is an error.
    Target,
    /// What it may need at most.
    Cap,
}

/// A limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limit {
    /// What is limited and where, such as `latency on local-cpu`, `MACs`.
    pub name: String,
    /// The unit of its amounts; may be empty.
    pub unit: String,
    /// What networks need.
    pub demand: Demand,
    /// What they may need at most.
    pub at_most: f64,
    /// Whether it is to be reached.
    pub bound: Bound,
}

impl Limit {
    /// A latency to be reached, in ms.
    pub fn latency(costs: CostMatrix, target_ms: f64) -> Self {
        let (name, unit) = ("latency".to_owned(), "ms".to_owned());
        Self { name, unit, demand: Demand::Sum(costs), at_most: target_ms, bound: Bound::Target }
    }

    /// An amount with its unit.
    pub fn show(&self, amount: f64) -> String {
        // Counts are whole numbers.
        let digits = if amount >= 1e5 || (amount >= 100.0 && amount.fract() == 0.0) { 0 } else { 4 };
        let gap = if self.unit.is_empty() { "" } else { " " };
        format!("{amount:.digits$}{gap}{}", self.unit)
    }
}

/// Limits that all hold, at least one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits(Vec<Limit>);

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each: Vec<String> =
            self.0.iter().map(|limit| format!("{} at most {}", limit.name, limit.show(limit.at_most))).collect();
        f.write_str(&each.join(", "))
    }
}

impl Limits {
    /// Limits that a network of the space meets, all at once. One that none meets, or a target that all stay below, is an
    /// error that says what the space holds.
    pub fn new(limits: Vec<Limit>) -> Result<Self, SearchError> {
        let Some(first) = limits.first() else {
            return Err(SearchError::Settings(
                "no limit: give a --target, --max-macs, --max-params or --max-memory".into(),
            ));
        };
        let all = first.demand.everything();
        for limit in &limits {
            let (least, most) = limit.demand.range(&all);
            let beyond = limit.bound == Bound::Target && limit.at_most > most;
            if limit.at_most.is_nan() || limit.at_most < least || beyond {
                return Err(SearchError::Target {
                    name: limit.name.clone(),
                    target: limit.show(limit.at_most),
                    least: limit.show(least),
                    most: limit.show(most),
                });
            }
        }
        let limits = Self(limits);
        if !limits.can_be_met(&all) {
            return Err(SearchError::Limits { limits: limits.to_string(), nearest: limits.nearest(&all) });
        }
        Ok(limits)
    }

    /// The limits.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Limit> {
        self.0.iter()
    }

    /// The one that was named first.
    pub fn first(&self) -> &Limit {
        &self.0[0]
    }

    /// The same with other amounts, which must be possible, too.
    pub fn at(&self, amounts: &[f64]) -> Result<Self, SearchError> {
        let limits = self.0.iter().zip(amounts).map(|(limit, &at_most)| Limit { at_most, ..limit.clone() });
        Self::new(limits.collect())
    }

    /// The amounts.
    pub fn amounts(&self) -> Vec<f64> {
        self.0.iter().map(|limit| limit.at_most).collect()
    }

    /// What a network needs over what it may need: the largest of the limits' ratios. At most 1 where it meets all.
    pub fn share(&self, architecture: &Architecture) -> f64 {
        let shares = self.0.iter().map(|limit| limit.demand.of(architecture) / limit.at_most);
        shares.fold(0.0, f64::max)
    }

    /// Whether a network meets all.
    pub fn fit(&self, architecture: &Architecture) -> bool {
        self.0.iter().all(|limit| limit.demand.of(architecture) <= limit.at_most)
    }

    /// Whether a network of these candidates meets all: `live[decision][candidate]`.
    pub fn can_be_met(&self, live: &[Vec<bool>]) -> bool {
        let none: Vec<Vec<f64>> = live.iter().map(|row| vec![0.0; row.len()]).collect();
        best_within(&none, live, self).is_some()
    }

    /// Whether networks of these candidates can reach a limit: without, nothing keeps the search from the largest.
    pub fn can_be_reached(&self, live: &[Vec<bool>]) -> bool {
        self.0.iter().any(|limit| limit.demand.range(live).1 >= limit.at_most)
    }

    /// The most probable network that meets all limits, by the gates: the product of its candidates' probabilities is the
    /// largest. Of those that need at least this share of what they may, where there are any: gates expect what the limit
    /// is, and the most probable of all networks may need much less while they are undecided. `None` where no network of
    /// what the gates have left meets the limits.
    pub fn most_probable(&self, gates: &Gates, least: f64) -> Option<Architecture> {
        let ln = |p: &f64| p.max(f64::MIN_POSITIVE).ln();
        let scores: Vec<Vec<f64>> = gates.probabilities().iter().map(|row| row.iter().map(ln).collect()).collect();
        let score = |network: &Architecture| -> f64 {
            scores.iter().zip(network.choices()).map(|(row, choice)| row[choice]).sum()
        };
        let with_floor =
            (0..self.0.len()).filter_map(|index| Some(Self([&self.0[..], &[self.floor(index, least)?]].concat())));
        let used = with_floor.filter_map(|limits| best_within(&scores, gates.live(), &limits));
        let used = used.max_by(|a, b| score(a).total_cmp(&score(b)));
        used.or_else(|| best_within(&scores, gates.live(), self))
    }

    /// What is needed at least of a limit, as a limit of its negative; none for memory, whose largest part isn't a sum.
    fn floor(&self, index: usize, least: f64) -> Option<Limit> {
        let limit = &self.0[index];
        let Demand::Sum(costs) = &limit.demand else { return None };
        let rows = costs.rows.iter().map(|row| row.iter().map(|cost| -cost).collect()).collect();
        let demand = Demand::Sum(CostMatrix { constant_ms: -costs.constant_ms, rows });
        (least > 0.0).then(|| Limit { demand, at_most: -least * limit.at_most, ..limit.clone() })
    }

    /// The smallest factor by which all limits, taken together, would have to be wider, found by halving.
    fn nearest(&self, live: &[Vec<bool>]) -> String {
        let scaled = |factor: f64| {
            Self(self.0.iter().map(|limit| Limit { at_most: factor * limit.at_most, ..limit.clone() }).collect())
        };
        let (mut low, mut high) = (1.0, 1.0);
        while !scaled(high).can_be_met(live) && high < 1e9 {
            (low, high) = (high, 2.0 * high);
        }
        for _ in 0..40 {
            let middle = 0.5 * (low + high);
            if scaled(middle).can_be_met(live) { high = middle } else { low = middle }
        }
        scaled(high).to_string()
    }

    /// Expected amounts of the gates, one a limit.
    pub fn expected(&self, p: &[Vec<f64>]) -> Vec<f64> {
        self.0.iter().map(|limit| limit.demand.expectation(p).0).collect()
    }

    /// Shifts the logits so that every expectation is at most `at_most` (one amount a limit), and the tightest limit is
    /// reached: `alpha_di <- alpha_di - mu c_di` for the smallest mu that does it. That is the distribution nearest to
    /// the gates' (in Kullback-Leibler divergence) whose expectation is the limit; for several limits, one after the
    /// other until all hold. Gives by how much each expectation was beyond its limit before, relative to it: what the
    /// multipliers follow.
    ///
    /// For memory, whose expectation isn't linear, `c` are its derivatives at the gates' probabilities.
    pub fn project(&self, gates: &mut Gates, at_most: &[f64]) -> Vec<f64> {
        let shares = |gates: &Gates| -> Vec<f64> {
            let expected = self.expected(&gates.probabilities());
            expected.iter().zip(at_most).map(|(expected, at_most)| expected / at_most).collect()
        };
        let before = shares(gates);
        for _ in 0..SWEEPS {
            let now = shares(gates);
            let Some((index, share)) = largest(now.iter().copied().enumerate()) else { break };
            let wanted = move |shares: &[f64]| shares[index] <= 1.0;
            if share <= 1.0 + TOLERANCE || !self.tilt(gates, index, 1.0, &shares, &wanted) {
                break;
            }
        }
        let reachable = |index: usize| self.0[index].demand.range(gates.live()).1 >= at_most[index];
        let now = shares(gates);
        if now.iter().all(|share| *share < 1.0 - TOLERANCE)
            && let Some((index, _)) = largest(now.iter().copied().enumerate().filter(|(index, _)| reachable(*index)))
        {
            let reached = |shares: &[f64]| shares.iter().any(|share| *share >= 1.0);
            self.tilt(gates, index, -1.0, &shares, &reached);
        }
        before.into_iter().map(|share| share - 1.0).collect()
    }

    /// Goes against a limit's slope (`sign` 1) or along it (-1), just as far as is wanted; `false` where nothing moves.
    fn tilt(
        &self,
        gates: &mut Gates,
        index: usize,
        sign: f64,
        shares: &dyn Fn(&Gates) -> Vec<f64>,
        wanted: &dyn Fn(&[f64]) -> bool,
    ) -> bool {
        let p = gates.probabilities();
        let (_, mut slopes) = self.0[index].demand.expectation(&p);
        // Around each decision's mean, lest the logits drift away together.
        for ((slopes, p), live) in slopes.iter_mut().zip(&p).zip(gates.live()) {
            let mean: f64 = slopes.iter().zip(p).map(|(slope, p)| slope * p).sum();
            slopes.iter_mut().zip(live).for_each(|(slope, live)| *slope = if *live { *slope - mean } else { 0.0 });
        }
        let spread = |row: &Vec<f64>| row.iter().copied().fold(0.0, f64::max) - row.iter().copied().fold(0.0, f64::min);
        let widest = slopes.iter().map(spread).fold(0.0, f64::max);
        if widest <= 0.0 {
            return false;
        }
        let moved = |mu: f64| {
            let mut moved = gates.clone();
            let by: Vec<Vec<f64>> =
                slopes.iter().map(|row| row.iter().map(|slope| -sign * mu * slope).collect()).collect();
            moved.shift(&by);
            moved
        };
        let (mut low, mut high) = (0.0, 1e-3 / widest);
        while !wanted(&shares(&moved(high))) {
            if high * widest > 1e3 * DECIDED {
                break;
            }
            (low, high) = (high, 2.0 * high);
        }
        for _ in 0..HALVINGS {
            let middle = 0.5 * (low + high);
            if wanted(&shares(&moved(middle))) { high = middle } else { low = middle }
        }
        *gates = moved(high);
        true
    }
}

fn largest(shares: impl Iterator<Item = (usize, f64)>) -> Option<(usize, f64)> {
    shares.max_by(|a, b| a.1.total_cmp(&b.1))
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn numbers(rng: &mut ChaCha8Rng, counts: &[usize]) -> Vec<Vec<f64>> {
        counts.iter().map(|&count| (0..count).map(|_| rng.random_range(0.0..2.0)).collect()).collect()
    }

    fn limit(rng: &mut ChaCha8Rng, counts: &[usize], part: f64) -> Limit {
        let costs = CostMatrix::new(0.5, numbers(rng, counts)).unwrap();
        let (least, most) = costs.range_ms();
        Limit::latency(costs, least + part * (most - least))
    }

    #[test]
    fn a_projection_reaches_the_limit_from_both_sides_and_is_the_nearest_distribution() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let counts = [3, 2, 4];
        for part in [0.05, 0.3, 0.6, 0.95] {
            let limits = Limits::new(vec![limit(&mut rng, &counts, part)]).unwrap();
            let mut gates = Gates::from_logits(numbers(&mut rng, &counts));
            let (before, logits) = (gates.probabilities(), gates.logits().to_vec());
            let overshoot = limits.project(&mut gates, &limits.amounts());
            let at = limits.first().at_most;
            assert!((limits.expected(&gates.probabilities())[0] - at).abs() < 1e-8 * at);
            assert!((limits.expected(&before)[0] / at - 1.0 - overshoot[0]).abs() < 1e-12);
            // One multiplier explains all shifts: differences within a decision are in proportion to those of costs.
            let rows = &limits.first().demand.sum().rows;
            let mut slopes = Vec::new();
            for decision in 0..3 {
                let shift = |i: usize| gates.logits()[decision][i] - logits[decision][i];
                for i in 1..counts[decision] {
                    slopes.push((shift(i) - shift(0)) / (rows[decision][i] - rows[decision][0]));
                }
            }
            assert!(slopes.iter().all(|slope| (slope - slopes[0]).abs() < 1e-6 * slopes[0].abs()), "{slopes:?}");
        }
    }

    #[test]
    fn several_limits_hold_at_once_and_the_tightest_is_reached() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let counts = [3, 5, 4, 3];
        for _ in 0..20 {
            let limits =
                vec![limit(&mut rng, &counts, 0.4), limit(&mut rng, &counts, 0.4), limit(&mut rng, &counts, 0.5)];
            let Ok(limits) = Limits::new(limits) else { continue };
            let mut gates = Gates::from_logits(numbers(&mut rng, &counts));
            limits.project(&mut gates, &limits.amounts());
            let shares: Vec<f64> =
                limits.expected(&gates.probabilities()).iter().zip(limits.amounts()).map(|(e, t)| e / t).collect();
            let tightest = shares.iter().copied().fold(0.0, f64::max);
            assert!((tightest - 1.0).abs() < 1e-3, "{shares:?}");
        }
    }

    #[test]
    fn the_most_probable_network_uses_what_it_may_where_one_can() {
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        let counts = [7; 21];
        for part in [0.1, 0.3, 0.6, 0.9] {
            // Gates that would have the least network.
            let limits = Limits::new(vec![limit(&mut rng, &counts, part), limit(&mut rng, &counts, 0.8)]).unwrap();
            let rows = &limits.first().demand.sum().rows;
            let gates = Gates::from_logits(rows.iter().map(|row| row.iter().map(|cost| -cost).collect()).collect());
            let shares = [0.0, 0.95].map(|least| limits.share(&limits.most_probable(&gates, least).unwrap()));
            assert!(shares[0] < 0.95 && (0.95..=1.0).contains(&shares[1]), "{part}: {shares:?}");
        }
    }

    #[test]
    fn a_cap_that_nothing_reaches_moves_nothing() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let mut cap = limit(&mut rng, &[3, 2], 0.5);
        (cap.at_most, cap.bound) = (100.0, Bound::Cap);
        let limits = Limits::new(vec![cap]).unwrap();
        let mut gates = Gates::from_logits(numbers(&mut rng, &[3, 2]));
        let before = gates.clone();
        assert!(limits.project(&mut gates, &limits.amounts())[0] < 0.0);
        assert_eq!(gates, before);
    }

    #[test]
    fn limits_that_no_network_meets_together_are_refused_with_the_nearest_that_one_does() {
        // Each can be met, but the first's cheap candidate is the second's dear one.
        let costs = |a, b| CostMatrix::new(0.0, vec![vec![a, b]]).unwrap();
        let limits = vec![Limit::latency(costs(1.0, 3.0), 1.5), Limit::latency(costs(4.0, 1.0), 2.0)];
        let error = Limits::new(limits).unwrap_err().to_string();
        assert!(error.contains("1.5000 ms") && error.contains("nearest"), "{error}");
    }
}
