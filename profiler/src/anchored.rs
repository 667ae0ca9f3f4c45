//! Least squares with non-negative unknowns that are anchored to what is known of them beforehand.

/// The unknowns, and how far each would be elsewhere if all were measured again, as a standard deviation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Solution {
    pub values: Vec<f64>,
    pub deviations: Vec<f64>,
}

/// An equation.
#[derive(Clone, Debug)]
pub(crate) struct Equation {
    pub coefficients: Vec<f64>,
    /// The right-hand side.
    pub value: f64,
    /// How far it may be from the sum, as a standard deviation: its weight against the anchors.
    pub deviation: f64,
    /// How far it would be elsewhere if it were measured again, as a standard deviation.
    pub spread: f64,
    /// By how much each anchor would be elsewhere if it were, as a share of that: what is known beforehand may rest on the same
    /// values.
    pub pulls: Vec<f64>,
}

/// What is known of an unknown beforehand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Anchor {
    pub value: f64,
    /// How far the truth may be from it, as a standard deviation: its weight against the equations'.
    pub deviation: f64,
    /// How far it would be elsewhere if it were measured again, as a standard deviation.
    pub spread: f64,
}

/// Logarithm of the ratio of likelihoods from which on larger deviations are chosen: what is found then by chance would differ from one
/// campaign to the next.
const DECISIVE: f64 = 15.0;
/// Sweeps over the unknowns at most; few are needed, and only where one of them is held at 0.
const SWEEPS: usize = 10_000;

/// Minimises `sum_i ((a_i x - y_i) / s_i)^2 + sum_u ((x_u - p_u) / t_u)^2` over `x >= 0`, with anchors `p_u` of deviation
/// `t_u > 0`.
///
/// The weights needn't be what the data scatter by, so the deviations aren't those of the weights: with `H = A' S^-2 A + T^-2`, they
/// are the square roots of the diagonal of `H^-1 (B Q^2 B' + T^-2 R^2 T^-2) H^-1` (a sandwich) with `B = A' S^-2 + T^-2 P'`, `P` being
/// how the right-hand sides pull the anchors, where `R` are the anchors' spreads of their own and `Q` the equations', or what the equations miss by, where that is less: `f^(1/2) S`, `f` being their sum of squares over
/// their number less the unknowns that they determine. What they miss by is the same in every campaign as far as sums of
/// costs aren't what networks take. By `shifts` all anchors would be off together, as one standard deviation of what moves them.
pub(crate) fn solve(equations: &[Equation], anchors: &[Anchor], shifts: &[f64]) -> Solution {
    let n = anchors.len();
    let mut told = vec![vec![0.0; n]; n];
    let mut right: Vec<f64> = anchors.iter().map(|anchor| anchor.value / anchor.deviation.powi(2)).collect();
    for Equation { coefficients: a, value, deviation, .. } in equations {
        let weight = 1.0 / (deviation * deviation);
        for u in (0..n).filter(|&u| a[u] != 0.0) {
            right[u] += weight * a[u] * value;
            (0..n).for_each(|v| told[u][v] += weight * a[u] * a[v]);
        }
    }
    let mut hessian = told.clone();
    for (u, anchor) in anchors.iter().enumerate() {
        hessian[u][u] += 1.0 / anchor.deviation.powi(2);
    }
    let factor = cholesky(&hessian);
    let mut values: Vec<f64> = substitute(&factor, &right).into_iter().map(|value| value.max(0.0)).collect();
    // Coordinate descent: the minimum over one unknown, the others as they are. It stays where it is without bounds.
    for _ in 0..SWEEPS {
        let mut moved = 0.0f64;
        for u in 0..n {
            let slope = right[u] - (0..n).map(|v| hessian[u][v] * values[v]).sum::<f64>();
            let next = (values[u] + slope / hessian[u][u]).max(0.0);
            moved = moved.max((next - values[u]).abs() / (values[u] + anchors[u].deviation));
            values[u] = next;
        }
        if moved < 1e-9 {
            break;
        }
    }
    let unit = |u: usize| (0..n).map(|v| f64::from(u8::from(u == v))).collect::<Vec<f64>>();
    // The inverse is symmetric: its columns are its rows.
    let inverse: Vec<Vec<f64>> = (0..n).map(|u| substitute(&factor, &unit(u))).collect();
    let missed = missed(equations, &values, &told, &inverse);
    let deviation = |row: &Vec<f64>| {
        let noise = equations.iter().map(|Equation { coefficients: a, deviation, spread, pulls, .. }| {
            let directly: f64 = a.iter().zip(row).map(|(a, x)| a * x / deviation.powi(2)).sum();
            let by_anchors =
                pulls.iter().zip(row).zip(anchors).map(|((p, x), anchor)| p * x / anchor.deviation.powi(2));
            ((directly + by_anchors.sum::<f64>()) * spread.min(missed.sqrt() * deviation)).powi(2)
        });
        let moved = row.iter().zip(anchors).map(|(x, anchor)| (x * anchor.spread / anchor.deviation.powi(2)).powi(2));
        let shifted =
            row.iter().zip(anchors).zip(shifts).map(|((x, anchor), shift)| x * shift / anchor.deviation.powi(2));
        (noise.sum::<f64>() + moved.sum::<f64>() + shifted.sum::<f64>().powi(2)).sqrt()
    };
    Solution { deviations: inverse.iter().map(deviation).collect(), values }
}

