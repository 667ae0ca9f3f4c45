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
//! Episodes in which several measurements in a row are far off are left out beforehand.

mod matrix;

use ndarray::{Array1, Array2, Axis, s};

/// Variance of the constant, in units of the measurements' own: hardly any prior.
const CONSTANT: f64 = 10.0;
/// Correlation lengths of the drift that are offered, in measurements.
const LENGTHS: [f64; 4] = [2.0, 8.0, 32.0, 128.0];
/// Variances at the start, of each group of features, of each length of drift, and of the noise.
const START: (f64, f64, f64) = (0.2, 0.02, 0.1);
/// Parts of which each is predicted from the others.
const FOLDS: usize = 10;
/// No variance becomes smaller.
const LEAST: f64 = 1e-8;
/// Steps at most, without weights at first, and when all variances change by less than this share of them no further.
const STEPS: (usize, usize) = (80, 15);
const SETTLED: f64 = 2e-3;
/// Degrees of freedom of the noise, and the fewest measurements that tell outliers.
const FREEDOM: f64 = 4.0;
const FEWEST_FOR_OUTLIERS: usize = 20;
/// The fewest measurements that tell episodes; how far off they are, in robust deviations; how many measurements to each side say it; and the
/// share of all that is the normal state, if more are off.
const FEWEST_FOR_EPISODES: usize = 40;
const FAR: f64 = 4.0;
const NEIGHBOURS: usize = 3;
const MOST_OFF: f64 = 0.4;
/// Weight of what is left out.
const LEFT_OUT: f64 = 1e-4;

/// Features of measurements, in groups that share a variance: each (n_measurements x n_features).
pub(crate) struct Groups<'a> {
    pub features: &'a [Array2<f64>],
    /// How many of the first groups a robust fit uses to find episodes.
    pub coarse: usize,
    /// How much each measurement is trusted beforehand: 1 as much as the usual one. Its noise has the variance of theirs divided by this.
    pub trust: &'a [f64],
    /// The spread of the measurements is taken to be at least this.
    pub floor: f64,
}

/// The model as it is fitted.
#[derive(Clone, Debug)]
pub(crate) struct Fitted {
    pub constant: f64,
    /// Weights of each group's features.
    pub weights: Vec<Array1<f64>>,
    /// Variance of each group's weights, in squared units of the measurements.
    pub variances: Vec<f64>,
    /// Variance of the drift, all lengths together.
    pub drift: f64,
    /// Variance of the noise of a measurement that is no outlier.
    pub noise: f64,
    /// How much each measurement counts of what it is trusted: 1 fully.
    pub counts: Vec<f64>,
    /// `K^-1`, in units of the measurements.
    pub precision: Array2<f64>,
    /// Variance that the constant has beforehand.
    pub constant_variance: f64,
    /// What is predicted of every measurement without it and those around it.
    pub held_out: Vec<HeldOut>,
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
        let raw = Array1::from(measured.to_vec());
        let mean = raw.mean().unwrap_or(f64::NAN);
        let spread = raw.std(0.0);
        let scale = spread.max(groups.floor);
        if !(mean.is_finite() && spread.is_finite() && scale > 1e-12 * mean.abs() && scale > 0.0) {
            return Err(FitError::Flat);
        }
        let y = raw.mapv(|value| (value - mean) / scale);
        let off = episodes(groups, &y);
        let kept = Array1::from_shape_fn(n, |index| groups.trust[index] * if off[index] { LEFT_OUT } else { 1.0 });
        let mut state = State::new(groups, kept.clone());
        for step in 0..STEPS.0 {
            let solved = state.solve(&y)?;
            let changed = state.step(&solved);
            let weighs = n >= FEWEST_FOR_OUTLIERS && step + 1 >= STEPS.1;
            if weighs {
                state.weigh(&solved, &kept);
            }
            if changed < SETTLED && step > STEPS.1 {
                break;
            }
        }
        let solved = state.solve(&y)?;
        let squared = scale * scale;
        let weights = groups.features.iter().zip(&state.variances);
        let held_out = state.held_out(&solved, &y, &off)?.into_iter().map(|held_out| HeldOut {
            mean: mean + scale * held_out.mean,
            deviation: scale * held_out.deviation,
            ..held_out
        });
        let held_out = held_out.collect();
        Ok(Self {
            constant: mean + scale * CONSTANT * solved.a.sum(),
            weights: weights.map(|(features, variance)| features.t().dot(&solved.a) * (variance * scale)).collect(),
            variances: state.variances.iter().map(|variance| variance * squared).collect(),
            drift: state.drift.iter().sum::<f64>() * squared,
            noise: state.noise * squared,
            counts: state.counts.iter().zip(groups.trust).map(|(count, trust)| count / trust).collect(),
            constant_variance: CONSTANT * squared,
            held_out,
            precision: solved.precision / squared,
        })
    }
}

