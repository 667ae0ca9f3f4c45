//! Architecture parameters: one logit per decision and candidate, and the paths that are drawn from them.

use fleetfoot_space::{Architecture, SearchSpace};
use rand::distr::Distribution;
use rand::distr::weighted::WeightedIndex;
use rand_chacha::ChaCha8Rng;
use rand_distr::Normal;
use serde::{Deserialize, Serialize};

/// Standard deviation of the logits before training.
const INITIAL_STD: f64 = 1e-3;
/// Adam's decay of the mean of squares and its epsilon; the mean's decay is 0, so that a logit without gradient stays.
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

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

/// A candidate that was cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// Weight steps until then.
    pub step: usize,
    /// The decision's index.
    pub decision: usize,
    /// The candidate's index.
    pub candidate: usize,
}

/// The logits with Adam's state, and which candidates are still there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gates {
    alpha: Vec<Vec<f64>>,
    /// Adam's decayed means of squares, and how often each logit was updated.
    squares: Vec<Vec<f64>>,
    steps: u64,
    /// Candidates that weren't cut.
    live: Vec<Vec<bool>>,
    /// For how many steps in a row each candidate has been improbable.
    faint: Vec<Vec<u64>>,
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

    /// Given logits, all candidates there, Adam at its start.
    pub fn from_logits(alpha: Vec<Vec<f64>>) -> Self {
        let like = |value| alpha.iter().map(|row| vec![value; row.len()]).collect();
        let live = alpha.iter().map(|row| vec![true; row.len()]).collect();
        let faint = alpha.iter().map(|row| vec![0; row.len()]).collect();
        Self { squares: like(0.0), steps: 0, live, faint, alpha }
    }

    /// The logits: `[decision][candidate]`.
    pub fn logits(&self) -> &[Vec<f64>] {
        &self.alpha
    }

    /// Which candidates weren't cut: `[decision][candidate]`.
    pub fn live(&self) -> &[Vec<bool>] {
        &self.live
    }

    /// Weights by which all candidates that weren't cut are drawn alike: `[decision][candidate]`, 1 or 0.
    pub fn even(&self) -> Vec<Vec<f64>> {
        self.live.iter().map(|row| row.iter().map(|&live| f64::from(u8::from(live))).collect()).collect()
    }

    /// Whether their state has these numbers of candidates, throughout, and only numbers in it.
    pub fn fit(&self, space: &SearchSpace) -> bool {
        let counts: Vec<usize> = space.decisions().iter().map(|decision| decision.candidates.len()).collect();
        let sizes = |rows: Vec<usize>| rows == counts;
        sizes(self.alpha.iter().map(Vec::len).collect())
            && sizes(self.squares.iter().map(Vec::len).collect())
            && sizes(self.live.iter().map(Vec::len).collect())
            && sizes(self.faint.iter().map(Vec::len).collect())
            && self.live.iter().all(|row| row.contains(&true))
            && self.alpha.iter().chain(&self.squares).flatten().all(|value| value.is_finite())
    }

    /// A decision's softmax over what is left of its candidates; 0 for those that were cut.
    fn row(&self, decision: usize) -> Vec<f64> {
        let gone = |(&logit, &live): (&f64, &bool)| if live { logit } else { f64::NEG_INFINITY };
        softmax(&self.alpha[decision].iter().zip(&self.live[decision]).map(gone).collect::<Vec<f64>>())
    }

    /// Softmax of every decision's logits over what is left of its candidates; 0 for those that were cut.
    pub fn probabilities(&self) -> Vec<Vec<f64>> {
        (0..self.alpha.len()).map(|decision| self.row(decision)).collect()
    }

    /// Entropy of a decision's softmax over that of equally probable candidates, mean over the decisions: 1 at the
    /// start, 0 once every choice is made. Candidates that were cut count as there; decisions with one candidate don't.
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
        self.probabilities().iter().map(best).collect::<Option<Vec<_>>>().and_then(Architecture::new)
    }

    /// Draws a path: one candidate of every decision, by its probability.
    pub fn sample_path(&self, rng: &mut ChaCha8Rng) -> Path {
        Path(self.probabilities().iter().map(|row| draw(row, rng)).collect())
    }

    /// Draws two candidates of every decision without replacement by their probabilities, and the active one of the
    /// two by the softmax of their logits. `None` where a decision has one candidate left.
    pub fn sample_pairs(&self, rng: &mut ChaCha8Rng) -> Vec<Option<Pair>> {
        (0..self.alpha.len()).map(|decision| self.sample_pair(decision, rng)).collect()
    }

    fn sample_pair(&self, decision: usize, rng: &mut ChaCha8Rng) -> Option<Pair> {
        let (logits, live) = (&self.alpha[decision], &self.live[decision]);
        if live.iter().filter(|live| **live).count() < 2 {
            return None;
        }
        let p = self.row(decision);
        let first = draw(&p, rng);
        let mut rest = p;
        rest[first] = 0.0;
        let second = match rest.iter().sum::<f64>() > 0.0 {
            true => draw(&rest, rng),
            // All mass on one candidate: its rivals are equally improbable.
            false => (1..live.len()).map(|ahead| (first + ahead) % live.len()).find(|&index| live[index])?,
        };
        let q = softmax(&[logits[first], logits[second]]);
        let swap = draw(&q, rng) == 1;
        let (active, other) = if swap { (second, first) } else { (first, second) };
        Some(Pair { active, other, q: if swap { (q[1], q[0]) } else { (q[0], q[1]) } })
    }

    /// The path that goes through the active candidates of pairs, and where there is no pair through the only one left.
    pub fn active_path(&self, pairs: &[Option<Pair>]) -> Path {
        let only = |live: &Vec<bool>| live.iter().position(|live| *live).unwrap_or(0);
        let active =
            pairs.iter().zip(&self.live).map(|(pair, live)| pair.map_or_else(|| only(live), |pair| pair.active));
        Path(active.collect())
    }

    /// One step of Adam on the logits of pairs; their gradients are those of `active` and of `other`. Afterwards both
    /// are shifted so that the pair's probability mass among all candidates is what it was.
    pub fn step_pairs(&mut self, pairs: &[Option<Pair>], gradients: &[(f64, f64)], lr: f64) {
        let mut rows: Vec<Vec<f64>> = self.alpha.iter().map(|row| vec![0.0; row.len()]).collect();
        let mass = |alpha: &[f64], pair: &Pair| log_sum_exp(&[alpha[pair.active], alpha[pair.other]]);
        let mut before = Vec::with_capacity(pairs.len());
        for ((row, alpha), (pair, gradient)) in rows.iter_mut().zip(&self.alpha).zip(pairs.iter().zip(gradients)) {
            before.push(pair.as_ref().map(|pair| mass(alpha, pair)));
            if let Some(pair) = pair {
                (row[pair.active], row[pair.other]) = *gradient;
            }
        }
        self.step(&rows, lr);
        for (alpha, (pair, before)) in self.alpha.iter_mut().zip(pairs.iter().zip(before)) {
            if let (Some(pair), Some(before)) = (pair, before) {
                let shift = mass(alpha, pair) - before;
                alpha[pair.active] -= shift;
                alpha[pair.other] -= shift;
            }
        }
    }

    /// One step of Adam by the gradient of every logit, `[decision][candidate]`. A logit whose gradient is 0 stays where
    /// it is, and so does one that was cut.
    pub fn step(&mut self, gradients: &[Vec<f64>], lr: f64) {
        self.steps += 1;
        let correction = 1.0 - BETA2.powf(self.steps as f64);
        for (decision, gradients) in gradients.iter().enumerate() {
            for (index, &g) in gradients.iter().enumerate().filter(|(index, _)| self.live[decision][*index]) {
                let square = &mut self.squares[decision][index];
                // It decays for every logit, as Adam's does for a gradient of 0.
                *square = BETA2 * *square + (1.0 - BETA2) * g * g;
                self.alpha[decision][index] -= lr * g / ((*square / correction).sqrt() + EPSILON);
            }
        }
    }

    /// Adds to every logit, `[decision][candidate]`; Adam doesn't hear of it.
    pub fn shift(&mut self, by: &[Vec<f64>]) {
        for (row, by) in self.alpha.iter_mut().zip(by) {
            row.iter_mut().zip(by).for_each(|(logit, by)| *logit += by);
        }
    }

    /// Cuts candidates that have been less probable than `below` for `patience` steps in a row, counting this call as one.
    /// The most probable candidate of a decision stays, and so does one that `needed` says of what is left without it
    /// that it must stay. Gives decisions and candidates.
    pub fn cut(&mut self, below: f64, patience: u64, needed: impl Fn(&[Vec<bool>]) -> bool) -> Vec<(usize, usize)> {
        let mut cut = Vec::new();
        for decision in 0..self.alpha.len() {
            let p = self.row(decision);
            let largest = p.iter().copied().fold(0.0, f64::max);
            for (candidate, &p) in p.iter().enumerate() {
                let faint = &mut self.faint[decision][candidate];
                *faint = if p < below && p < largest { *faint + 1 } else { 0 };
                if !self.live[decision][candidate] || *faint < patience.max(1) {
                    continue;
                }
                self.live[decision][candidate] = false;
                if needed(&self.live) {
                    self.live[decision][candidate] = true;
                } else {
                    cut.push((decision, candidate));
                }
            }
        }
        cut
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn a_step_keeps_the_probability_mass_of_the_pair() {
        let mut gates = Gates::from_logits(vec![vec![0.3, -0.2, 1.0, 0.0]]);
        for step in 0..50 {
            let before = gates.probabilities()[0].clone();
            let pair = Pair { active: step % 4, other: (step + 1) % 4, q: (0.5, 0.5) };
            gates.step_pairs(&[Some(pair)], &[(0.7, -0.4 * step as f64)], 0.1);
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
        gates.step_pairs(&[Some(Pair { active: 0, other: 2, q: (0.5, 0.5) })], &[(0.5, -0.5)], 0.01);
        let p = &gates.probabilities()[0];
        assert!(p[2] > p[1] && p[1] > p[0]);
    }

    #[test]
    fn adam_follows_its_equations_and_leaves_logits_without_gradient() {
        let mut gates = Gates::from_logits(vec![vec![0.5, -0.5, 0.1]]);
        let (mut alpha, mut square) = (0.5, 0.0);
        for step in 1..=5 {
            let g = 0.3 - 0.2 * f64::from(step);
            gates.step(&[vec![g, 0.0, 0.0]], 1e-3);
            square = 0.999 * square + 0.001 * g * g;
            alpha -= 1e-3 * g / (f64::sqrt(square / (1.0 - 0.999f64.powi(step))) + 1e-8);
        }
        assert!((gates.logits()[0][0] - alpha).abs() < 1e-15);
        assert_eq!(gates.logits()[0][1..], [-0.5, 0.1]);
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
    fn a_candidate_is_cut_once_it_has_been_improbable_for_long_and_is_never_drawn_again() {
        let mut gates = Gates::from_logits(vec![vec![0.0, -5.0, -6.0], vec![2.0, 2.0]]);
        assert_eq!(gates.cut(0.01, 3, |_| false), []);
        assert_eq!(gates.cut(0.01, 3, |_| false), []);
        // One moment above the threshold, and the count starts anew.
        gates.shift(&[vec![0.0, 5.0, 0.0], vec![0.0, 0.0]]);
        assert_eq!(gates.cut(0.01, 3, |_| false), [(0, 2)]);
        gates.shift(&[vec![0.0, -5.0, 0.0], vec![0.0, 0.0]]);
        assert_eq!(gates.cut(0.01, 3, |_| false), []);
        assert_eq!(gates.cut(0.01, 3, |_| false), []);
        // What is needed stays.
        assert_eq!(gates.cut(0.01, 3, |live| !live[0][1]), []);
        assert_eq!(gates.cut(0.01, 3, |_| false), [(0, 1)]);
        assert_eq!(gates.live(), [vec![true, false, false], vec![true, true]]);
        assert_eq!(gates.probabilities()[0], [1.0, 0.0, 0.0]);
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        for _ in 0..50 {
            assert_eq!(gates.sample_path(&mut rng).0[0], 0);
            assert_eq!(gates.sample_pairs(&mut rng)[0], None);
        }
        // Not both of two that are equally probable, however high the threshold.
        for _ in 0..5 {
            gates.cut(0.9, 1, |_| false);
        }
        assert!(gates.live()[1].contains(&true));
    }

    #[test]
    fn entropy_is_one_for_equal_and_zero_for_certain_choices() {
        assert!((Gates::from_logits(vec![vec![0.0; 7]; 3]).entropy() - 1.0).abs() < 1e-12);
        assert!(Gates::from_logits(vec![vec![1e3, 0.0, 0.0]]).entropy() < 1e-9);
    }
}