/// By which factor, of some in ascending order, all anchors' deviations had better be larger than they are: the smallest by which what
/// the equations miss by at the anchors is nearly as likely as by any, within [`DECISIVE`]. If an unknown is off its anchor by `f t_u` and an equation by `s_i`, as
/// standard deviations, up to a common scale, then what they miss by has the covariance `V = S^2 + f^2 A T^2 A'`, and the scale
/// that is likeliest leaves `-(m log(r' V^-1 r) + log |V|) / 2` of `m` equations (empirical Bayes).
pub(crate) fn likeliest(equations: &[Equation], anchors: &[Anchor], factors: &[f64]) -> f64 {
    let m = equations.len();
    let missed: Vec<f64> = equations
        .iter()
        .map(|equation| {
            let sum: f64 = equation.coefficients.iter().zip(anchors).map(|(a, anchor)| a * anchor.value).sum();
            equation.value - sum
        })
        .collect();
    let shared = |one: &Equation, other: &Equation| -> f64 {
        let both = one.coefficients.iter().zip(&other.coefficients).zip(anchors);
        both.map(|((a, b), anchor)| a * b * anchor.deviation.powi(2)).sum()
    };
    let shared: Vec<Vec<f64>> =
        equations.iter().map(|one| equations.iter().map(|other| shared(one, other)).collect()).collect();
    let likelihood = |factor: f64| {
        let mut covariance = shared.clone();
        for (i, row) in covariance.iter_mut().enumerate() {
            row.iter_mut().for_each(|entry| *entry *= factor * factor);
            row[i] += equations[i].deviation.powi(2);
        }
        let lower = cholesky(&covariance);
        let solved = substitute(&lower, &missed);
        let squares: f64 = missed.iter().zip(&solved).map(|(r, x)| r * x).sum();
        let determinant: f64 = lower.iter().enumerate().map(|(i, row)| 2.0 * row[i].ln()).sum();
        -(m as f64 * squares.max(f64::MIN_POSITIVE).ln() + determinant) / 2.0
    };
    let judged: Vec<(f64, f64)> = factors.iter().map(|&factor| (factor, likelihood(factor))).collect();
    let best = judged.iter().map(|(_, likelihood)| *likelihood).fold(f64::NEG_INFINITY, f64::max);
    judged.into_iter().find(|(_, likelihood)| *likelihood >= best - DECISIVE).map_or(1.0, |(factor, _)| factor)
}

/// By how much more the equations miss than their deviations say, as a ratio of variances; 1 where they determine as many
/// unknowns as there are equations.
fn missed(equations: &[Equation], values: &[f64], told: &[Vec<f64>], inverse: &[Vec<f64>]) -> f64 {
    let miss = |equation: &Equation| {
        let sum: f64 = equation.coefficients.iter().zip(values).map(|(a, x)| a * x).sum();
        ((sum - equation.value) / equation.deviation).powi(2)
    };
    let determined: f64 =
        told.iter().zip(inverse).map(|(told, row)| told.iter().zip(row).map(|(t, x)| t * x).sum::<f64>()).sum();
    let free = equations.len() as f64 - determined;
    if free < 1.0 { 1.0 } else { equations.iter().map(miss).sum::<f64>() / free }
}

/// The lower triangle `L` with `L L' = matrix`, which is symmetric and positive definite.
fn cholesky(matrix: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let n = matrix.len();
    let mut lower = vec![vec![0.0; n]; n];
    for row in 0..n {
        for column in 0..=row {
            let done: f64 = (0..column).map(|k| lower[row][k] * lower[column][k]).sum();
            let rest = matrix[row][column] - done;
            // Rounding can make a pivot of an ill-conditioned matrix vanish; it stays solvable by what is left.
            let pivot = || rest.max(f64::EPSILON * matrix[row][row]).sqrt();
            lower[row][column] = if row == column { pivot() } else { rest / lower[column][column] };
        }
    }
    lower
}

