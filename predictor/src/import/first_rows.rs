//! First rows of a device that wasn't settled: they take longer, or less, than those behind them, all by one factor.

use fleetfoot_profiler::{median, middle_and_spread};
use fleetfoot_space::{Operator, OperatorKey};
use ndarray::{Array1, Array2, s};

use super::Piece;
use crate::gaussian::matrix;

/// Fewest rows that tell how first ones differ; those are at most a third of all.
const FEW: usize = 30;
const SHARE: usize = 3;
/// The fewest of them; of blocks of a table, whose stage and operator are known, a pair says it.
const LEAST: usize = 3;
const PAIR: usize = 2;
/// By how many standard errors they differ.
const ERRORS: f64 = 5.0;
/// By what part of that they differ from as many behind them.
const SHARP: f64 = 0.6;
/// The least spread that is believed, and how many of it count of a residual.
const LEAST_SPREAD: f64 = 1e-3;
const FAR: f64 = 6.0;
/// Blocks that a model is fitted to: so many in front, and so many of those behind them.
const DENSE: usize = 60;
const THIN: usize = 180;
/// Variances of logarithms: where a fit starts, of what sizes explain, of the first rows' difference, and of noise at least.
const START: f64 = 0.01;
const FIXED: f64 = 100.0;
const DIFFERENCE: f64 = 0.25;
const NOISE: f64 = 1e-4;
const SMALLEST: f64 = 1e-7;
const STEPS: usize = 40;
/// By what logarithm the blocks must be more probable with a difference than without.
const CLEARLY: f64 = 5.0;

/// How many rows in front differ from all behind them, by more than this logarithm, and by what one. Their end must be sharp: as many behind
/// them don't. Residuals are logarithms, in the rows' order.
pub(super) fn of_rows(residuals: &[Option<f64>], least: f64) -> Option<(usize, f64)> {
    let known = known(residuals);
    let n = known.len();
    if n < FEW {
        return None;
    }
    let (level, spread) = middle_and_spread(&known.iter().map(|(_, residual)| *residual).collect::<Vec<f64>>())?;
    let spread = spread.max(LEAST_SPREAD);
    // Means of what is drawn in tell an end more sharply than medians do.
    let most = FAR * spread;
    let sums: Vec<f64> = std::iter::once(0.0)
        .chain(known.iter().scan(0.0, |sum, (_, residual)| {
            *sum += (residual - level).clamp(-most, most);
            Some(*sum)
        }))
        .collect();
    let mean = |from: usize, to: usize| (sums[to] - sums[from]) / (to - from) as f64;
    let score = |first: usize| {
        let (front, behind, rest) = (mean(0, first), mean(first, 2 * first), mean(first, n));
        let (off, sharp) = (front - rest, front - behind);
        let error = spread * (1.0 / first as f64 + 1.0 / (n - first) as f64).sqrt();
        (off * sharp > 0.0 && sharp.abs() > SHARP * off.abs()).then_some(off.abs() / error)
    };
    let scored = (LEAST..=n / SHARE).filter_map(|first| Some((score(first)?, first)));
    let (best, first) = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    let middle = |rows: &[(usize, f64)]| median(rows.iter().map(|(_, residual)| *residual));
    let (front, rest) = (middle(&known[..first])?, middle(&known[first..])?);
    let off = front - rest;
    let on_its_side = known[..first].iter().filter(|(_, residual)| (residual - rest) * off > 0.0).count();
    let is_off = best > ERRORS && off.abs() > least && 10 * on_its_side >= 9 * first;
    // The end is where they differ least: what still is off behind it belongs to them.
    let is_still = |(_, residual): &&(usize, f64)| off.signum() * (residual - rest) > least.max(2.0 * spread);
    let first = first + known[first..].iter().take_while(is_still).count();
    is_off.then(|| (known[first - 1].0 + 1, off))
}

