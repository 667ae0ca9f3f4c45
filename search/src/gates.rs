//! Architecture parameters: one logit per decision and candidate, and the paths that are drawn from them.

use fleetfoot_predictor::CostMatrix;
use fleetfoot_space::{Architecture, SearchSpace};
use rand::distr::Distribution;
use rand::distr::weighted::WeightedIndex;
use rand_chacha::ChaCha8Rng;
use rand_distr::Normal;

/// Standard deviation of the logits before training.
const INITIAL_STD: f64 = 1e-3;
/// Adam's decay of the mean of squares and its epsilon; the mean's decay is 0, so that a logit without gradient stays.
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;
/// How finely latencies are told apart where the most probable network must be made to fit.
const KNAPSACK_STEPS: usize = 20_000;

/// A sampled path: one candidate per decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path(pub Vec<usize>);

/// Two candidates of a decision; the first is active.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// The candidate whose output goes on.
    pub active: usize,
    /// The candidate that is held against it.
    pub other: usize,
    /// Softmax of the two logits, of `active` and of `other`.
    pub q: (f64, f64),
}

/// The logits with Adam's state.
#[derive(Clone, Debug, PartialEq)]
pub struct Gates {
    alpha: Vec<Vec<f64>>,
    /// Adam's decayed means of squares, and how often each logit was updated.
    squares: Vec<Vec<f64>>,
    steps: u64,
}

