//! What networks need of something that is limited: milliseconds, multiply-accumulates, parameters, bytes.

use fleetfoot_predictor::{CostError, CostMatrix};
use fleetfoot_space::{Architecture, Network, NetworkError, OperatorKey, Precision, SearchSpace};
use serde::{Deserialize, Serialize};

/// Bytes of a MiB.
const MIB: f64 = (1 << 20) as f64;

/// What every network of a space needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Demand {
    /// A constant and one amount a decision, which add up.
    Sum(CostMatrix),
    /// Memory: weights add up; of the units' working memory, the largest counts.
    Memory {
        /// MiB of weights.
        weights: CostMatrix,
        /// MiB of activations that a candidate needs at once, `[decision][candidate]`; its constant is what the fixed
        /// units need.
        working: CostMatrix,
    },
}

/// A demand that can't be computed.
#[derive(Debug, thiserror::Error)]
pub enum DemandError {
    /// A unit that can't stand where it is.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// An amount is no amount.
    #[error(transparent)]
    Cost(#[from] CostError),
}

impl Demand {
    /// Multiply-accumulates of one image.
    pub fn macs(space: &SearchSpace) -> Result<Self, DemandError> {
        Ok(Self::Sum(of_networks(space, Precision::Fp32, |network| network.macs() as f64)?))
    }

    /// Trainable parameters, BN's included.
    pub fn params(space: &SearchSpace) -> Result<Self, DemandError> {
        Ok(Self::Sum(of_networks(space, Precision::Fp32, |network| network.params() as f64)?))
    }

    /// MiB of weights and of the activations that must be there at once, for one image. What a runtime takes besides isn't
    /// in it.
    pub fn memory(space: &SearchSpace, precision: Precision) -> Result<Self, DemandError> {
        let weights = of_networks(space, precision, |network| network.weight_bytes() as f64 / MIB)?;
        let peak = |network: &Network| network.peak_activation_bytes() as f64 / MIB;
        let mut working = of_networks(space, precision, peak)?;
        working.constant_ms = 0.0;
        for unit in space.front().iter().chain(space.back()) {
            let network = Network::of_unit(&unit.key.at(1, precision), space.bn_eps())?;
            working.constant_ms = working.constant_ms.max(peak(&network));
        }
        // An identity holds its input, as its neighbours do.
        Ok(Self::Memory { weights, working })
    }

    /// The amount that a network needs. It must be one of the space.
    pub fn of(&self, architecture: &Architecture) -> f64 {
        let choices: Vec<usize> = architecture.choices().collect();
        self.least_behind(&choices, (0.0, 0.0))
    }

    /// The part that adds up.
    pub fn sum(&self) -> &CostMatrix {
        match self {
            Self::Sum(costs) => costs,
            Self::Memory { weights, .. } => weights,
        }
    }

    /// Expected amount where every decision's candidate is drawn by `p[decision][candidate]`, independently, and its
    /// derivative by every p, the others held: `dE/dp_di = E[amount | candidate i in decision d]`, up to a constant of the
    /// decision for what adds up.
    ///
    /// The expectation of the largest of independent values is exact: with `F_d(v)` the probability that decision d's value
    /// is at most v, `E[max] = sum over v of v (prod_d F_d(v) - prod_d F_d(v-))`.
    pub fn expectation(&self, p: &[Vec<f64>]) -> (f64, Vec<Vec<f64>>) {
        match self {
            Self::Sum(costs) => (expected_sum(costs, p), costs.rows.clone()),
            Self::Memory { weights, working } => {
                let (largest, mut slopes) = expected_largest(working, p);
                for (slopes, row) in slopes.iter_mut().zip(&weights.rows) {
                    slopes.iter_mut().zip(row).for_each(|(slope, weight)| *slope += weight);
                }
                (expected_sum(weights, p) + largest, slopes)
            }
        }
    }

    /// All candidates: `[decision][candidate]`.
    pub fn everything(&self) -> Vec<Vec<bool>> {
        self.sum().rows.iter().map(|row| vec![true; row.len()]).collect()
    }