/// `x` with `L L' x = right`.
fn substitute(lower: &[Vec<f64>], right: &[f64]) -> Vec<f64> {
    let n = right.len();
    let mut x = right.to_vec();
    for row in 0..n {
        let done: f64 = (0..row).map(|k| lower[row][k] * x[k]).sum();
        x[row] = (x[row] - done) / lower[row][row];
    }
    for row in (0..n).rev() {
        let done: f64 = (row + 1..n).map(|k| lower[k][row] * x[k]).sum();
        x[row] = (x[row] - done) / lower[row][row];
    }
    x
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn equation(coefficients: &[f64], value: f64, deviation: f64) -> Equation {
        let pulls = vec![0.0; coefficients.len()];
        Equation { coefficients: coefficients.to_vec(), value, deviation, spread: deviation, pulls }
    }

    /// Anchors that are as often off as they may be.
    fn anchors(known: &[(f64, f64)]) -> Vec<Anchor> {
        known.iter().map(|&(value, deviation)| Anchor { value, deviation, spread: deviation }).collect()
    }

    #[test]
    fn sums_of_true_costs_give_those_costs_whatever_the_anchors_say() {
        let truth = [3.0, 0.5, 7.0, 1.0];
        let rows = [
            [1.0, 1.0, 0.0, 0.0],
            [1.0, 0.0, 2.0, 1.0],
            [0.0, 1.0, 1.0, 0.0],
            [1.0, 1.0, 1.0, 1.0],
            [2.0, 0.0, 0.0, 1.0],
        ];
        let sum = |row: &[f64; 4]| row.iter().zip(&truth).map(|(a, x)| a * x).sum::<f64>();
        let equations: Vec<Equation> = rows.iter().map(|row| equation(row, sum(row), 1e-6)).collect();
        let solution = solve(&equations, &anchors(&[(2.0, 1.0), (1.0, 1.0), (5.0, 1.0), (2.0, 1.0)]), &[0.0; 4]);
        for (value, truth) in solution.values.iter().zip(truth) {
            assert!((value - truth).abs() < 1e-6, "{value} against {truth}");
        }
        assert!(solution.deviations.iter().all(|deviation| *deviation < 1e-5), "{:?}", solution.deviations);
    }

    #[test]
    fn what_the_equations_leave_open_is_as_the_anchors_say() {
        // Only the sum is known: what is missing is shared in proportion to the anchors' variances.
        let solution =
            solve(&[equation(&[1.0, 1.0], 13.0, 1e-6)], &anchors(&[(4.0, 1.0), (6.0, 2f64.sqrt())]), &[0.0; 2]);
        assert!((solution.values[0] - 5.0).abs() < 1e-6 && (solution.values[1] - 8.0).abs() < 1e-6, "{solution:?}");
        assert!((solution.deviations[0] - (2.0f64 / 3.0).sqrt()).abs() < 1e-6, "{solution:?}");
    }

    #[test]
    fn no_cost_is_below_nothing() {
        let equations = [equation(&[1.0, 0.0], 5.0, 0.1), equation(&[1.0, 1.0], 3.0, 0.1)];
        let solution = solve(&equations, &anchors(&[(5.0, 100.0), (0.0, 100.0)]), &[0.0; 2]);
        assert_eq!(solution.values[1], 0.0);
        assert!((solution.values[0] - 4.0).abs() < 1e-3, "the best without the other: {solution:?}");
    }

    #[test]
    fn an_anchor_that_is_found_again_leaves_no_doubt_whatever_its_weight() {
        let equations = [equation(&[1.0, 1.0], 10.0, 0.1), equation(&[1.0, 1.0], 10.0, 0.1)];
        let found_again = Anchor { value: 5.0, deviation: 1.0, spread: 0.0 };
        let solution = solve(&equations, &[found_again, found_again], &[0.0; 2]);
        assert!(solution.deviations.iter().all(|deviation| *deviation < 1e-6), "{solution:?}");
        let moving = Anchor { spread: 0.5, ..found_again };
        let solution = solve(&equations, &[moving, moving], &[0.0; 2]);
        // The equations hold the sum, so that both move against each other.
        assert!((solution.deviations[0] - 0.5 / 2f64.sqrt()).abs() < 0.01, "{solution:?}");
        // What moves both alike is held by their sum; what moves them against each other isn't.
        let together = solve(&equations, &[found_again, found_again], &[0.5, 0.5]);
        let apart = solve(&equations, &[found_again, found_again], &[0.5, -0.5]);
        assert!(together.deviations[0] < 0.01 && (apart.deviations[0] - 0.5).abs() < 0.01, "{together:?} {apart:?}");
    }

    #[test]
    fn anchors_that_rest_on_the_equations_move_with_them() {
        // Each anchor is half of the sum that the equation gives: nothing else is known, and both are off together.
        let pulled = |pulls: f64| Equation { pulls: vec![pulls; 2], ..equation(&[1.0, 1.0], 10.0, 1.0) };
        let anchor = Anchor { value: 5.0, deviation: 1.0, spread: 0.0 };
        let doubt = |pulls| solve(&[pulled(pulls)], &[anchor, anchor], &[0.0; 2]).deviations[0];
        assert!((doubt(0.5) - 0.5).abs() < 1e-9 && doubt(0.0) < 0.4, "{} {}", doubt(0.5), doubt(0.0));
    }

    #[test]
    fn anchors_are_trusted_as_far_as_the_equations_bear_them_out() {
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        let factors = [0.1, 0.3, 1.0, 3.0, 9.0];
        // Anchors are off by a share of their deviations, whatever the equations scatter by.
        for (off, scatter) in [(0.1, 1.0), (1.0, 1.0), (3.0, 1.0), (0.3, 0.3)] {
            let truth: Vec<f64> = (0..40).map(|_| rng.random_range(1.0..9.0)).collect();
            let mut noise = |deviation: f64| deviation * (0..12).map(|_| rng.random_range(-0.5..0.5)).sum::<f64>();
            let known: Vec<(f64, f64)> = truth.iter().map(|truth| (truth + noise(off), 1.0)).collect();
            let mut rng = ChaCha8Rng::seed_from_u64(7);
            let equations: Vec<Equation> = (0..80)
                .map(|_| {
                    let row: Vec<f64> = (0..40).map(|_| f64::from(u8::from(rng.random_bool(0.3)))).collect();
                    let sum: f64 = row.iter().zip(&truth).map(|(a, x)| a * x).sum();
                    equation(&row, sum + noise(0.2 * scatter), 0.2)
                })
                .collect();
            assert_eq!(likeliest(&equations, &anchors(&known), &factors), off / scatter, "{off} {scatter}");
        }
        assert_eq!(likeliest(&[], &[], &[]), 1.0);
    }

    #[test]
    fn what_is_the_same_in_every_campaign_is_no_doubt() {
        // Networks that aren't the sum of their units miss by 2, whoever measures them; what they take is known to 0.1.
        let missing = |value, spread| Equation { spread, ..equation(&[1.0, 1.0], value, 2.0) };
        let equations = |spread| [8.0, 12.0, 8.0, 12.0].map(|value| missing(value, spread));
        let anchor = Anchor { value: 5.0, deviation: 1.0, spread: 0.0 };
        let doubt = |spread| solve(&equations(spread), &[anchor, anchor], &[0.0; 2]).deviations[0];
        assert!(doubt(0.1) < 0.05 && doubt(2.0) > 10.0 * doubt(0.1), "{} {}", doubt(0.1), doubt(2.0));
        // Times whose intervals are too wide for how well they agree.
        assert!(doubt(50.0) < 1.2 * doubt(2.5), "{} {}", doubt(50.0), doubt(2.5));
    }

    #[test]
    fn deviations_say_how_far_noise_leads_astray() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let truth: Vec<f64> = (0..20).map(|_| rng.random_range(1.0..9.0)).collect();
        let (mut off, mut total) = (0.0, 0.0);
        for _ in 0..50 {
            let equations: Vec<Equation> = (0..60)
                .map(|_| {
                    let row: Vec<f64> = (0..20).map(|_| f64::from(u8::from(rng.random_bool(0.3)))).collect();
                    let noise: f64 = (0..12).map(|_| rng.random_range(-0.5..0.5)).sum();
                    let sum: f64 = row.iter().zip(&truth).map(|(a, x)| a * x).sum();
                    equation(&row, sum + 0.2 * noise, 0.2)
                })
                .collect();
            let known: Vec<(f64, f64)> = truth.iter().map(|truth| (truth * 1.05, 10.0)).collect();
            let solution = solve(&equations, &anchors(&known), &[0.0; 20]);
            for ((value, deviation), truth) in solution.values.iter().zip(&solution.deviations).zip(&truth) {
                off += ((value - truth) / deviation).powi(2);
                total += 1.0;
            }
        }
        let scatter = f64::sqrt(off / total);
        assert!((0.7..1.2).contains(&scatter), "{scatter}");
    }
}
