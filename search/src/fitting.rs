//! The best network within limits, exactly: a knapsack with one choice a decision and one capacity a limit.

use fleetfoot_space::Architecture;

use crate::limits::Limits;

/// Networks looked at, in part or whole, before the best so far is taken. Never reached where limits agree.
const MOST_VISITS: usize = 2_000_000;
/// Steps in which the multipliers are adapted, and the first one's length.
const STEPS: usize = 300;
const FIRST_STEP: f64 = 1.0;
/// What rounding may do to a score, relative to it.
const ROUNDING: f64 = 1e-12;

/// The architecture with the largest sum of `scores[decision][candidate]` among those of live candidates that meet all
/// limits; `None` where there is none. Scores are finite.
///
/// Branch and bound, decision by decision. For any multipliers `w_k >= 0`, no completion of the first choices scores more
/// than `score + sum over the other d of max_i (s_di - sum_k w_k c_kdi) + sum_k w_k left_k` (Lagrangian relaxation; Fisher,
/// Management Science 1981); the multipliers are those that make the bound of the whole problem small.
pub fn best_within(scores: &[Vec<f64>], live: &[Vec<bool>], limits: &Limits) -> Option<Architecture> {
    Problem::new(scores, live, limits).solve().best.and_then(Architecture::new)
}

struct Problem<'a> {
    scores: &'a [Vec<f64>],
    limits: &'a Limits,
    /// Live candidates of each decision, the most promising first.
    candidates: Vec<Vec<usize>>,
    /// `[limit][d]`: the least that decisions d and behind add up to, and the least working memory among them.
    least: Vec<Vec<(f64, f64)>>,
    multipliers: Vec<f64>,
    /// `[d]`: the relaxed score of decisions d and behind.
    relaxed: Vec<f64>,
}

struct Visit {
    choices: Vec<usize>,
    best: Option<Vec<usize>>,
    /// What a network must score to be looked for: more than the best, or at first as much as the worst there is.
    least: f64,
    visits: usize,
}

impl Visit {
    /// A network that meets the limits and scores more than any before.
    fn take(&mut self, choices: Vec<usize>, problem: &Problem<'_>) {
        let score = problem.score(&choices);
        self.least = score + ROUNDING * score.abs();
        self.best = Some(choices);
    }
}

impl<'a> Problem<'a> {
    fn new(scores: &'a [Vec<f64>], live: &[Vec<bool>], limits: &'a Limits) -> Self {
        let alive = |row: &Vec<bool>| (0..row.len()).filter(|&candidate| row[candidate]).collect();
        let candidates: Vec<Vec<usize>> = live.iter().map(alive).collect();
        let least = limits.iter().map(|limit| {
            let mut behind = vec![(0.0, 0.0f64)];
            for (decision, candidates) in candidates.iter().enumerate().rev() {
                let least =
                    |amount: &dyn Fn(usize) -> f64| candidates.iter().map(|&c| amount(c)).fold(f64::INFINITY, f64::min);
                let (sum, working) = behind[behind.len() - 1];
                let row = &limit.demand.sum().rows[decision];
                let here = least(&|candidate| limit.demand.working(decision, candidate));
                behind.push((sum + least(&|candidate| row[candidate]), working.max(here)));
            }
            behind.reverse();
            behind
        });
        let least = least.collect();
        let multipliers = vec![0.0; limits.iter().len()];
        let mut problem = Self { scores, limits, candidates, least, multipliers, relaxed: Vec::new() };
        problem.relax();
        problem
    }

    /// A candidate's score less what it costs at the multipliers.
    fn reduced(&self, decision: usize, candidate: usize) -> f64 {
        let costs = self.limits.iter().zip(&self.multipliers);
        let price: f64 = costs.map(|(limit, w)| w * limit.demand.sum().rows[decision][candidate]).sum();
        self.scores[decision][candidate] - price
    }

    fn relax(&mut self) {
        let mut relaxed = vec![0.0];
        for (decision, candidates) in self.candidates.iter().enumerate().rev() {
            let best = candidates.iter().map(|&candidate| self.reduced(decision, candidate));
            relaxed.push(relaxed[relaxed.len() - 1] + best.fold(f64::NEG_INFINITY, f64::max));
        }
        relaxed.reverse();
        self.relaxed = relaxed;
    }

    /// No completion of these choices scores more; infinitely little where none meets the limits.
    fn bound(&self, choices: &[usize], score: f64) -> f64 {
        let mut bound = score + self.relaxed[choices.len()];
        for ((limit, least), w) in self.limits.iter().zip(&self.least).zip(&self.multipliers) {
            let behind = least[choices.len()];
            let left = limit.at_most - limit.demand.least_behind(choices, behind);
            if left < 0.0 {
                return f64::NEG_INFINITY;
            }
            bound += w * (left + behind.0);
        }
        bound
    }