    /// The least and the most that networks of these candidates need: `live[decision][candidate]`.
    pub fn range(&self, live: &[Vec<bool>]) -> (f64, f64) {
        let extreme = |matrix: &CostMatrix, pick: fn(f64, f64) -> f64| -> Vec<f64> {
            let rows = matrix.rows.iter().zip(live);
            let alive = |(row, live): (&Vec<f64>, &Vec<bool>)| {
                let costs = row.iter().zip(live).filter(|(_, live)| **live).map(|(cost, _)| *cost);
                costs.reduce(pick).unwrap_or(0.0)
            };
            rows.map(alive).collect()
        };
        match self {
            Self::Sum(costs) => {
                let total = |pick| costs.constant_ms + extreme(costs, pick).iter().sum::<f64>();
                (total(f64::min), total(f64::max))
            }
            Self::Memory { weights, working } => {
                let all = || {
                    working.rows.iter().zip(live).enumerate().flat_map(|(d, (row, live))| {
                        let alive = row.iter().zip(live).enumerate().filter(|(_, (_, live))| **live);
                        alive.map(move |(i, (value, _))| (d, i, *value))
                    })
                };
                // The least: of all bounds on the working memory, the one under which weights and it need least.
                let bounds = all().map(|(_, _, value)| value.max(working.constant_ms));
                let under = |bound: f64| {
                    let mut total = weights.constant_ms + bound;
                    for ((row, sizes), live) in weights.rows.iter().zip(&working.rows).zip(live) {
                        let fitting =
                            row.iter().zip(sizes).zip(live).filter(|((_, size), live)| **live && **size <= bound);
                        total += fitting.map(|((weight, _), _)| *weight).fold(f64::INFINITY, f64::min);
                    }
                    total
                };
                let most = extreme(weights, f64::max);
                let heaviest: f64 = most.iter().sum();
                let at = |(d, i, value): (usize, usize, f64)| {
                    weights.constant_ms + heaviest - most[d] + weights.rows[d][i] + value.max(working.constant_ms)
                };
                let none = weights.constant_ms + working.constant_ms;
                let least = bounds.map(under).fold(f64::INFINITY, f64::min);
                (if least.is_finite() { least } else { none }, all().map(at).fold(none, f64::max))
            }
        }
    }

    /// The least that networks need whose first choices are these and whose others need at least so much: what adds up,
    /// and working memory.
    pub fn least_behind(&self, choices: &[usize], (sum, largest): (f64, f64)) -> f64 {
        let chosen = |matrix: &CostMatrix, pick: fn(f64, f64) -> f64| {
            let costs = matrix.rows.iter().zip(choices).map(|(row, &choice)| row[choice]);
            costs.fold(matrix.constant_ms, pick)
        };
        match self {
            Self::Sum(costs) => chosen(costs, |a, b| a + b) + sum,
            Self::Memory { weights, working } => {
                chosen(weights, |a, b| a + b) + sum + chosen(working, f64::max).max(largest)
            }
        }
    }

