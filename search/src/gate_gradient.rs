//! How the loss on a validation batch depends on the gates: three ways to estimate it.

use std::fmt;
use std::str::FromStr;

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tch::{Tensor, no_grad};

use crate::batches::Batch;
use crate::error::SearchError;
use crate::gates::{Gates, Pair, Path};
use crate::group::Group;
use crate::learn::judged;
use crate::loss::Criterion;
use crate::module::Mode;
use crate::native::{Wanted, dot};
use crate::supernet::Supernet;

/// A way to estimate the gates' gradients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateUpdate {
    /// Two candidates of every decision are drawn, and only they are computed (ProxylessNAS, section 3.2.1).
    #[default]
    TwoPaths,
    /// One candidate is drawn; all others are computed without a graph, one at a time (`full_v2` of the authors' code).
    AllGates,
    /// Whole networks are drawn and judged by their accuracy, or by what score there is in its place (REINFORCE; ProxylessNAS, section 3.3.2).
    Reinforce,
}

impl GateUpdate {
    const ALL: [Self; 3] = [Self::TwoPaths, Self::AllGates, Self::Reinforce];
}

impl fmt::Display for GateUpdate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::TwoPaths => "two-paths",
            Self::AllGates => "all-gates",
            Self::Reinforce => "reinforce",
        })
    }
}

impl FromStr for GateUpdate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|update| update.to_string() == text);
        known.ok_or_else(|| format!("'{text}' is no way to update gates: wanted two-paths, all-gates or reinforce"))
    }
}

/// What is done at a decision with its input, its output and the slope by that.
type AtGate<'a> = dyn FnMut(usize, &Tensor, &Tensor, &Tensor) -> Result<(), SearchError> + 'a;

/// Walks a path forwards and then, with the slopes of the loss in hand, backwards: `gate` is given each decision, last ones
/// first, its input, its output and the slope by that. Gives the loss. Batch normalisation uses the
/// batch's statistics and leaves the running ones as they are: they belong to weight steps.
fn sloped(
    supernet: &Supernet,
    path: &Path,
    batch: &Batch,
    criterion: &dyn Criterion,
    gate: &mut AtGate<'_>,
) -> Result<f64, SearchError> {
    let mut x = no_grad(|| supernet.front(&batch.images, Mode::Probe))?;
    let mut steps = Vec::with_capacity(path.0.len());
    for (decision, &choice) in path.0.iter().enumerate() {
        let (y, tape) = supernet.record(decision, choice, &x)?;
        steps.push((x, y.shallow_clone(), tape));
        x = y;
    }
    let (logits, tape) = supernet.record_head(&x)?;
    drop(x);
    let (learned, slope) = judged(criterion, &logits, &batch.labels.shallow_clone().into(), 0.0)?;
    let wanted = Wanted { by_input: true, by_weight: false };
    let mut slope = tape.backward(supernet.back(), slope, wanted)?.by_input;
    while let Some((input, output, tape)) = steps.pop() {
        let Some(above) = slope.take() else { break };
        gate(steps.len(), &input, &output, &above)?;
        let module = supernet.module(steps.len(), path.0[steps.len()]);
        slope = match module.zip(tape) {
            // In front of the first decision no gate is left.
            Some((module, tape)) if !steps.is_empty() => tape.backward(module, above, wanted)?.by_input,
            _ => Some(above),
        };
    }
    Ok(learned.loss)
}

/// Loss along the active candidates of pairs, and its derivatives by the logits of each pair.
///
/// With the gradient dL/dy behind a decision in hand, `g_j = sum(o_j dL/dy)` for both candidates' outputs o_j, and
/// `dL/dalpha_i = sum_j g_j q_j (delta_ij - q_i)`. Zero is a candidate like any other: its output is its input.
pub fn by_two_paths(
    supernet: &Supernet,
    gates: &Gates,
    pairs: &[Option<Pair>],
    batch: &Batch,
    criterion: &dyn Criterion,
) -> Result<(f64, Vec<(f64, f64)>), SearchError> {
    let mut gradients = vec![(0.0, 0.0); pairs.len()];
    let loss = sloped(supernet, &gates.active_path(pairs), batch, criterion, &mut |decision, input, output, slope| {
        let Some(pair) = pairs[decision] else { return Ok(()) };
        let other = supernet.dot(decision, pair.other, input, slope)?;
        // For two: q_a q_b (g_a - g_b), and its negative.
        let by_gate = pair.q.0 * pair.q.1 * (dot(output, slope)? - other);
        gradients[decision] = (by_gate, -by_gate);
        Ok(())
    })?;
    Ok((loss, gradients))
}

/// Loss along a path, and its derivatives by every logit: `dL/dalpha_i = sum_j g_j p_j (delta_ij - p_i)` over all
/// candidates that weren't cut, each computed without a graph, one at a time.
pub fn by_all_gates(
    supernet: &Supernet,
    gates: &Gates,
    path: &Path,
    batch: &Batch,
    criterion: &dyn Criterion,
) -> Result<(f64, Vec<Vec<f64>>), SearchError> {
    let p = gates.probabilities();
    let mut gradients: Vec<Vec<f64>> = p.iter().map(|row| vec![0.0; row.len()]).collect();
    let loss = sloped(supernet, path, batch, criterion, &mut |decision, input, output, slope| {
        let live: Vec<usize> = supernet.candidates(decision).collect();
        if live.len() < 2 {
            return Ok(());
        }
        let mut g = vec![0.0; p[decision].len()];
        for candidate in live {
            g[candidate] = if candidate == path.0[decision] {
                dot(output, slope)?
            } else {
                supernet.dot(decision, candidate, input, slope)?
            };
        }
        gradients[decision] = through_softmax(&p[decision], &g);
        Ok(())
    })?;
    Ok((loss, gradients))
}