/// As [`of_rows`], of a table's blocks, whose residuals are what their sizes don't explain. Tables come in the order of a network, so that what
/// the sizes don't say of a stage looks like a difference of first rows: here a stage may have a level of its own, an operator, too, and operators
/// may get dearer with resolution and width. What is left is a difference only where it is more probable than without it.
pub(super) fn of_blocks(blocks: &[(&Piece, &[f64])], residuals: &[Option<f64>], least: f64) -> Option<(usize, f64)> {
    let known = known(residuals);
    let all = known.len();
    if all < FEW {
        return None;
    }
    // Many are thinned out behind the first ones; around the end of those that differ all are looked at then.
    let step = all.saturating_sub(DENSE).div_ceil(THIN).max(1);
    let is_thin = |index: &usize| *index < DENSE || (*index - DENSE).is_multiple_of(step);
    let (first, off) = among(blocks, &known, &(0..all).filter(is_thin).collect::<Vec<_>>(), least)?;
    let (first, off) = if step > 1 && first > DENSE {
        let near = first.saturating_sub(step)..first + step;
        let kept = (0..all).filter(|index| is_thin(index) || near.contains(index));
        among(blocks, &known, &kept.collect::<Vec<_>>(), least).unwrap_or((first, off))
    } else {
        (first, off)
    };
    Some((known[first - 1].0 + 1, off))
}

/// How many of the known blocks differ, by some of them.
fn among(blocks: &[(&Piece, &[f64])], known: &[(usize, f64)], kept: &[usize], least: f64) -> Option<(usize, f64)> {
    let residuals: Vec<f64> = kept.iter().map(|index| known[*index].1).collect();
    let (middle, spread) = (median(residuals.iter().copied())?, middle_and_spread(&residuals)?.1);
    let most = FAR * spread.max(LEAST_SPREAD);
    let y: Array1<f64> = residuals.iter().map(|residual| (residual - middle).clamp(-most, most)).collect();
    let model = Levels::new(&kept.iter().map(|index| blocks[known[*index].0]).collect::<Vec<_>>());
    let last = kept.iter().take_while(|index| **index < known.len() / SHARE).count();
    let without = model.fitted(&y, None)?;
    // Variances that a difference has blown up hide it: they are fitted once more with the likeliest.
    let likeliest = model.likeliest(&y, &without.variances, last)?;
    let with = model.fitted(&y, Some(likeliest.0))?;
    let (first, off) = model.likeliest(&y, &with.variances, last)?;
    let with = if first == likeliest.0 { with } else { model.fitted(&y, Some(first))? };
    (off.abs() > least && with.density > without.density + CLEARLY).then(|| (kept[first - 1] + 1, off))
}

fn known(residuals: &[Option<f64>]) -> Vec<(usize, f64)> {
    residuals.iter().enumerate().filter_map(|(index, residual)| Some((index, (*residual)?))).collect()
}

/// What blocks have in common with others.
#[derive(Clone, Copy, Debug, Default)]
struct Traits {
    kernel: usize,
    expansion: usize,
    groups: usize,
    height: usize,
    c_in: usize,
    c_out: usize,
    stride: usize,
}

impl Traits {
    fn of(piece: &Piece) -> Self {
        let Piece::Unit(OperatorKey { operator, input, .. }) = *piece else { return Self::default() };
        let Operator::MbConv { kernel, expansion, stride, c_in, c_out, groups, .. } = operator else {
            return Self::default();
        };
        Self { kernel, expansion: expansion.unwrap_or_default(), groups, height: input.h, c_in, c_out, stride }
    }
}

/// A linear model with variance components of blocks' logarithms.
struct Levels {
    /// Covariance of what sizes explain.
    fixed: Array2<f64>,
    /// Covariances of levels, each of variance 1 in the mean; the last one is noise.
    kernels: Vec<Array2<f64>>,
}

struct Fitted {
    variances: Vec<f64>,
    /// The logarithm, but for a constant.
    density: f64,
}

