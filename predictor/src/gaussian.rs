//! A Gaussian linear model with variance components, in closed form.
//!
//! Measurements `y` in the order in which they were made are
//!
//! ```text
//! y_i = constant + sum over k of phi_k(x_i) . w_k + drift_i + noise_i
//! w_k ~ N(0, v_k I)      drift ~ N(0, sum over l of d_l exp(-|i - j| / l))      noise_i ~ N(0, s / u_i)
//! ```
//!
//! so that their covariance is `K = c 1 1' + sum v_k Phi_k Phi_k' + sum d_l E_l + s U^-1`. The variances maximise the evidence `p(y)`, by
//! `v_k <- v_k sqrt(a' K_k a / tr(K^-1 K_k))` with `a = K^-1 y`, which never lowers it (Zhou, Hu, Zhou & Lange, 2019, "MM algorithms
//! for variance components models"). The weights `u_i` are those of a Student t distribution of the noise: outliers count for little.
//! Episodes in which several measurements in a row are far off are left out beforehand, and, where measurements are few, each that is far from
//! what a model of the others says.

pub(crate) mod matrix;

use std::f64::consts::TAU;

use fleetfoot_profiler::middle_and_spread;
use ndarray::{Array1, Array2, Axis, s};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Variance of the constant, in units of the measurements' own: hardly any prior.
pub(crate) const CONSTANT: f64 = 10.0;
/// Correlation lengths of the drift that are offered, in measurements.
const LENGTHS: [f64; 4] = [2.0, 8.0, 32.0, 128.0];
/// Variance of the noise where a fit starts, and of each length of drift, at least, as a share of that of all measurements.
pub(crate) const NOISE: f64 = 0.01;
/// Parts of which each is predicted from the others.
const FOLDS: usize = 10;
/// No variance becomes smaller, nor larger, as those of features would that no measurement has.
const LEAST: f64 = 1e-8;
const MOST: f64 = 1e4;
/// Steps at most, without weights at first, and when all variances change by less than this share of them no further.
const STEPS: (usize, usize) = (80, 15);
const SETTLED: f64 = 2e-3;
/// Up to so many measurements leave the variances open: models are averaged over so many of their values, so many steps apart, behind so many
/// first ones. Beforehand their logarithms have this deviation.
const SAMPLED: usize = 200;
const MEMBERS: usize = 40;
const BETWEEN: usize = 6;
const BURN_IN: usize = 60;
const WIDTH: f64 = 2.5;
/// Degrees of freedom of the noise, and the fewest measurements that tell outliers.
const FREEDOM: f64 = 4.0;
const FEWEST_FOR_OUTLIERS: usize = 20;
/// The fewest measurements that tell episodes; how far off they are, in robust deviations; how many measurements to each side say it; and the
/// share of all that is the normal state, if more are off.
const FEWEST_FOR_EPISODES: usize = 40;
const FAR: f64 = 4.0;
const NEIGHBOURS: usize = 3;
const MOST_OFF: f64 = 0.4;
/// Variance of what is left out, in units of that of all: so much that it says nothing.
const LEFT_OUT: f64 = 1e8;
/// The fewest measurements that tell which of them is off; how far it has to be from the others' middle or model to be suspected, in robust
/// deviations, and from what a model without it predicts to be left out; of so many one at most, and rounds of suspicion.
const FEWEST_FOR_LONE: usize = 6;
const SUSPECT: f64 = 3.0;
const LONE: f64 = 6.0;
const ONE_OF: usize = 4;
const ROUNDS: usize = 4;

/// Features of measurements, in groups that share a variance: each (n_measurements x n_features).
pub(crate) struct Groups<'a> {
    pub features: &'a [Array2<f64>],
    /// How many of the first groups a robust fit uses to find episodes.
    pub coarse: usize,
    /// The variance of each group's weights where a fit starts, as a share of that of all measurements.
    pub starts: &'a [f64],
    /// How much each measurement is trusted beforehand: 1 as much as the usual one. Its noise has the variance of theirs divided by this.
    pub trust: &'a [f64],
    /// The spread of the measurements is taken to be at least this.
    pub floor: f64,
    /// The deviation of the noise where a fit starts, at least, in units of the measurements; that of each length of drift, too.
    pub noise: f64,
}