    fn solve(&mut self) -> Visit {
        let first = self.adapt();
        let least = self.least_score();
        let mut visit = Visit { choices: Vec::with_capacity(self.scores.len()), best: None, least, visits: 0 };
        if let Some(first) = first {
            visit.take(self.improved(first), self);
        }
        self.descend(&mut visit, 0.0);
        visit
    }

    fn score(&self, choices: &[usize]) -> f64 {
        self.scores.iter().zip(choices).map(|(row, &choice)| row[choice]).sum()
    }

    /// Whether choices, of the first decisions or of all, leave room for the least that the others need.
    fn fits(&self, choices: &[usize]) -> bool {
        let behind = self.limits.iter().zip(&self.least).map(|(limit, least)| (limit, least[choices.len()]));
        behind.into_iter().all(|(limit, behind)| limit.demand.least_behind(choices, behind) <= limit.at_most)
    }

    /// Exchanges of one candidate or of two at once, as long as one that fits scores more.
    fn improved(&self, mut choices: Vec<usize>) -> Vec<usize> {
        let all: Vec<(usize, usize)> =
            self.candidates.iter().enumerate().flat_map(|(d, row)| row.iter().map(move |&c| (d, c))).collect();
        loop {
            let now = self.score(&choices);
            let gain = |&(d, c): &(usize, usize)| self.scores[d][c] - self.scores[d][choices[d]];
            let pairs =
                all.iter().enumerate().flat_map(|(index, one)| all[index..].iter().map(move |other| (one, other)));
            let mut better: Vec<_> = pairs
                .filter(|(one, other)| one.0 != other.0 || one == other)
                .map(|(one, other)| (gain(one) + if one == other { 0.0 } else { gain(other) }, *one, *other))
                .filter(|(gain, ..)| *gain > ROUNDING * now.abs().max(1.0))
                .collect();
            better.sort_by(|a, b| b.0.total_cmp(&a.0));
            let exchanged = better.into_iter().find_map(|(_, one, other)| {
                let mut exchanged = choices.clone();
                (exchanged[one.0], exchanged[other.0]) = (one.1, other.1);
                self.fits(&exchanged).then_some(exchanged)
            });
            match exchanged {
                Some(exchanged) => choices = exchanged,
                None => return choices,
            }
        }
    }