/// `exp(a_i) / sum_j exp(a_j)`.
pub fn softmax(logits: &[f64]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = logits.iter().map(|logit| (logit - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// `ln sum_i exp(a_i)`.
fn log_sum_exp(logits: &[f64]) -> f64 {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    largest + logits.iter().map(|logit| (logit - largest).exp()).sum::<f64>().ln()
}

fn draw(weights: &[f64], rng: &mut ChaCha8Rng) -> usize {
    // Softmax weights are positive and finite; were they not, the first candidate would be as good as any.
    WeightedIndex::new(weights).map_or(0, |distribution| distribution.sample(rng))
}

impl Gates {
    /// Logits drawn from N(0, 1e-3).
    pub fn new(space: &SearchSpace, rng: &mut ChaCha8Rng) -> Self {
        let counts = space.decisions().iter().map(|decision| decision.candidates.len());
        let mut logits = |count: usize| match Normal::new(0.0, INITIAL_STD) {
            Ok(normal) => (0..count).map(|_| normal.sample(rng)).collect(),
            Err(_) => vec![0.0; count],
        };
        let alpha: Vec<Vec<f64>> = counts.map(&mut logits).collect();
        Self::from_logits(alpha)
    }

    /// Given logits, Adam at its start.
    pub fn from_logits(alpha: Vec<Vec<f64>>) -> Self {
        let squares = alpha.iter().map(|row| vec![0.0; row.len()]).collect();
        Self { alpha, squares, steps: 0 }
    }

    /// The logits: `[decision][candidate]`.
    pub fn logits(&self) -> &[Vec<f64>] {
        &self.alpha
    }

    /// Adam's state: decayed means of squares, number of steps.
    pub fn adam(&self) -> (&[Vec<f64>], u64) {
        (&self.squares, self.steps)
    }

    /// With Adam's state as [`adam`](Self::adam) gave it.
    pub fn restore(alpha: Vec<Vec<f64>>, squares: Vec<Vec<f64>>, steps: u64) -> Self {
        Self { alpha, squares, steps }
    }

    /// Softmax of every decision's logits.
    pub fn probabilities(&self) -> Vec<Vec<f64>> {
        self.alpha.iter().map(|row| softmax(row)).collect()
    }

    /// Entropy of a decision's softmax over that of equally probable candidates, mean over the decisions: 1 at the
    /// start, 0 once every choice is made. Decisions with one candidate don't count.
    pub fn entropy(&self) -> f64 {
        let open = self.probabilities().into_iter().filter(|row| row.len() > 1);
        let entropies: Vec<f64> = open
            .map(|row| -row.iter().filter(|&&p| p > 0.0).map(|p| p * p.ln()).sum::<f64>() / (row.len() as f64).ln())
            .collect();
        if entropies.is_empty() { 0.0 } else { entropies.iter().sum::<f64>() / entropies.len() as f64 }
    }

    /// The most probable candidate of every decision.
    pub fn most_probable(&self) -> Option<Architecture> {
        let best = |row: &Vec<f64>| row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(index, _)| index);
        self.alpha.iter().map(best).collect::<Option<Vec<_>>>().and_then(Architecture::new)
    }

    /// The most probable network that takes at most `limit_ms`: the product of its candidates' probabilities is the
    /// largest. `None` where no network is that fast.
    ///
    /// A knapsack with one choice per decision, solved by dynamic programming over latencies in steps of the room above
    /// the fastest network / 20,000. Costs are rounded up to steps, so the limit holds; what is lost by rounding is at
    /// most a step per decision.
    pub fn most_probable_within(&self, costs: &CostMatrix, limit_ms: f64) -> Option<Architecture> {
        let network = self.most_probable()?;
        if costs.latency_ms(&network) <= limit_ms {
            return Some(network);
        }
        let room = limit_ms - costs.range_ms().0;
        if room < 0.0 {
            return None;
        }
        let step = room / KNAPSACK_STEPS as f64;
        // In steps above the decision's cheapest candidate; the cheapest is free, whatever the step.
        let weights = |row: &Vec<f64>| -> Vec<usize> {
            let least = row.iter().copied().fold(f64::INFINITY, f64::min);
            let weight = |&cost: &f64| if cost <= least { 0 } else { ((cost - least) / step).ceil() as usize };
            row.iter().map(weight).collect()
        };
        let weights: Vec<Vec<usize>> = costs.rows.iter().map(weights).collect();
        // best[room left]: the largest log-probability of the decisions so far; chosen[decision][room left]: how.
        let mut best = vec![0.0; KNAPSACK_STEPS + 1];
        let mut chosen = Vec::with_capacity(self.alpha.len());
        for (p, weights) in self.probabilities().iter().zip(&weights) {
            let candidates: Vec<(usize, f64)> = weights.iter().zip(p).map(|(&weight, p)| (weight, p.ln())).collect();
            let pick = |room: usize| {
                let fitting = candidates.iter().enumerate().filter(|(_, (weight, _))| *weight <= room);
                let scored = fitting.map(|(index, &(weight, log_p))| (index, log_p + best[room - weight]));
                scored.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((0, f64::NEG_INFINITY))
            };
            let picked: Vec<(usize, f64)> = (0..=KNAPSACK_STEPS).map(pick).collect();
            best = picked.iter().map(|&(_, score)| score).collect();
            chosen.push(picked.into_iter().map(|(index, _)| index).collect::<Vec<usize>>());
        }
        let mut room = KNAPSACK_STEPS;
        let mut choices = Vec::with_capacity(chosen.len());
        for (picked, weights) in chosen.iter().zip(&weights).rev() {
            let choice = picked[room];
            room -= weights[choice];
            choices.push(choice);
        }
        choices.reverse();
        Architecture::new(choices)
    }

    /// Draws every decision's candidate by its probability.
    pub fn sample_path(&self, rng: &mut ChaCha8Rng) -> Path {
        Path(self.alpha.iter().map(|row| draw(&softmax(row), rng)).collect())
    }

    /// Draws two candidates of every decision without replacement by their probabilities, and the active one of the
    /// two by the softmax of their logits. `None` where a decision has one candidate only.
    pub fn sample_pairs(&self, rng: &mut ChaCha8Rng) -> Vec<Option<Pair>> {
        let pair = |row: &Vec<f64>| {
            if row.len() < 2 {
                return None;
            }
            let p = softmax(row);
            let first = draw(&p, rng);
            let mut rest = p;
            rest[first] = 0.0;
            let second = match rest.iter().sum::<f64>() > 0.0 {
                true => draw(&rest, rng),
                // All mass on one candidate: its rivals are equally improbable.
                false => (first + 1) % row.len(),
            };
            let q = softmax(&[row[first], row[second]]);
            let swap = draw(&q, rng) == 1;
            let (active, other) = if swap { (second, first) } else { (first, second) };
            Some(Pair { active, other, q: if swap { (q[1], q[0]) } else { (q[0], q[1]) } })
        };
        self.alpha.iter().map(pair).collect()
    }

    /// One step of Adam on the logits of pairs; their gradients are those of `active` and of `other`. Afterwards both
    /// are shifted so that the pair's probability mass among all candidates is what it was.
    pub fn step(&mut self, pairs: &[Option<Pair>], gradients: &[(f64, f64)], lr: f64) {
        self.steps += 1;
        let correction = 1.0 - BETA2.powf(self.steps as f64);
        for (decision, (pair, gradient)) in pairs.iter().zip(gradients).enumerate() {
            let Some(pair) = pair else { continue };
            let (alpha, squares) = (&mut self.alpha[decision], &mut self.squares[decision]);
            let before = log_sum_exp(&[alpha[pair.active], alpha[pair.other]]);
            // The mean of squares decays for every logit, as Adam's does for a gradient of 0.
            squares.iter_mut().for_each(|square| *square *= BETA2);
            for (index, g) in [(pair.active, gradient.0), (pair.other, gradient.1)] {
                squares[index] += (1.0 - BETA2) * g * g;
                alpha[index] -= lr * g / ((squares[index] / correction).sqrt() + EPSILON);
            }
            let shift = log_sum_exp(&[alpha[pair.active], alpha[pair.other]]) - before;
            alpha[pair.active] -= shift;
            alpha[pair.other] -= shift;
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};

    use super::*;

    #[test]
    fn a_step_keeps_the_probability_mass_of_the_pair() {
        let mut gates = Gates::from_logits(vec![vec![0.3, -0.2, 1.0, 0.0]]);
        for step in 0..50 {
            let before = gates.probabilities()[0].clone();
            let pair = Pair { active: step % 4, other: (step + 1) % 4, q: (0.5, 0.5) };
            gates.step(&[Some(pair)], &[(0.7, -0.4 * step as f64)], 0.1);
            let after = &gates.probabilities()[0];
            let mass = |p: &[f64]| p[pair.active] + p[pair.other];
            assert!((mass(&before) - mass(after)).abs() < 1e-6);
            let others = (0..4).filter(|&index| index != pair.active && index != pair.other);
            others.for_each(|index| assert!((before[index] - after[index]).abs() < 1e-6));
        }
    }

    #[test]
    fn the_candidate_with_the_smaller_gradient_gains() {
        let mut gates = Gates::from_logits(vec![vec![0.0; 3]]);
        gates.step(&[Some(Pair { active: 0, other: 2, q: (0.5, 0.5) })], &[(0.5, -0.5)], 0.01);
        let p = &gates.probabilities()[0];
        assert!(p[2] > p[1] && p[1] > p[0]);
    }

    #[test]
    fn paths_are_drawn_by_their_probabilities() {
        let gates = Gates::from_logits(vec![vec![0.0, 1.0, 2.0]]);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut counts = [0.0; 3];
        (0..20_000).for_each(|_| counts[gates.sample_path(&mut rng).0[0]] += 1.0 / 20_000.0);
        for (count, p) in counts.iter().zip(&gates.probabilities()[0]) {
            assert!((count - p).abs() < 0.015, "{counts:?}");
        }
    }

    #[test]
    fn the_two_of_a_pair_differ_and_q_is_their_softmax() {
        let gates = Gates::from_logits(vec![vec![0.0, 3.0, -40.0], vec![1.0]]);
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        for _ in 0..200 {
            let pairs = gates.sample_pairs(&mut rng);
            let pair = pairs[0].unwrap();
            assert_ne!(pair.active, pair.other);
            let q = softmax(&[gates.logits()[0][pair.active], gates.logits()[0][pair.other]]);
            assert!((pair.q.0 - q[0]).abs() < 1e-12 && (pair.q.1 - q[1]).abs() < 1e-12);
            assert_eq!(pairs[1], None);
        }
    }

    #[test]
    fn the_most_probable_network_within_a_limit_is_the_best_of_all_that_fit() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for _ in 0..30 {
            let mut numbers = |count: usize| (0..count).map(|_| rng.random_range(0.0..2.0)).collect::<Vec<f64>>();
            let gates = Gates::from_logits(vec![numbers(3), numbers(2), numbers(4)]);
            let costs = CostMatrix::new(0.5, vec![numbers(3), numbers(2), numbers(4)]).unwrap();
            let score = |network: &Architecture| -> f64 {
                gates.probabilities().iter().zip(network.choices()).map(|(row, choice)| row[choice].ln()).sum()
            };
            let choices = (0..3).flat_map(|a| (0..2).flat_map(move |b| (0..4).map(move |c| vec![a, b, c])));
            let networks: Vec<Architecture> = choices.map(|choices| Architecture::new(choices).unwrap()).collect();
            let (fastest, slowest) = costs.range_ms();
            assert_eq!(gates.most_probable_within(&costs, fastest - 1e-9), None);
            for part in [0.0, 0.2, 0.4, 0.7, 1.0] {
                let limit = fastest + part * (slowest - fastest);
                let found = gates.most_probable_within(&costs, limit).unwrap();
                assert!(costs.latency_ms(&found) <= limit + 1e-9);
                // Rounding may cost a network that lies within 3 steps of the limit.
                let fitting = networks.iter().filter(|network| costs.latency_ms(network) <= limit - 1e-3 * part);
                let best = fitting.map(score).fold(f64::NEG_INFINITY, f64::max);
                assert!(score(&found) >= best - 1e-12, "{found}: {} < {best}", score(&found));
            }
        }
    }

    #[test]
    fn entropy_is_one_for_equal_and_zero_for_certain_choices() {
        assert!((Gates::from_logits(vec![vec![0.0; 7]; 3]).entropy() - 1.0).abs() < 1e-12);
        assert!(Gates::from_logits(vec![vec![1e3, 0.0, 0.0]]).entropy() < 1e-9);
    }
}