/// The model as it is fitted.
#[derive(Clone, Debug)]
pub(crate) struct Fitted {
    /// Models with variances that the measurements leave possible, all equally probable: one where they leave little.
    pub members: Vec<Member>,
    /// How much each measurement counts of what it is trusted: 1 fully.
    pub counts: Vec<f64>,
    /// What is predicted of every measurement without it and those around it.
    pub held_out: Vec<HeldOut>,
}

/// A model with certain variances.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub constant: f64,
    /// Weights of each group's features.
    pub weights: Vec<Array1<f64>>,
    /// Variance of each group's weights, in squared units of the measurements.
    pub variances: Vec<f64>,
    /// Variance of the drift, all lengths together.
    pub drift: f64,
    /// Variance of the noise of a measurement that is no outlier.
    pub noise: f64,
    /// `K^-1`, in units of the measurements.
    pub precision: Array2<f64>,
    /// Variance that the constant has beforehand.
    pub constant_variance: f64,
}

/// A measurement as it is predicted from the others, without a tenth of all that it lies in: its neighbours know the drift.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct HeldOut {
    /// The mean.
    pub mean: f64,
    /// The standard deviation of a measurement that is no outlier.
    pub deviation: f64,
    /// Whether the measurement belongs to an episode that was left out.
    pub is_off: bool,
}

/// Measurements that no model can be fitted to.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum FitError {
    /// Too few.
    #[error("{0} measurements are too few: wanted at least 3")]
    TooFew(usize),
    /// All alike, or not finite.
    #[error("the measurements don't vary, or aren't finite")]
    Flat,
    /// The arithmetic broke down.
    #[error("the covariance of the measurements can't be inverted")]
    Singular,
}

impl Fitted {
    /// Fits to measurements in their order.
    pub(crate) fn new(groups: &Groups<'_>, measured: &[f64]) -> Result<Self, FitError> {
        let n = measured.len();
        if n < 3 {
            return Err(FitError::TooFew(n));
        }
        let (all, off) = if n < FEWEST_FOR_EPISODES {
            let off = lone(groups, measured)?;
            (Scaled::new(groups, measured, &off)?, off)
        } else {
            let all = Scaled::new(groups, measured, &vec![false; n])?;
            let off = episodes(groups, &all.y);
            (all, off)
        };
        let start = all.start(groups, &off);
        let state = start.settled(&all.y, n >= FEWEST_FOR_OUTLIERS)?;
        let counts = state.counts.iter().zip(groups.trust).zip(&off);
        let counts = counts.map(|((count, trust), off)| if *off { 0.0 } else { count / trust }).collect();
        let states = if n <= SAMPLED { state.sample(&start, &all.y)? } else { vec![state] };
        let solved = solve_all(&states, &all.y)?;
        let held_out = held_out(&states, &solved, &all.y, &off)?.into_iter().map(|of| HeldOut {
            mean: all.mean + all.scale * of.mean,
            deviation: all.scale * of.deviation,
            ..of
        });
        let held_out = held_out.collect();
        let members = states.iter().zip(solved).map(|(state, solved)| state.member(solved, all.mean, all.scale));
        Ok(Self { members: members.collect(), counts, held_out })
    }

    /// The mean over members.
    pub(crate) fn mean(&self, of: impl Fn(&Member) -> f64) -> f64 {
        self.members.iter().map(of).sum::<f64>() / self.members.len() as f64
    }
}

impl HeldOut {
    /// Mean and deviation of predictions that are equally probable.
    fn mixed(all: &[Self]) -> Self {
        let count = all.len() as f64;
        let mean = all.iter().map(|one| one.mean).sum::<f64>() / count;
        let square = |one: &Self| one.deviation.powi(2) + (one.mean - mean).powi(2);
        let deviation = (all.iter().map(square).sum::<f64>() / count).sqrt();
        Self { mean, deviation, is_off: all.iter().all(|one| one.is_off) }
    }
}