/// The means over all ranks of a loss and of its derivatives by the logits of each pair.
pub(crate) fn mean_of_pairs(
    group: &Group,
    loss: f64,
    by_gates: Vec<(f64, f64)>,
) -> Result<(f64, Vec<(f64, f64)>), SearchError> {
    let rows = by_gates.into_iter().map(|(one, other)| vec![one, other]).collect();
    let (loss, rows) = mean_of_gates(group, loss, rows)?;
    Ok((loss, rows.iter().map(|row| (row[0], row[1])).collect()))
}

/// The means over all ranks of a loss and of its derivatives by every logit.
pub(crate) fn mean_of_gates(
    group: &Group,
    loss: f64,
    mut gradients: Vec<Vec<f64>>,
) -> Result<(f64, Vec<Vec<f64>>), SearchError> {
    let mut means: Vec<f64> = std::iter::once(loss).chain(gradients.iter().flatten().copied()).collect();
    group.mean(&mut means)?;
    gradients.iter_mut().flatten().zip(&means[1..]).for_each(|(gradient, mean)| *gradient = *mean);
    Ok((means[0], gradients))
}

/// What the derivatives by probabilities, `slopes`, are by the logits whose softmax `p` is:
/// `p_i (s_i - sum_j p_j s_j)`.
pub fn through_softmax(p: &[f64], slopes: &[f64]) -> Vec<f64> {
    let mean: f64 = p.iter().zip(slopes).map(|(p, slope)| p * slope).sum();
    p.iter().zip(slopes).map(|(p, slope)| p * (slope - mean)).collect()
}

/// Mean reward of networks that are drawn by the gates, and the estimate of its derivatives by the logits, negated as those
/// of a loss: the mean of `-(R - baseline) d ln p / d alpha`, where `d ln p / d alpha_i = delta_ik - p_i` for the candidate
/// k that was drawn. Unbiased for every baseline that doesn't depend on these draws (Williams, Machine Learning 1992).
pub fn by_reinforce(
    gates: &Gates,
    networks: usize,
    baseline: Option<f64>,
    rng: &mut ChaCha8Rng,
    reward: &mut dyn FnMut(&Path) -> Result<f64, SearchError>,
) -> Result<(f64, Vec<Vec<f64>>), SearchError> {
    let paths: Vec<Path> = (0..networks).map(|_| gates.sample_path(rng)).collect();
    let rewards = paths.iter().map(reward).collect::<Result<Vec<f64>, SearchError>>()?;
    let mean = rewards.iter().sum::<f64>() / networks as f64;
    // Nothing was judged before: these networks are their own baseline, once.
    let baseline = baseline.unwrap_or(mean);
    let mut gradients = gates.probabilities();
    for (decision, row) in gradients.iter_mut().enumerate() {
        let p = row.clone();
        row.fill(0.0);
        for (path, reward) in paths.iter().zip(&rewards) {
            let advantage = (reward - baseline) / networks as f64;
            for (candidate, (gradient, p)) in row.iter_mut().zip(&p).enumerate() {
                *gradient -= advantage * (f64::from(u8::from(candidate == path.0[decision])) - p);
            }
        }
    }
    Ok((mean, gradients))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn the_gradient_of_reinforce_is_unbiased_where_it_is_known() {
        let gates = Gates::from_logits(vec![vec![0.4, -0.3, 0.0], vec![0.1, -0.5]]);
        let reward = |path: &Path| [[0.2, 0.9], [0.5, 0.1], [0.7, 0.3]][path.0[0]][path.0[1]];
        // The derivatives of the mean reward, from all six networks.
        let p = gates.probabilities();
        let mut exact = [vec![0.0; 3], vec![0.0; 2]];
        for a in 0..3 {
            for b in 0..2 {
                let weight = p[0][a] * p[1][b] * reward(&Path(vec![a, b]));
                for (decision, choice) in [(0, a), (1, b)] {
                    for i in 0..p[decision].len() {
                        exact[decision][i] += weight * (f64::from(u8::from(i == choice)) - p[decision][i]);
                    }
                }
            }
        }
        for baseline in [0.0, 0.45] {
            let mut rng = ChaCha8Rng::seed_from_u64(7);
            let (rounds, mut sums, mut squares) = (40_000, [[0.0; 3]; 2], [[0.0; 3]; 2]);
            for _ in 0..rounds {
                let mut judge = |path: &Path| Ok(reward(path));
                let (_, gradients) = by_reinforce(&gates, 2, Some(baseline), &mut rng, &mut judge).unwrap();
                for (decision, row) in gradients.iter().enumerate() {
                    for (i, gradient) in row.iter().enumerate() {
                        sums[decision][i] -= gradient;
                        squares[decision][i] += gradient * gradient;
                    }
                }
            }
            for (decision, row) in exact.iter().enumerate() {
                for (i, exact) in row.iter().enumerate() {
                    let mean = sums[decision][i] / f64::from(rounds);
                    let error = ((squares[decision][i] / f64::from(rounds) - mean * mean) / f64::from(rounds)).sqrt();
                    assert!((mean - exact).abs() < 4.0 * error, "{baseline} {decision} {i}: {mean} {exact} ± {error}");
                }
            }
        }
    }
}