    /// The working memory of a candidate; 0 where there is no such thing.
    pub fn working(&self, decision: usize, candidate: usize) -> f64 {
        match self {
            Self::Sum(_) => 0.0,
            Self::Memory { working, .. } => working.rows[decision][candidate],
        }
    }
}

fn of_networks(
    space: &SearchSpace,
    precision: Precision,
    amount: impl Fn(&Network) -> f64,
) -> Result<CostMatrix, DemandError> {
    CostMatrix::of_units(space, (1, precision), 0.0, |key: &OperatorKey| {
        Ok(amount(&Network::of_unit(key, space.bn_eps())?))
    })
}

fn expected_sum(costs: &CostMatrix, p: &[Vec<f64>]) -> f64 {
    let rows = p.iter().zip(&costs.rows);
    costs.constant_ms + rows.map(|(p, row)| p.iter().zip(row).map(|(p, cost)| p * cost).sum::<f64>()).sum::<f64>()
}

/// The expected largest of one value a decision and the constant, and its derivatives.
fn expected_largest(values: &CostMatrix, p: &[Vec<f64>]) -> (f64, Vec<Vec<f64>>) {
    let mut levels: Vec<f64> = values.rows.iter().flatten().map(|value| value.max(values.constant_ms)).collect();
    levels.push(values.constant_ms);
    levels.sort_by(f64::total_cmp);
    levels.dedup();
    // below[l][d]: the probability that decision d's value is at most level l.
    let at_most = |level: f64, (row, p): (&Vec<f64>, &Vec<f64>)| -> f64 {
        row.iter().zip(p).filter(|(value, _)| **value <= level).map(|(_, p)| p).sum()
    };
    let below: Vec<Vec<f64>> =
        levels.iter().map(|&level| values.rows.iter().zip(p).map(|row| at_most(level, row)).collect()).collect();
    let mean = |distribution: &[f64]| -> f64 {
        let mut before = 0.0;
        levels.iter().zip(distribution).fold(0.0, |mean, (level, &now)| {
            let step = level * (now - before);
            before = now;
            mean + step
        })
    };
    let product = |row: &[f64], without: usize| -> f64 {
        row.iter().enumerate().filter(|(d, _)| *d != without).map(|(_, below)| below).product()
    };
    let expected = mean(&below.iter().map(|row| product(row, usize::MAX)).collect::<Vec<f64>>());
    let slopes = values.rows.iter().enumerate().map(|(d, row)| {
        let others: Vec<f64> = below.iter().map(|row| product(row, d)).collect();
        let given = |value: &f64| {
            let reached = levels.iter().zip(&others).map(|(level, &p)| if value <= level { p } else { 0.0 });
            mean(&reached.collect::<Vec<f64>>())
        };
        row.iter().map(given).collect()
    });
    (expected, slopes.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Demand {
        let weights = CostMatrix::new(5.0, vec![vec![1.0, 4.0, 0.0], vec![2.0, 3.0]]).unwrap();
        let working = CostMatrix::new(10.0, vec![vec![30.0, 8.0, 12.0], vec![11.0, 25.0]]).unwrap();
        Demand::Memory { weights, working }
    }

    fn networks() -> impl Iterator<Item = (usize, usize, Architecture)> {
        (0..3).flat_map(|a| (0..2).map(move |b| (a, b, Architecture::new(vec![a, b]).unwrap())))
    }

    #[test]
    fn expectations_are_the_means_over_all_networks() {
        let p = [vec![0.2, 0.5, 0.3], vec![0.6, 0.4]];
        for demand in [memory(), Demand::Sum(memory().sum().clone())] {
            let mean = |p: &[Vec<f64>]| -> f64 {
                networks().map(|(a, b, network)| p[0][a] * p[1][b] * demand.of(&network)).sum()
            };
            let (expected, slopes) = demand.expectation(&p);
            assert!((expected - mean(&p)).abs() < 1e-12);
            // Derivatives along the simplex: what one candidate takes from another.
            for (d, from, to) in [(0, 0, 1), (0, 1, 2), (1, 0, 1)] {
                let moved = |h: f64| {
                    let mut p = p.to_vec();
                    p[d][from] -= h;
                    p[d][to] += h;
                    mean(&p)
                };
                let difference = (moved(1e-4) - moved(-1e-4)) / 2e-4;
                assert!((slopes[d][to] - slopes[d][from] - difference).abs() < 1e-8, "{d} {from} {to}");
            }
        }
    }

    #[test]
    fn ranges_are_those_of_all_networks_that_are_left() {
        for live in [[vec![true; 3], vec![true; 2]], [vec![true, false, true], vec![false, true]]] {
            let needs = networks().filter(|(a, b, _)| live[0][*a] && live[1][*b]).map(|(_, _, n)| memory().of(&n));
            let needs: Vec<f64> = needs.collect();
            let (least, most) = memory().range(&live);
            assert_eq!(least, needs.iter().copied().fold(f64::INFINITY, f64::min));
            assert_eq!(most, needs.iter().copied().fold(0.0, f64::max));
        }
    }

    #[test]
    fn what_a_space_says_of_its_units_adds_up_to_the_networks() {
        let space = SearchSpace::load("fashion-28").unwrap();
        for name in ["0123456012", "6606606606", "k3e6"] {
            let network = space.resolve_own(name).unwrap();
            let whole = space.network(&network).unwrap();
            assert_eq!(Demand::macs(&space).unwrap().of(&network), whole.macs() as f64);
            assert_eq!(Demand::params(&space).unwrap().of(&network), whole.params() as f64);
            let mib = (whole.weight_bytes() + whole.peak_activation_bytes()) as f64 / MIB;
            assert!((Demand::memory(&space, Precision::Fp32).unwrap().of(&network) / mib - 1.0).abs() < 1e-12);
        }
    }
}