/// Measurements in units of their own spread.
struct Scaled {
    y: Array1<f64>,
    mean: f64,
    scale: f64,
}

impl Scaled {
    /// By the mean and the spread of those that aren't off.
    fn new(groups: &Groups<'_>, measured: &[f64], off: &[bool]) -> Result<Self, FitError> {
        let kept: Array1<f64> = measured.iter().zip(off).filter(|(_, off)| !**off).map(|(value, _)| *value).collect();
        let mean = kept.mean().unwrap_or(f64::NAN);
        let spread = kept.std(0.0);
        let scale = spread.max(groups.floor);
        if !(mean.is_finite() && spread.is_finite() && scale > 1e-12 * mean.abs() && scale > 0.0) {
            return Err(FitError::Flat);
        }
        Ok(Self { y: measured.iter().map(|value| (value - mean) / scale).collect(), mean, scale })
    }

    /// Where a fit starts that leaves some out.
    fn start<'a>(&self, groups: &Groups<'a>, off: &[bool]) -> State<'a> {
        // Not more than all of it.
        let noise = (groups.noise / self.scale).powi(2).clamp(NOISE, 1.0);
        State::new(groups, noise, off)
    }
}

fn solve_all(states: &[State<'_>], y: &Array1<f64>) -> Result<Vec<Solved>, FitError> {
    states.iter().map(|state| state.solve(y)).collect()
}

/// What is predicted of every measurement without the tenth that it lies in, by models that are equally probable.
fn held_out(states: &[State<'_>], solved: &[Solved], y: &Array1<f64>, off: &[bool]) -> Result<Vec<HeldOut>, FitError> {
    let all = states.iter().zip(solved).map(|(state, solved)| state.held_out(solved, y, off));
    let all = all.collect::<Result<Vec<_>, _>>()?;
    let of = |index: usize| HeldOut::mixed(&all.iter().map(|of_state| of_state[index]).collect::<Vec<_>>());
    Ok((0..y.len()).map(of).collect())
}

/// Variances on their way.
#[derive(Clone)]
struct State<'a> {
    features: &'a [Array2<f64>],
    /// Every length's covariance.
    lengths: Vec<Array2<f64>>,
    variances: Vec<f64>,
    drift: Vec<f64>,
    noise: f64,
    counts: Array1<f64>,
    /// What is left out has this variance besides.
    apart: Array1<f64>,
}

struct Solved {
    precision: Array2<f64>,
    a: Array1<f64>,
}

impl<'a> State<'a> {
    fn new(groups: &Groups<'a>, noise: f64, off: &[bool]) -> Self {
        let n = off.len();
        let lengths = LENGTHS.iter().filter(|length| **length < 2.0 * n as f64);
        let covariance =
            |length: &f64| Array2::from_shape_fn((n, n), |(i, j)| (-(i.abs_diff(j) as f64) / length).exp());
        let lengths: Vec<Array2<f64>> = lengths.map(covariance).collect();
        Self {
            features: groups.features,
            variances: groups.starts.to_vec(),
            drift: vec![noise; lengths.len()],
            noise,
            lengths,
            counts: groups.trust.iter().copied().collect(),
            apart: off.iter().map(|off| if *off { LEFT_OUT } else { 0.0 }).collect(),
        }
    }

    /// With the variances that maximise the evidence, and weights, if it is to weigh.
    fn settled(&self, y: &Array1<f64>, weighs: bool) -> Result<Self, FitError> {
        let (kept, mut state) = (self.counts.clone(), self.clone());
        for step in 0..STEPS.0 {
            let solved = state.solve(y)?;
            let changed = state.step(&solved);
            if weighs && step + 1 >= STEPS.1 {
                state.weigh(&solved, &kept);
            }
            if changed < SETTLED && step > STEPS.1 {
                break;
            }
        }
        Ok(state)
    }

    fn solve(&self, y: &Array1<f64>) -> Result<Solved, FitError> {
        let n = y.len();
        let mut k = Array2::from_elem((n, n), CONSTANT);
        for (features, variance) in self.features.iter().zip(&self.variances) {
            let scaled = features * variance.sqrt();
            k += &scaled.dot(&scaled.t());
        }
        for (length, variance) in self.lengths.iter().zip(&self.drift) {
            k.scaled_add(*variance, length);
        }
        self.scatter(&mut k, self.noise);
        let precision = matrix::inverse(&k).ok_or(FitError::Singular)?;
        let a = precision.dot(y);
        Ok(Solved { precision, a })
    }

    /// Adds what every measurement scatters by itself.
    fn scatter(&self, k: &mut Array2<f64>, noise: f64) {
        k.diag_mut().zip_mut_with(&self.counts, |k, count| *k += noise / count + 1e-10);
        let mut diagonal = k.diag_mut();
        diagonal += &self.apart;
    }

    /// The model of these variances, in the measurements' own units.
    fn member(&self, solved: Solved, mean: f64, scale: f64) -> Member {
        let squared = scale * scale;
        let weights = self.features.iter().zip(&self.variances);
        Member {
            constant: mean + scale * CONSTANT * solved.a.sum(),
            weights: weights.map(|(features, variance)| features.t().dot(&solved.a) * (variance * scale)).collect(),
            variances: self.variances.iter().map(|variance| variance * squared).collect(),
            drift: self.drift.iter().sum::<f64>() * squared,
            noise: self.noise * squared,
            constant_variance: CONSTANT * squared,
            precision: solved.precision / squared,
        }
    }

    /// Variances that the measurements leave possible, drawn from their posterior by elliptical slice sampling (Murray, Adams & MacKay,
    /// 2010). Beforehand each is log-normal around where the fit starts.
    fn sample(&self, start: &Self, y: &Array1<f64>) -> Result<Vec<Self>, FitError> {
        let kernels: Vec<Array2<f64>> = self.features.iter().map(|features| features.dot(&features.t())).collect();
        let variances = |state: &Self| [&state.variances[..], &state.drift, &[state.noise]].concat();
        let start = variances(start);
        let density = |x: &[f64]| {
            let mut k = Array2::from_elem((y.len(), y.len()), CONSTANT);
            let exponents = x.iter().zip(&start).map(|(x, start)| start * x.exp());
            let noise = start[start.len() - 1] * x[x.len() - 1].exp();
            for (kernel, variance) in kernels.iter().chain(&self.lengths).zip(exponents) {
                k.scaled_add(variance, kernel);
            }
            self.scatter(&mut k, noise);
            matrix::log_density(k, y)
        };
        let reach = 4.0 * WIDTH;
        let mut x: Vec<f64> =
            variances(self).iter().zip(&start).map(|(own, start)| (own / start).ln().clamp(-reach, reach)).collect();
        let mut now = density(&x).ok_or(FitError::Singular)?;
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let mut states = Vec::with_capacity(MEMBERS);
        for step in 1..=BURN_IN + MEMBERS * BETWEEN {
            let other: Vec<f64> = x.iter().map(|_| WIDTH * normal(&mut rng)).collect();
            let level = now + rng.random::<f64>().ln();
            let mut angle = rng.random_range(0.0..TAU);
            let (mut from, mut to) = (angle - TAU, angle);
            // Ends: at angle 0 the point is the old one.
            for _ in 0..100 {
                let (sin, cos) = f64::sin_cos(angle);
                let next: Vec<f64> = x.iter().zip(&other).map(|(x, other)| x * cos + other * sin).collect();
                match density(&next) {
                    Some(density) if density > level => {
                        (x, now) = (next, density);
                        break;
                    }
                    _ if angle < 0.0 => from = angle,
                    _ => to = angle,
                }
                angle = rng.random_range(from..to);
            }
            if step > BURN_IN && (step - BURN_IN).is_multiple_of(BETWEEN) {
                let own: Vec<f64> = x.iter().zip(&start).map(|(x, start)| start * x.exp()).collect();
                let (variances, rest) = own.split_at(self.variances.len());
                let (drift, noise) = rest.split_at(self.drift.len());
                states.push(Self {
                    variances: variances.to_vec(),
                    drift: drift.to_vec(),
                    noise: noise[0],
                    ..self.clone()
                });
            }
        }
        Ok(states)
    }

    /// Predicts every tenth of the measurements from the others, with the variances of all.
    fn held_out(&self, solved: &Solved, y: &Array1<f64>, off: &[bool]) -> Result<Vec<HeldOut>, FitError> {
        let n = y.len();
        let mut all = Vec::with_capacity(n);
        for from in (0..n).step_by(n.div_ceil(FOLDS)) {
            let to = (from + n.div_ceil(FOLDS)).min(n);
            // The rest's covariance, inverted: a block of the inverse is the inverse of the block's covariance given the rest.
            let block = solved.precision.slice(s![from..to, from..to]).to_owned();
            let given = matrix::inverse(&block).ok_or(FitError::Singular)?;
            let residual = given.dot(&solved.a.slice(s![from..to]));
            for index in from..to {
                let own = self.noise / self.counts[index];
                let variance = given[[index - from, index - from]] - self.apart[index] - own + self.noise;
                let mean = y[index] - residual[index - from];
                all.push(HeldOut { mean, deviation: variance.max(LEAST).sqrt(), is_off: off[index] });
            }
        }
        Ok(all)
    }

    /// Takes every variance a step; by how much they changed, the most, as a share of all of them.
    fn step(&mut self, solved: &Solved) -> f64 {
        let Solved { precision, a } = solved;
        let all: f64 = self.variances.iter().chain(&self.drift).sum::<f64>() + self.noise;
        let mut most: f64 = 0.0;
        let mut take = |variance: &mut f64, quadratic: f64, trace: f64| {
            let next = (*variance * ((quadratic + 1e-12) / trace).sqrt()).clamp(LEAST, MOST);
            most = most.max((next - *variance).abs() / all);
            *variance = next;
        };
        for (features, variance) in self.features.iter().zip(&mut self.variances) {
            let quadratic = features.t().dot(a).mapv(|value| value * value).sum();
            let trace = (&precision.dot(features) * features).sum();
            take(variance, quadratic, trace);
        }
        for (length, variance) in self.lengths.iter().zip(&mut self.drift) {
            take(variance, a.dot(&length.dot(a)), (precision * length).sum());
        }
        let quadratic = a.iter().zip(&self.counts).map(|(a, count)| a * a / count).sum();
        let trace = precision.diag().iter().zip(&self.counts).map(|(p, count)| p / count).sum();
        take(&mut self.noise, quadratic, trace);
        most
    }

    /// Weighs every measurement by its expected squared noise.
    fn weigh(&mut self, solved: &Solved, kept: &Array1<f64>) {
        for (index, count) in self.counts.iter_mut().enumerate() {
            let own = self.noise / *count;
            let noise = own * solved.a[index];
            let squared = noise * noise + own * (1.0 - own * solved.precision[[index, index]]).max(0.0);
            *count = kept[index] * (FREEDOM + 1.0) / (FREEDOM + kept[index] * squared / self.noise);
        }
    }
}

/// Which measurements lie in episodes, in which several in a row are far from what a robust fit of the coarse features says.
fn episodes(groups: &Groups<'_>, y: &Array1<f64>) -> Vec<bool> {
    let n = y.len();
    let none = vec![false; n];
    let coarse = &groups.features[..groups.coarse.min(groups.features.len())];
    let width = 1 + coarse.iter().map(Array2::ncols).sum::<usize>();
    let mut x = Array2::ones((n, width));
    let mut from = 1;
    for features in coarse {
        x.slice_mut(s![.., from..from + features.ncols()]).assign(features);
        from += features.ncols();
    }
    let (mut counts, mut residual) = (Array1::ones(n), y.clone());
    let mut deviation = 0.0;
    for _ in 0..30 {
        let weighted = &x * &counts.view().insert_axis(Axis(1));
        let mut normal = x.t().dot(&weighted);
        normal.diag_mut().iter_mut().skip(1).for_each(|value| *value += 1e-2);
        normal[[0, 0]] += 1e-9;
        let Some(inverse) = matrix::inverse(&normal) else { return none };
        residual = y - &x.dot(&inverse.dot(&weighted.t().dot(y)));
        let (_, spread) = middle_and_spread(&residual.to_vec()).unwrap_or_default();
        deviation = spread + 1e-12;
        counts = residual.mapv(|value| 1.0 / (1.0 + (value / deviation / 2.0).powi(2)));
    }
    let usual = middle(residual.iter().copied());
    let is_off = |index: usize| {
        let near = residual.slice(s![index.saturating_sub(NEIGHBOURS)..(index + NEIGHBOURS + 1).min(n)]);
        (middle(near.iter().copied()) - usual).abs() > FAR * deviation
    };
    let off: Vec<bool> = (0..n).map(is_off).collect();
    if off.iter().filter(|off| **off).count() as f64 > MOST_OFF * n as f64 { none } else { off }
}

/// Which of few measurements are far from what a model of the others says.
///
/// Those far from the middle, and the one that the others' model fits worst, are suspects; a suspect is off if a model without all suspects
/// says so, with what is open of its variances. More than a fourth aren't off, but what the others are.
fn lone(groups: &Groups<'_>, measured: &[f64]) -> Result<Vec<bool>, FitError> {
    let n = measured.len();
    let mut off = vec![false; n];
    if n < FEWEST_FOR_LONE {
        return Ok(off);
    }
    for _ in 0..ROUNDS {
        let all = Scaled::new(groups, measured, &off)?;
        let state = all.start(groups, &off).settled(&all.y, false)?;
        let solved = state.solve(&all.y)?;
        // What each lies from what the others predict, in deviations of that, all with the same variances.
        let without = |index: usize| solved.a[index] / solved.precision[[index, index]].sqrt();
        let distances = [all.y.to_vec(), (0..n).map(without).collect()].map(|values| {
            let kept: Vec<f64> = values.iter().zip(&off).filter(|(_, off)| !**off).map(|(value, _)| *value).collect();
            let (middle, spread) = middle_and_spread(&kept).unwrap_or_default();
            values.iter().map(|value| (value - middle).abs() / (spread + 1e-12)).collect::<Vec<f64>>()
        });
        let far = |index: usize| distances[0][index].max(distances[1][index]);
        let mut suspects: Vec<usize> = (0..n).filter(|&index| !off[index] && far(index) > SUSPECT).collect();
        suspects.sort_by(|a, b| far(*b).total_cmp(&far(*a)));
        suspects.truncate((n / ONE_OF).max(1).saturating_sub(off.iter().filter(|off| **off).count()));
        if suspects.is_empty() {
            break;
        }
        let mut without_suspects = off.clone();
        suspects.iter().for_each(|&suspect| without_suspects[suspect] = true);
        let Ok(all) = Scaled::new(groups, measured, &without_suspects) else { break };
        let start = all.start(groups, &without_suspects);
        let states = start.settled(&all.y, false)?.sample(&start, &all.y)?;
        let predicted = held_out(&states, &solve_all(&states, &all.y)?, &all.y, &without_suspects)?;
        let is_off = |&suspect: &usize| {
            let HeldOut { mean, deviation, .. } = predicted[suspect];
            (all.y[suspect] - mean).abs() > LONE * deviation
        };
        let found: Vec<usize> = suspects.into_iter().filter(is_off).collect();
        found.iter().for_each(|&index| off[index] = true);
        if found.is_empty() {
            break;
        }
    }
    Ok(off)
}

/// A standard normal number (Box & Muller).
fn normal(rng: &mut impl Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (TAU * rng.random::<f64>()).cos()
}

fn middle(values: impl Iterator<Item = f64>) -> f64 {
    fleetfoot_profiler::median(values).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Measurements of which the first feature takes 3 and the second group nothing, with noise of 0.1.
    fn world(n: usize) -> (Vec<Array2<f64>>, Vec<f64>) {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut normal = || (0..12).map(|_| rng.random_range(0.0..1.0)).sum::<f64>() - 6.0;
        let features = vec![
            Array2::from_shape_fn((n, 1), |_| normal()),
            Array2::from_shape_fn((n, 20), |_| normal() / f64::sqrt(20.0)),
        ];
        let y = features[0].column(0).iter().map(|x| 20.0 + 3.0 * x + 0.1 * normal()).collect();
        (features, y)
    }

    fn fitted(features: &[Array2<f64>], y: &[f64]) -> Fitted {
        Fitted::new(
            &Groups { features, coarse: 1, starts: &[0.2, 0.005], trust: &vec![1.0; y.len()], floor: 0.0, noise: 0.0 },
            y,
        )
        .unwrap()
    }

    #[test]
    fn what_matters_is_found_and_what_doesnt_is_shrunk_away() {
        let (features, y) = world(200);
        let fit = fitted(&features, &y);
        assert!(
            (fit.mean(|m| m.constant) - 20.0).abs() < 0.05 && (fit.mean(|m| m.weights[0][0]) - 3.0).abs() < 0.05,
            "{fit:?}"
        );
        let fine: Vec<f64> = (0..20).map(|feature| fit.mean(|m| m.weights[1][feature])).collect();
        assert!(fine.iter().all(|weight| weight.abs() < 0.05), "{fine:?}");
        assert!(fit.mean(|m| m.noise + m.drift).sqrt() < 0.15 && fit.mean(|m| m.variances[1]) < 1e-2);
        let errors = fit.held_out.iter().zip(&y).map(|(held_out, y)| (held_out.mean - y) / held_out.deviation);
        let wide = errors.filter(|z| z.abs() > 1.645).count();
        assert!((8..=34).contains(&wide), "{wide} of 200 beyond a 90 % interval");
    }

    #[test]
    fn outliers_and_episodes_count_for_little() {
        let (features, y) = world(200);
        let clean = fitted(&features, &y);
        let mut dirty = y.clone();
        dirty[..50].iter_mut().for_each(|y| *y *= 1.65);
        dirty[120] *= 3.0;
        let fit = fitted(&features, &dirty);
        assert!(
            (fit.mean(|m| m.constant) - clean.mean(|m| m.constant)).abs() < 0.1
                && (fit.mean(|m| m.weights[0][0]) - 3.0).abs() < 0.1,
            "{fit:?}"
        );
        assert!(fit.counts[..47].iter().all(|count| *count < 0.01) && fit.counts[120] < 0.05);
    }

    #[test]
    fn drift_is_no_property_of_networks() {
        let (features, y) = world(300);
        let drifting: Vec<f64> = y.iter().enumerate().map(|(index, y)| y + 2.0 * (index as f64 / 20.0).sin()).collect();
        let fit = fitted(&features, &drifting);
        assert!((fit.mean(|m| m.weights[0][0]) - 3.0).abs() < 0.1, "{}", fit.mean(|m| m.weights[0][0]));
        assert!(
            fit.mean(|m| m.drift) > 10.0 * fit.mean(|m| m.noise),
            "{} against {}",
            fit.mean(|m| m.drift),
            fit.mean(|m| m.noise)
        );
    }

    #[test]
    fn what_cant_be_fitted_is_an_error() {
        let (features, y) = world(10);
        let of = |features: &[Array2<f64>], y: &[f64]| {
            Fitted::new(
                &Groups {
                    features,
                    coarse: 1,
                    starts: &[0.2, 0.005],
                    trust: &vec![1.0; y.len()],
                    floor: 0.0,
                    noise: 0.0,
                },
                y,
            )
            .err()
        };
        assert_eq!(of(&features, &[5.0; 10]), Some(FitError::Flat));
        let mut broken = y.clone();
        broken[3] = f64::NAN;
        assert_eq!(of(&features, &broken), Some(FitError::Flat));
        assert_eq!(of(&world(2).0, &[1.0, 2.0]), Some(FitError::TooFew(2)));
    }
}
