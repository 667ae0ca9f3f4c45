//! The additive cost model that a search uses.

use std::ops::RangeInclusive;

use fleetfoot_space::{Architecture, Decision, OperatorKey, Precision, SearchSpace};
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

/// Latency of a space's networks as a constant plus one cost per decision, in milliseconds:
/// `latency(a) = constant_ms + sum over d of rows[d][a_d]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CostMatrix {
    /// Cost of what every network has: the call itself, stem, first block and head.
    pub constant_ms: f64,
    /// `rows[decision][candidate]`; 0 for Zero.
    pub rows: Vec<Vec<f64>>,
}

/// A cost matrix that can't be used.
#[derive(Debug, Clone, thiserror::Error, PartialEq)]
pub enum CostError {
    /// A cost isn't a finite number of milliseconds, at least 0.
    #[error("cost of candidate {candidate} in decision {decision} is {value} ms: wanted a finite number, at least 0")]
    Value {
        /// The decision's index.
        decision: usize,
        /// The candidate's index.
        candidate: usize,
        /// Its cost.
        value: f64,
    },
    /// The constant part isn't a finite number of milliseconds, at least 0.
    #[error("the constant part of the cost is {0} ms: wanted a finite number, at least 0")]
    Constant(f64),
}

/// Expected latency of a softmax over every decision's candidates.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Expectation {
    /// The expected latency in milliseconds.
    pub latency_ms: f64,
    /// Its derivative by every logit, in milliseconds: `[decision][candidate]`.
    pub gradient: Vec<Vec<f64>>,
    /// The candidates' probabilities: `[decision][candidate]`.
    pub probabilities: Vec<Vec<f64>>,
}

/// Logits that don't belong to a cost matrix. Decisions and candidates are counted from 0.
#[derive(Debug, Clone, thiserror::Error, PartialEq)]
pub enum AlphaError {
    /// The number of decisions is wrong.
    #[error("{got} lists of logits, but the space has {want} decisions: wanted a list for each")]
    Decisions {
        /// Lists that there are.
        got: usize,
        /// Decisions.
        want: usize,
    },
    /// The number of a decision's candidates is wrong.
    #[error("decision {decision} (counted from 0) has {want} candidates, but {got} logits stand there")]
    Candidates {
        /// The decision's index.
        decision: usize,
        /// Logits that there are.
        got: usize,
        /// Candidates.
        want: usize,
    },
    /// A logit isn't finite.
    #[error(
        "the logit of candidate {candidate} in decision {decision} (counted from 0) is {value}: wanted a finite number"
    )]
    Value {
        /// The decision's index.
        decision: usize,
        /// The candidate's index.
        candidate: usize,
        /// The logit.
        value: f64,
    },
}

impl CostMatrix {
    /// Checks every value.
    pub fn new(constant_ms: f64, rows: Vec<Vec<f64>>) -> Result<Self, CostError> {
        let fits = |value: f64| value.is_finite() && value >= 0.0;
        if !fits(constant_ms) {
            return Err(CostError::Constant(constant_ms));
        }
        for (decision, row) in rows.iter().enumerate() {
            if let Some(candidate) = row.iter().position(|&value| !fits(value)) {
                return Err(CostError::Value { decision, candidate, value: row[candidate] });
            }
        }
        Ok(Self { constant_ms, rows })
    }

    /// The matrix of a space at a batch size in a precision: `cost` says what a unit costs, in ms or in whatever unit the
    /// matrix is to have; a network costs `call` besides. An identity costs nothing and isn't asked for.
    pub fn of_units<E: From<CostError>>(
        space: &SearchSpace,
        (batch, precision): (usize, Precision),
        call: f64,
        cost: impl Fn(&OperatorKey) -> Result<f64, E>,
    ) -> Result<Self, E> {
        let cost = |key: OperatorKey| cost(&key.at(batch, precision));
        let mut constant = call;
        for unit in space.front().iter().chain(space.back()) {
            constant += cost(unit.key)?;
        }
        let row = |decision: &Decision| {
            let costs = decision.candidates.iter().map(|&candidate| match decision.is_identity(candidate) {
                true => Ok(0.0),
                false => cost(decision.key(candidate, precision)),
            });
            costs.collect::<Result<Vec<f64>, E>>()
        };
        let rows = space.decisions().iter().map(row).collect::<Result<Vec<_>, E>>()?;
        Ok(Self::new(constant, rows)?)
    }

    /// Latency of an architecture in milliseconds. The architecture must be one of the matrix' space.
    pub fn latency_ms(&self, architecture: &Architecture) -> f64 {
        let costs = self.rows.iter().zip(architecture.choices()).map(|(row, choice)| row[choice]);
        self.constant_ms + costs.sum::<f64>()
    }