impl Levels {
    fn new(blocks: &[(&Piece, &[f64])]) -> Self {
        let n = blocks.len();
        let traits: Vec<Traits> = blocks.iter().map(|(piece, _)| Traits::of(piece)).collect();
        let slope = |of: fn(&Traits) -> usize| -> Vec<f64> {
            let logarithms: Vec<f64> = traits.iter().map(|traits| (1.0 + of(traits) as f64).ln()).collect();
            let mean = logarithms.iter().sum::<f64>() / n as f64;
            logarithms.into_iter().map(|value| value - mean).collect()
        };
        let level = vec![1.0; n];
        let (height, width) = (slope(|block| block.height), slope(|block| block.c_in));
        let kernel = |group: fn(&Traits) -> [usize; 4], slope: &[f64]| {
            let groups: Vec<[usize; 4]> = traits.iter().map(group).collect();
            let kernel = Array2::from_shape_fn((n, n), |(row, column)| {
                if groups[row] == groups[column] { slope[row] * slope[column] } else { 0.0 }
            });
            let mean = kernel.diag().mean().filter(|mean| *mean > 0.0);
            mean.map(|mean| kernel / mean)
        };
        let by_kernel: fn(&Traits) -> [usize; 4] = |block| [block.kernel, block.groups, 0, 0];
        let by_expansion: fn(&Traits) -> [usize; 4] = |block| [block.expansion, block.groups, 0, 0];
        let kernels = [
            kernel(|block| [block.height, block.c_in, block.c_out, block.stride], &level),
            kernel(|block| [block.kernel, block.expansion, block.groups, 0], &level),
            kernel(|block| [block.height, 0, 0, 0], &level),
            kernel(by_kernel, &height),
            kernel(by_expansion, &height),
            kernel(by_kernel, &width),
            kernel(by_expansion, &width),
            Some(Array2::eye(n)),
        ];
        let count = blocks.first().map_or(0, |(_, sizes)| sizes.len());
        let sizes = Array2::from_shape_fn((n, count), |(row, column)| blocks[row].1[column]);
        let centred = match sizes.mean_axis(ndarray::Axis(0)) {
            Some(mean) => &sizes - &mean,
            None => sizes,
        };
        // Where a call costs, too, logarithms bend.
        let bent = centred.slice(s![.., ..count.min(1)]).mapv(|value| value * value);
        let fixed = (centred.dot(&centred.t()) + bent.dot(&bent.t()) + 1.0) * FIXED;
        Self { fixed, kernels: kernels.into_iter().flatten().collect() }
    }

    fn covariance(&self, variances: &[f64], first: Option<usize>) -> Array2<f64> {
        let mut covariance = self.fixed.clone();
        for (kernel, variance) in self.kernels.iter().zip(variances) {
            covariance.scaled_add(*variance, kernel);
        }
        if let Some(first) = first {
            let mut front = covariance.slice_mut(s![..first, ..first]);
            front += DIFFERENCE;
        }
        covariance
    }

    /// The variances that make the blocks likeliest, where so many in front may differ.
    fn fitted(&self, y: &Array1<f64>, first: Option<usize>) -> Option<Fitted> {
        let mut variances = vec![START; self.kernels.len()];
        for _ in 0..STEPS {
            let precision = matrix::inverse(&self.covariance(&variances, first))?;
            let a = precision.dot(y);
            for (kernel, variance) in self.kernels.iter().zip(&mut variances) {
                let (explained, trace) = (a.dot(&kernel.dot(&a)), (&precision * kernel).sum());
                *variance = (*variance * (explained / trace).max(0.0).sqrt()).clamp(SMALLEST, FIXED);
            }
            let noise = variances.last_mut()?;
            *noise = noise.max(NOISE);
        }
        let density = matrix::log_density(self.covariance(&variances, first), y)?;
        Some(Fitted { variances, density })
    }

    /// How many in front differ likeliest, by these variances, and by what logarithm.
    fn likeliest(&self, y: &Array1<f64>, variances: &[f64], last: usize) -> Option<(usize, f64)> {
        let precision = matrix::inverse(&self.covariance(variances, None))?;
        let a = precision.dot(y);
        let scored = (PAIR..=last).map(|first| {
            let (sum, own) = (a.slice(s![..first]).sum(), precision.slice(s![..first, ..first]).sum());
            let gain = sum * sum / (1.0 / DIFFERENCE + own) - (1.0 + DIFFERENCE * own).ln();
            (gain, first, sum / own)
        });
        let (_, first, off) = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
        Some((first, off))
    }
}