    /// Makes the bound of the whole small by steps against its subgradient, which for each limit is what the relaxed
    /// problem's network leaves of it; then sorts candidates by what they score at these multipliers. Gives the best of the
    /// relaxed problems' networks that meet the limits.
    fn adapt(&mut self) -> Option<Vec<usize>> {
        let spread = |row: &Vec<f64>| {
            let (least, most) = row.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), &v| (a.min(v), b.max(v)));
            most - least
        };
        let scores: f64 = self.scores.iter().map(spread).sum();
        let spans = self.limits.iter().map(|limit| limit.demand.sum().rows.iter().map(spread).sum::<f64>());
        // What the multipliers are of the order of.
        let units: Vec<f64> = spans.map(|span| if span > 0.0 { scores / span } else { 0.0 }).collect();
        let mut best = (self.bound(&[], 0.0), self.multipliers.clone());
        let mut fitting: Option<Vec<usize>> = None;
        for step in 0..STEPS {
            let choices = self.relaxed_choices();
            let left = self.left(&choices);
            if self.fits(&choices) && fitting.as_ref().is_none_or(|best| self.score(&choices) > self.score(best)) {
                fitting = Some(choices);
            }
            for ((w, left), unit) in self.multipliers.iter_mut().zip(left).zip(&units) {
                // In units of w: w / unit moves by the share of its span that is left.
                *w = (*w - unit * FIRST_STEP / (1.0 + step as f64).sqrt() * left).max(0.0);
            }
            self.relax();
            let bound = self.bound(&[], 0.0);
            if bound < best.0 {
                best = (bound, self.multipliers.clone());
            }
        }
        self.multipliers = best.1;
        self.relax();
        self.sort();
        fitting
    }

    /// The relaxed problem's best network.
    fn relaxed_choices(&self) -> Vec<usize> {
        let best = |(decision, candidates): (usize, &Vec<usize>)| {
            let reduced = |candidate: &usize| self.reduced(decision, *candidate);
            candidates.iter().copied().max_by(|a, b| reduced(a).total_cmp(&reduced(b))).unwrap_or(0)
        };
        self.candidates.iter().enumerate().map(best).collect()
    }

    /// What a network leaves of each limit, as a share of what the limit's amounts span.
    fn left(&self, choices: &[usize]) -> Vec<f64> {
        let left = self.limits.iter().zip(&self.least).map(|(limit, least)| {
            let rows = &limit.demand.sum().rows;
            let most: f64 = rows.iter().map(|row| row.iter().copied().fold(0.0, f64::max)).sum();
            let span = (most - least[0].0).max(f64::MIN_POSITIVE);
            (limit.at_most - limit.demand.least_behind(choices, (0.0, least[0].1))) / span
        });
        left.collect()
    }

    /// The most promising candidates first; of equals, those that need least of all limits.
    fn sort(&mut self) {
        for decision in 0..self.candidates.len() {
            let need = |candidate: usize| -> f64 {
                let shares = self.limits.iter().map(|limit| {
                    (limit.demand.sum().rows[decision][candidate] + limit.demand.working(decision, candidate))
                        / limit.at_most
                });
                shares.sum()
            };
            let mut order: Vec<(f64, f64, usize)> = self.candidates[decision]
                .iter()
                .map(|&candidate| (self.reduced(decision, candidate), need(candidate), candidate))
                .collect();
            order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.total_cmp(&b.1)));
            self.candidates[decision] = order.into_iter().map(|(_, _, candidate)| candidate).collect();
        }
    }

    /// A little less than the worst network scores.
    fn least_score(&self) -> f64 {
        let rows = self.candidates.iter().zip(self.scores);
        let worst = rows.map(|(candidates, row)| candidates.iter().map(|&c| row[c]).fold(f64::INFINITY, f64::min));
        let worst: f64 = worst.sum();
        worst - 1e-6 * worst.abs().max(1.0)
    }

    fn descend(&self, visit: &mut Visit, score: f64) {
        let Some(candidates) = self.candidates.get(visit.choices.len()) else {
            if score > visit.least {
                visit.take(visit.choices.clone(), self);
            }
            return;
        };
        for &candidate in candidates {
            if visit.visits >= MOST_VISITS {
                return;
            }
            visit.visits += 1;
            let score = score + self.scores[visit.choices.len()][candidate];
            visit.choices.push(candidate);
            let bound = self.bound(&visit.choices, score);
            if bound > visit.least {
                self.descend(visit, score);
            }
            visit.choices.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use fleetfoot_predictor::CostMatrix;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::demand::Demand;
    use crate::limits::{Bound, Limit};

    #[test]
    fn the_best_network_within_limits_is_the_best_of_all_that_fit() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let (mut fitting, mut impossible) = (0, 0);
        for round in 0..300 {
            let mut numbers = || [3, 2, 4].map(|n| (0..n).map(|_| rng.random_range(0.0..2.0)).collect()).to_vec();
            let scores: Vec<Vec<f64>> = numbers();
            let matrix = |numbers: Vec<Vec<f64>>| CostMatrix::new(0.5, numbers).unwrap();
            let demands = [
                Demand::Sum(matrix(numbers())),
                Demand::Sum(matrix(numbers())),
                Demand::Memory { weights: matrix(numbers()), working: matrix(numbers()) },
            ];
            let count = 1 + round % 3;
            let mut live = [vec![true; 3], vec![true; 2], vec![true; 4]];
            live[2][round % 4] = round % 5 != 0;
            let limits = demands.into_iter().skip(round % 2).take(count).map(|demand| {
                let (least, most) = demand.range(&[vec![true; 3], vec![true; 2], vec![true; 4]]);
                let at_most = least + rng.random_range(0.2..0.9) * (most - least);
                Limit { name: "cost".into(), unit: String::new(), demand, at_most, bound: Bound::Cap }
            });
            let Ok(limits) = Limits::new(limits.collect()) else {
                impossible += 1;
                continue;
            };
            let score = |network: &Architecture| -> f64 {
                scores.iter().zip(network.choices()).map(|(row, choice)| row[choice]).sum()
            };
            let choices = (0..3).flat_map(|a| (0..2).flat_map(move |b| (0..4).map(move |c| vec![a, b, c])));
            let alive = choices.filter(|choices| choices.iter().zip(&live).all(|(&choice, row)| row[choice]));
            let networks = alive.map(|choices| Architecture::new(choices).unwrap());
            let best = networks.filter(|network| limits.fit(network)).map(|network| score(&network)).reduce(f64::max);
            let found = best_within(&scores, &live, &limits);
            assert_eq!(found.is_some(), best.is_some());
            if let (Some(found), Some(best)) = (found, best) {
                assert!(
                    limits.fit(&found) && score(&found) > best - 1e-9,
                    "{found}: {} < {best} {}",
                    score(&found),
                    limits.fit(&found)
                );
                fitting += 1;
            }
        }
        assert!(fitting > 150 && impossible < 120, "{fitting} {impossible}");
    }

    #[test]
    fn a_space_of_published_size_with_three_limits_takes_few_visits() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        for _ in 0..10 {
            let mut numbers =
                || (0..21).map(|_| (0..7).map(|_| rng.random_range(0.0..2.0)).collect()).collect::<Vec<Vec<f64>>>();
            let scores = numbers();
            let limits: Vec<Limit> = (0..3)
                .map(|_| {
                    let costs = CostMatrix::new(0.5, numbers()).unwrap();
                    let mean = costs.mean_ms();
                    Limit::latency(costs, 0.9 * mean)
                })
                .collect();
            let limits = Limits::new(limits).unwrap();
            let live = vec![vec![true; 7]; 21];
            let mut problem = Problem::new(&scores, &live, &limits);
            let visit = problem.solve();
            assert!(visit.best.is_some() && visit.visits < MOST_VISITS / 4, "{}", visit.visits);
        }
    }
}