    /// Expected latency where every decision's candidate is drawn by the softmax of its logits, and its gradient by them:
    /// `E = constant + sum over d, i of p_di c_di` with `p_d = softmax(alpha_d)`, and `dE/dalpha_di = p_di (c_di - sum over j of p_dj c_dj)`.
    pub fn expectation(&self, alpha: &[Vec<f64>]) -> Result<Expectation, AlphaError> {
        if alpha.len() != self.rows.len() {
            return Err(AlphaError::Decisions { got: alpha.len(), want: self.rows.len() });
        }
        let mut expectation =
            Expectation { latency_ms: self.constant_ms, probabilities: Vec::new(), gradient: Vec::new() };
        for (decision, (logits, row)) in alpha.iter().zip(&self.rows).enumerate() {
            if logits.len() != row.len() {
                return Err(AlphaError::Candidates { decision, got: logits.len(), want: row.len() });
            }
            if let Some(candidate) = logits.iter().position(|logit| !logit.is_finite()) {
                return Err(AlphaError::Value { decision, candidate, value: logits[candidate] });
            }
            let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = logits.iter().map(|logit| (logit - largest).exp()).collect();
            let sum: f64 = weights.iter().sum();
            let probabilities: Vec<f64> = weights.iter().map(|weight| weight / sum).collect();
            let mean: f64 = probabilities.iter().zip(row).map(|(p, cost)| p * cost).sum();
            expectation.latency_ms += mean;
            expectation.gradient.push(probabilities.iter().zip(row).map(|(p, cost)| p * (cost - mean)).collect());
            expectation.probabilities.push(probabilities);
        }
        Ok(expectation)
    }

    /// Mean latency over all architectures, in milliseconds.
    pub fn mean_ms(&self) -> f64 {
        let means = self.rows.iter().map(|row| row.iter().sum::<f64>() / row.len().max(1) as f64);
        self.constant_ms + means.sum::<f64>()
    }

    /// Latency of the cheapest and of the dearest architecture, in milliseconds.
    pub fn range_ms(&self) -> (f64, f64) {
        let total = |pick: fn(f64, f64) -> f64| {
            let costs = self.rows.iter().map(|row| row.iter().copied().reduce(pick).unwrap_or(0.0));
            self.constant_ms + costs.sum::<f64>()
        };
        (total(f64::min), total(f64::max))
    }

    /// Draws evenly among the architectures whose latency is within `tolerance` (a share) of `latency_ms`.
    pub fn sampler_near(&self, latency_ms: f64, tolerance: f64) -> Sampler<'_> {
        let evenly: Vec<Vec<f64>> = self.rows.iter().map(|row| vec![1.0; row.len()]).collect();
        self.sampler_within(latency_ms * (1.0 - tolerance)..=latency_ms * (1.0 + tolerance), &evenly)
    }

    /// Draws among the architectures whose latency lies in a range of milliseconds, each with a probability in proportion
    /// to the product of its candidates' weights, `weights[decision][candidate]`.
    ///
    /// Architectures that fast or slow are too rare to be met by drawing at random: their weights are summed up first, by
    /// sums of costs in steps of a 40th of the range.
    pub fn sampler_within(&self, range_ms: RangeInclusive<f64>, weights: &[Vec<f64>]) -> Sampler<'_> {
        let step = (range_ms.end() - range_ms.start()) / 40.0;
        let bin = |ms: f64| (ms / step).round() as usize;
        let wanted = range_ms.start() - self.constant_ms..=range_ms.end() - self.constant_ms;
        if !(step > 0.0 && *wanted.end() >= 0.0) {
            return Sampler { costs: self, range_ms, decisions: Vec::new(), completions: Vec::new() };
        }
        let (first, last) = (bin(wanted.start().max(0.0)), bin(*wanted.end()));
        let candidates = |(row, weights): (&Vec<f64>, &Vec<f64>)| -> Vec<(usize, f64)> {
            row.iter().zip(weights).map(|(&cost, &weight)| (bin(cost), weight)).collect()
        };
        let decisions: Vec<Vec<(usize, f64)>> = self.rows.iter().zip(weights).map(candidates).collect();
        let mut completions = vec![(0..=last).map(|b| f64::from(u8::from(b >= first))).collect::<Vec<f64>>()];
        for candidates in decisions.iter().rev() {
            let behind = &completions[completions.len() - 1];
            let reach = |b: usize| {
                let ways = candidates.iter().filter_map(|&(cost, weight)| Some(weight * behind.get(b + cost)?));
                ways.sum()
            };
            completions.push((0..=last).map(reach).collect());
        }
        completions.reverse();
        Sampler { costs: self, range_ms, decisions, completions }
    }
}

/// Draws architectures of a range of latencies; what that takes is computed once for all draws.
#[derive(Clone, Debug)]
pub struct Sampler<'a> {
    costs: &'a CostMatrix,
    range_ms: RangeInclusive<f64>,
    /// Each decision's candidates: cost in steps, weight.
    decisions: Vec<Vec<(usize, f64)>>,
    /// `[d][b]`: weight of all ways to choose decisions d and behind so that a sum that is b now ends within the range.
    /// Empty where the range is.
    completions: Vec<Vec<f64>>,
}