/// Variances on their way.
struct State<'a> {
    features: &'a [Array2<f64>],
    /// Every length's covariance.
    lengths: Vec<Array2<f64>>,
    variances: Vec<f64>,
    drift: Vec<f64>,
    noise: f64,
    counts: Array1<f64>,
}

struct Solved {
    precision: Array2<f64>,
    a: Array1<f64>,
}

impl<'a> State<'a> {
    fn new(groups: &Groups<'a>, counts: Array1<f64>) -> Self {
        let n = counts.len();
        let lengths = LENGTHS.iter().filter(|length| **length < 2.0 * n as f64);
        let covariance =
            |length: &f64| Array2::from_shape_fn((n, n), |(i, j)| (-(i.abs_diff(j) as f64) / length).exp());
        let lengths: Vec<Array2<f64>> = lengths.map(covariance).collect();
        Self {
            features: groups.features,
            variances: vec![START.0; groups.features.len()],
            drift: vec![START.1; lengths.len()],
            noise: START.2,
            lengths,
            counts,
        }
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
        k.diag_mut().zip_mut_with(&self.counts, |k, count| *k += self.noise / count + 1e-10);
        let (precision, _) = matrix::inverse(&k).ok_or(FitError::Singular)?;
        let a = precision.dot(y);
        Ok(Solved { precision, a })
    }

    /// Predicts every tenth of the measurements from the others, with the variances of all.
    fn held_out(&self, solved: &Solved, y: &Array1<f64>, off: &[bool]) -> Result<Vec<HeldOut>, FitError> {
        let n = y.len();
        let mut all = Vec::with_capacity(n);
        for from in (0..n).step_by(n.div_ceil(FOLDS)) {
            let to = (from + n.div_ceil(FOLDS)).min(n);
            // The rest's covariance, inverted: a block of the inverse is the inverse of the block's covariance given the rest.
            let block = solved.precision.slice(s![from..to, from..to]).to_owned();
            let (given, _) = matrix::inverse(&block).ok_or(FitError::Singular)?;
            let residual = given.dot(&solved.a.slice(s![from..to]));
            for index in from..to {
                let own = self.noise / self.counts[index];
                let variance = given[[index - from, index - from]] - own + self.noise;
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
            let next = (*variance * ((quadratic + 1e-12) / trace).sqrt()).max(LEAST);
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
    if n < FEWEST_FOR_EPISODES {
        return none;
    }
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
        let Some((inverse, _)) = matrix::inverse(&normal) else { return none };
        residual = y - &x.dot(&inverse.dot(&weighted.t().dot(y)));
        let middle = middle(residual.iter().copied());
        deviation = 1.4826 * self::middle(residual.iter().map(|value| (value - middle).abs())) + 1e-12;
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

fn middle(values: impl Iterator<Item = f64>) -> f64 {
    fleetfoot_profiler::median(values).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

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
        Fitted::new(&Groups { features, coarse: 1, trust: &vec![1.0; y.len()], floor: 0.0 }, y).unwrap()
    }

    #[test]
    fn what_matters_is_found_and_what_doesnt_is_shrunk_away() {
        let (features, y) = world(200);
        let fit = fitted(&features, &y);
        assert!((fit.constant - 20.0).abs() < 0.05 && (fit.weights[0][0] - 3.0).abs() < 0.05, "{fit:?}");
        assert!(fit.weights[1].iter().all(|weight| weight.abs() < 0.05), "{:?}", fit.weights[1]);
        assert!((fit.noise + fit.drift).sqrt() < 0.15 && fit.variances[1] < 1e-3, "{:?}", fit.variances);
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
        assert!((fit.constant - clean.constant).abs() < 0.1 && (fit.weights[0][0] - 3.0).abs() < 0.1, "{fit:?}");
        assert!(fit.counts[..47].iter().all(|count| *count < 0.01) && fit.counts[120] < 0.05);
    }

    #[test]
    fn drift_is_no_property_of_networks() {
        let (features, y) = world(300);
        let drifting: Vec<f64> = y.iter().enumerate().map(|(index, y)| y + 2.0 * (index as f64 / 20.0).sin()).collect();
        let fit = fitted(&features, &drifting);
        assert!((fit.weights[0][0] - 3.0).abs() < 0.1, "{}", fit.weights[0][0]);
        assert!(fit.drift > 10.0 * fit.noise, "{} against {}", fit.drift, fit.noise);
    }

    #[test]
    fn what_cant_be_fitted_is_an_error() {
        let (features, y) = world(10);
        let of = |features: &[Array2<f64>], y: &[f64]| Fitted::new(&Groups { features, coarse: 1, trust: &vec![1.0; y.len()], floor: 0.0 }, y).err();
        assert_eq!(of(&features, &[5.0; 10]), Some(FitError::Flat));
        let mut broken = y.clone();
        broken[3] = f64::NAN;
        assert_eq!(of(&features, &broken), Some(FitError::Flat));
        assert_eq!(of(&world(2).0, &[1.0, 2.0]), Some(FitError::TooFew(2)));
    }
}