impl Sampler<'_> {
    /// An architecture; `None` where there is none in the range.
    pub fn draw(&self, rng: &mut impl Rng) -> Option<Architecture> {
        let completions = self.completions.get(1..)?;
        // Rounding can carry a draw over the edge; such draws are thrown away.
        (0..1000).find_map(|_| {
            let mut sum = 0;
            let mut choices = Vec::with_capacity(self.decisions.len());
            for (candidates, behind) in self.decisions.iter().zip(completions) {
                let ways = |&(cost, weight): &(usize, f64)| weight * behind.get(sum + cost).copied().unwrap_or(0.0);
                let total: f64 = candidates.iter().map(ways).sum();
                let mut rest = rng.random::<f64>() * total;
                let choice = candidates.iter().position(|candidate| {
                    rest -= ways(candidate);
                    rest < 0.0
                })?;
                sum += candidates[choice].0;
                choices.push(choice);
            }
            let drawn = Architecture::new(choices)?;
            self.range_ms.contains(&self.costs.latency_ms(&drawn)).then_some(drawn)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn architectures_near_a_latency_are_drawn_evenly() {
        let costs = CostMatrix::new(1.0, vec![vec![0.0, 1.0, 2.0, 4.0]; 5]).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut drawn: HashMap<String, usize> = HashMap::new();
        let sampler = costs.sampler_near(4.0, 0.02);
        for _ in 0..4000 {
            let architecture = sampler.draw(&mut rng).unwrap();
            assert_eq!(costs.latency_ms(&architecture), 4.0);
            *drawn.entry(architecture.to_string()).or_default() += 1;
        }
        // Sums of 3 from five of 0, 1, 2, 4: C(5,3) with three ones, 5 * 4 with a two and a one.
        assert_eq!(drawn.len(), 30);
        assert!(drawn.values().all(|&count| (80..190).contains(&count)), "{drawn:?}");
        assert_eq!(costs.sampler_near(0.5, 0.02).draw(&mut rng), None);
        assert_eq!(costs.sampler_near(100.0, 0.02).draw(&mut rng), None);
    }

    #[test]
    fn the_gradient_of_the_expectation_matches_central_differences() {
        let costs = CostMatrix::new(0.5, vec![vec![1.0, 2.5, 0.0], vec![0.3, 4.0], vec![7.0]]).unwrap();
        // Far-off logits must neither overflow nor lose the others.
        for alpha in [
            vec![vec![0.2, -0.4, 1.0], vec![0.0, 0.7], vec![3.0]],
            vec![vec![900.0, 901.0, -900.0], vec![-800.0, -799.5], vec![0.0]],
        ] {
            let expectation = costs.expectation(&alpha).unwrap();
            assert_eq!(expectation.gradient[2], [0.0]);
            for (decision, logits) in alpha.iter().enumerate() {
                assert!((expectation.probabilities[decision].iter().sum::<f64>() - 1.0).abs() < 1e-12);
                for candidate in 0..logits.len() {
                    let moved = |h: f64| {
                        let mut alpha = alpha.clone();
                        alpha[decision][candidate] += h;
                        costs.expectation(&alpha).unwrap().latency_ms
                    };
                    let difference = (moved(1e-4) - moved(-1e-4)) / 2e-4;
                    let gradient = expectation.gradient[decision][candidate];
                    assert!((gradient - difference).abs() < 1e-8, "{gradient} {difference}");
                }
            }
        }
        for (alpha, part) in [
            (vec![vec![0.0; 3]], "1 lists of logits, but the space has 3 decisions"),
            (vec![vec![0.0; 3], vec![0.0; 3], vec![0.0]], "decision 1 (counted from 0) has 2 candidates, but 3"),
            (vec![vec![0.0; 3], vec![0.0, f64::NAN], vec![0.0]], "candidate 1 in decision 1 (counted from 0) is NaN"),
        ] {
            assert!(costs.expectation(&alpha).unwrap_err().to_string().contains(part), "{part}");
        }
    }

    #[test]
    fn weights_tell_how_often_an_architecture_is_drawn() {
        let costs = CostMatrix::new(1.0, vec![vec![0.0, 1.0, 2.0]; 3]).unwrap();
        let weights = vec![vec![1.0, 2.0, 0.0], vec![1.0, 1.0, 1.0], vec![3.0, 1.0, 2.0]];
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let mut drawn: HashMap<String, f64> = HashMap::new();
        let draws = 20_000;
        let sampler = costs.sampler_within(2.9..=3.1, &weights);
        for _ in 0..draws {
            let architecture = sampler.draw(&mut rng).unwrap();
            assert_eq!(costs.latency_ms(&architecture), 3.0);
            *drawn.entry(architecture.to_string()).or_default() += 1.0 / f64::from(draws);
        }
        // Of all that cost 1 + 2: 002, 011, 020, 101, 110; 200 has no weight.
        for (architecture, weight) in [("002", 2.0), ("011", 1.0), ("020", 3.0), ("101", 2.0), ("110", 6.0)] {
            let share = drawn.remove(architecture).unwrap();
            assert!((share - weight / 14.0).abs() < 0.02, "{architecture}: {share}");
        }
        assert!(drawn.is_empty());
    }
}
