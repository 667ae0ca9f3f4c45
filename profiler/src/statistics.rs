//! From samples to a measurement.

use std::fmt;
use std::str::FromStr;

use fleetfoot_protocol::{Sample, Whole};
use serde::{Deserialize, Serialize};

use crate::latency::Latency;

/// What a latency is of the samples of one visit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Statistic {
    /// The smallest.
    Min,
    /// The 20th percentile: steadier than the median on a machine that others use too.
    P20,
    /// The middle.
    #[default]
    Median,
    /// The 90th percentile.
    P90,
    /// The 99th percentile.
    P99,
}

impl Statistic {
    const ALL: [Self; 5] = [Self::Min, Self::P20, Self::Median, Self::P90, Self::P99];

    const fn quantile(self) -> f64 {
        match self {
            Self::Min => 0.0,
            Self::P20 => 0.2,
            Self::Median => 0.5,
            Self::P90 => 0.9,
            Self::P99 => 0.99,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Min => "min",
            Self::P20 => "p20",
            Self::Median => "median",
            Self::P90 => "p90",
            Self::P99 => "p99",
        }
    }

    /// Whether it lies so far out that a single visit's samples don't tell it: then it is that of all visits' samples
    /// together.
    pub const fn is_tail(self) -> bool {
        matches!(self, Self::P90 | Self::P99)
    }

    /// What tells a single visit's level: itself, or the median where it is a tail.
    pub const fn of_visit(self) -> Self {
        if self.is_tail() { Self::Median } else { self }
    }

    /// Samples without which it is the largest of them, or nearly so.
    pub fn fewest_samples(self) -> usize {
        if self.is_tail() { (1.0 / (1.0 - self.quantile())).round() as usize } else { 1 }
    }
}

impl fmt::Display for Statistic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A text that is no statistic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a statistic: wanted min, p20, median, p90 or p99")]
pub struct StatisticParseError(String);

impl FromStr for Statistic {
    type Err = StatisticParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|statistic| statistic.name() == text);
        known.ok_or_else(|| StatisticParseError(text.to_owned()))
    }
}

/// An interval of latencies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: Latency,
    /// Upper end.
    pub high: Latency,
}

/// A subject's latency as its samples tell it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// Median over the rounds of each round's statistic, as far as that is known at the machine's usual speed.
    pub latency: Latency,
    /// 99 % interval of that median over rounds: it counts the drift between rounds, not only the scatter within one.
    pub interval: Interval,
    /// Samples that count.
    pub samples: usize,
    /// Rounds that they come from.
    pub rounds: usize,
    /// Samples left aside because the process was interrupted in them.
    pub disturbed: usize,
    /// What of the interval all subjects of a campaign have in common, half of a 99 % interval as a share of the latency: by so
    /// much all may be off together.
    pub common: f64,
}

/// Whether the process was interrupted within a sample: its wall time exceeds the thread's CPU time by more than 1 %
/// and 20 microseconds. Only meaningful for work on the calling thread.
fn is_disturbed(sample: &Sample) -> bool {
    sample.cpu_ns > 0 && sample.wall_ns.saturating_sub(sample.cpu_ns) > sample.wall_ns / 100 + 20_000
}

/// Which samples of a visit count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sieve {
    /// Whether those in which the process was interrupted don't.
    pub interruptions: bool,
    /// Whether those of bursts don't: somebody else is on the core's units now and then for less than a visit, and what is
    /// slower than the visit's fastest samples by more than [`BURST`] was hit by it.
    pub bursts: bool,
}

/// By how much a sample that a burst hit is slower than its visit's fastest, and which of them these are.
const BURST: f64 = 0.04;
const FASTEST: f64 = 0.1;

impl Sieve {
    /// Which of a visit's samples count, in their order.
    pub(crate) fn counted(self, samples: &[Sample]) -> Vec<bool> {
        let is_quiet = |sample: &Sample| !(self.interruptions && is_disturbed(sample));
        let most = if self.bursts {
            let quiet = samples.iter().filter(|sample| is_quiet(sample));
            let mut walls: Vec<f64> = quiet.map(|sample| sample.wall_ns as f64).collect();
            walls.sort_by(f64::total_cmp);
            quantile(&walls, FASTEST).map_or(f64::INFINITY, |fastest| fastest * (1.0 + BURST))
        } else {
            f64::INFINITY
        };
        samples.iter().map(|sample| is_quiet(sample) && sample.wall_ns as f64 <= most).collect()
    }

    /// The samples that count.
    fn of(self, samples: &[Sample]) -> Vec<&Sample> {
        let counted = samples.iter().zip(self.counted(samples)).filter(|(_, counts)| *counts);
        counted.map(|(sample, _)| sample).collect()
    }
}

/// Half of a 99 % interval of a normal distribution, in standard deviations: all intervals are of 99 %.
pub const Z: f64 = 2.575_829;
/// A normal distribution's standard deviation in medians of the absolute deviation.
pub const MAD: f64 = 1.4826;
/// Values from which order statistics hold their median with 99 %.
pub(crate) const INTERVAL_ROUNDS: usize = 8;
/// Student's t of 99 % intervals, of 2 values (one degree of freedom) and more, as far as there are fewer than that.
const STUDENT: [f64; INTERVAL_ROUNDS - 2] = [63.657, 9.925, 5.841, 4.604, 4.032, 3.707];
/// What such an interval leaves open on either side.
const TAIL: f64 = 0.005;

/// A visit's time of a run in ns, of the samples that count, and the share of its time that interruptions
/// took, in samples or in all of it. The time is no number where all samples were interrupted.
pub(crate) fn of_visit(samples: &[Sample], whole: Whole, batch: u32, statistic: Statistic, sieve: Sieve) -> (f64, f64) {
    let quiet = sieve.of(samples);
    let left = samples.iter().filter(|sample| sieve.interruptions && is_disturbed(sample));
    let mut runs: Vec<f64> =
        quiet.iter().map(|sample| sample.wall_ns.max(1) as f64 / f64::from(batch.max(1))).collect();
    runs.sort_by(f64::total_cmp);
    let lost: u64 = left.map(|sample| sample.wall_ns - sample.cpu_ns).sum();
    let interrupted = lost as f64 / samples.iter().map(|sample| sample.wall_ns).sum::<u64>().max(1) as f64;
    let interrupted = interrupted.max(whole.lost().filter(|_| sieve.interruptions).unwrap_or(0.0));
    (quantile(&runs, statistic.quantile()).unwrap_or(f64::NAN), interrupted)
}

/// The q-quantile of sorted values, linear between neighbours (type 7 of Hyndman and Fan, 1996).
pub(crate) fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let position = q * last as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(last);
    Some(sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64))
}

/// The middle value, or the mean of the two in the middle; `None` where there is none.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let (lower, upper) = (sorted.get(sorted.len().checked_sub(1)? / 2)?, sorted.get(sorted.len() / 2)?);
    Some((lower + upper) / 2.0)
}

/// The median, and what spreads values around it: the median distance from it, as a standard deviation of a normal distribution.
pub fn middle_and_spread(values: &[f64]) -> Option<(f64, f64)> {
    let middle = median(values.iter().copied())?;
    Some((middle, MAD * median(values.iter().map(|value| (value - middle).abs()))?))
}

/// `None` where there is none.
pub(crate) fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.into_iter().fold((0.0, 0u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

/// Sum of the squared distances from the mean.
pub(crate) fn squares(values: &[f64]) -> f64 {
    let mean = mean(values.iter().copied()).unwrap_or_default();
    values.iter().map(|value| (value - mean).powi(2)).sum()
}

/// Half of the 99 % interval of a mean of so many values, in standard errors; `None` of fewer than two, which tell no error.
pub fn mean_width(values: u64) -> Option<f64> {
    let index = usize::try_from(values.checked_sub(2)?).ok()?;
    let freedom = (index + 1) as f64;
    // Fisher and Cornish's expansion of Student's t by what the normal distribution has.
    let terms = [
        Z,
        (Z.powi(3) + Z) / 4.0,
        (5.0 * Z.powi(5) + 16.0 * Z.powi(3) + 3.0 * Z) / 96.0,
        (3.0 * Z.powi(7) + 19.0 * Z.powi(5) + 17.0 * Z.powi(3) - 15.0 * Z) / 384.0,
    ];
    let expanded = || terms.iter().rev().fold(0.0, |sum, term| sum / freedom + term);
    Some(STUDENT.get(index).copied().unwrap_or_else(expanded))
}

/// Those that are numbers.
pub(crate) fn finite(values: &[f64]) -> impl Iterator<Item = f64> + '_ {
    values.iter().copied().filter(|value| value.is_finite())
}

/// A statistic of every value and its neighbours, so many on either side; fewer at the ends.
pub(crate) fn around<T>(values: &[f64], neighbours: usize, statistic: impl Fn(&[f64]) -> T) -> Vec<T> {
    let window = |index: usize| &values[index.saturating_sub(neighbours)..values.len().min(index + neighbours + 1)];
    (0..values.len()).map(|index| statistic(window(index))).collect()
}

/// Parts of a campaign that are held against each other.
const PARTS: usize = 4;

/// How a statistic of values in the order of time hangs on when they were taken: the standard deviation of its values for four parts, and the
/// jackknife's error, by what it is without each of them. Not numbers where a part, or what is left without it, tells none.
pub(crate) fn over_parts(values: &[f64], statistic: impl Fn(&[f64]) -> f64) -> [f64; 2] {
    let parts: Vec<&[f64]> = values.chunks(values.len().div_ceil(PARTS).max(1)).collect();
    if parts.len() < PARTS {
        return [f64::NAN; 2];
    }
    let apart: Vec<f64> = parts.iter().map(|part| statistic(part)).collect();
    let without = |left: usize| {
        let kept = parts.iter().enumerate().filter(|(part, _)| *part != left);
        statistic(&kept.flat_map(|(_, part)| part.iter().copied()).collect::<Vec<f64>>())
    };
    let without: Vec<f64> = (0..PARTS).map(without).collect();
    let free = (PARTS - 1) as f64;
    [squares(&apart) / free, free / PARTS as f64 * squares(&without)].map(f64::sqrt)
}

/// Variance (with n - 1) of values as shares of their mean.
pub fn relative_variance(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    values.iter().map(|value| (value / mean - 1.0).powi(2)).sum::<f64>() / (n - 1.0)
}

/// Ranks (from 0) of the order statistics whose interval holds the median of n values with at least 99 %, by the
/// binomial distribution of the number of values below the median. The extremes where n is too small for it.
fn median_ranks(n: usize) -> (usize, usize) {
    // P(Binomial(n, 1/2) <= k) grows with k; the lower rank is the largest k with P(X <= k - 1) <= 0.5 %.
    let mut term = 0.5f64.powi(i32::try_from(n).unwrap_or(i32::MAX));
    if term == 0.0 {
        // Beyond about 1070 values the normal approximation is exact enough.
        let half = (n as f64 / 2.0 - Z / 2.0 * (n as f64).sqrt()).floor() as usize;
        return (half, n - 1 - half);
    }
    let mut below = term;
    let mut rank = 0;
    while below <= TAIL && rank + 1 < n / 2 {
        term *= (n - rank) as f64 / (rank + 1) as f64;
        rank += 1;
        below += term;
    }
    let lower = rank.saturating_sub(usize::from(below > TAIL)).min(n.saturating_sub(1) / 2);
    (lower, n - 1 - lower)
}

/// A visit's samples as milliseconds of a run at the machine's usual speed, in ascending order.
fn runs_of(samples: &[Sample], slower: f64, batch: u32, sieve: Sieve) -> Vec<f64> {
    let counted = sieve.of(samples).into_iter();
    let mut runs: Vec<f64> = counted.map(|sample| sample.wall_ns as f64 / f64::from(batch) / 1e6 / slower).collect();
    runs.sort_by(f64::total_cmp);
    runs
}

impl Measurement {
    /// From the rounds' samples, each of `batch` runs, and by what factor the machine was slower than usual in the round.
    /// Rounds whose samples were all disturbed don't count, unless there is no other: then the disturbed ones do. `None`
    /// with fewer samples than the statistic needs.
    ///
    /// Of a tail, the interval is Woodruff's (1952, "Confidence Intervals for Medians and Other Position Measures"), for
    /// samples that come in clusters, the rounds.
    pub(crate) fn from_rounds(
        rounds: &[(&[Sample], f64)],
        batch: u32,
        statistic: Statistic,
        sieve: Sieve,
    ) -> Option<Self> {
        let runs = |sieve: Sieve| {
            let runs = rounds.iter().map(|&(samples, slower)| runs_of(samples, slower, batch, sieve));
            runs.filter(|runs| !runs.is_empty()).collect::<Vec<Vec<f64>>>()
        };
        let all: usize = rounds.iter().map(|(samples, _)| samples.len()).sum();
        let mut counted = runs(sieve);
        if counted.is_empty() {
            counted = runs(Sieve::default());
        }
        let samples = counted.iter().map(Vec::len).sum();
        if samples < statistic.fewest_samples() {
            return None;
        }
        let (middle, low, high) =
            if statistic.is_tail() { tail(&counted, statistic)? } else { middle(&counted, statistic)? };
        let latency = |ms: f64| Latency::from_ms(ms).ok();
        let interval = Interval { low: latency(low)?, high: latency(high)? };
        Some(Self {
            latency: latency(middle)?,
            interval,
            samples,
            rounds: counted.len(),
            disturbed: all - samples,
            common: 0.0,
        })
    }

    /// With a further doubt that is independent of it, half of a 99 % interval as a share of the latency: the halves add up by their
    /// squares.
    pub fn with_doubt(self, doubt: f64) -> Self {
        let ms = self.latency.ms();
        let end = |end: Latency, sign: f64| {
            Latency::from_ms((ms + sign * (end.ms() - ms).hypot(doubt * ms)).max(0.0)).unwrap_or(end)
        };
        let interval = Interval { low: end(self.interval.low, -1.0), high: end(self.interval.high, 1.0) };
        Self { interval, ..self }
    }

    /// With a further doubt that all subjects of its campaign share.
    pub fn with_common_doubt(self, doubt: f64) -> Self {
        Self { common: self.common.hypot(doubt), ..self.with_doubt(doubt) }
    }

    /// With an interval that holds, with 99 %, what another campaign finds: it has doubts of its own, as large as this one's.
    pub fn of_another(self) -> Self {
        let ms = self.latency.ms();
        let end =
            |end: Latency| Latency::from_ms((ms + std::f64::consts::SQRT_2 * (end.ms() - ms)).max(0.0)).unwrap_or(end);
        let interval = Interval { low: end(self.interval.low), high: end(self.interval.high) };
        Self { interval, common: std::f64::consts::SQRT_2 * self.common, ..self }
    }

    /// Half the interval's width as a share of the latency.
    pub fn half_width(&self) -> f64 {
        let width = self.interval.high.ms() - self.interval.low.ms();
        if width == 0.0 { 0.0 } else { width / 2.0 / self.latency.ms() }
    }
}

/// Median of the rounds' own statistics, with the ends of its interval.
fn middle(rounds: &[Vec<f64>], statistic: Statistic) -> Option<(f64, f64, f64)> {
    around_median(rounds.iter().filter_map(|runs| quantile(runs, statistic.quantile())).collect())
}

/// Median of values, with the ends of its interval. Order statistics of fewer values than
/// [`INTERVAL_ROUNDS`] can't hold it with 99 %: the interval is wider then, as wide as one by Student's t around a median
/// (whose standard error is sqrt(pi / 2) times a mean's). One value says nothing of how far it may be off.
pub(crate) fn around_median(mut values: Vec<f64>) -> Option<(f64, f64, f64)> {
    values.sort_by(f64::total_cmp);
    let middle = quantile(&values, 0.5)?;
    let (low, high) = median_ranks(values.len());
    let half = match values.len() {
        1 => middle,
        n => STUDENT.get(n - 2).map_or(0.0, |t| {
            let mean_error = (relative_variance(&values) / n as f64).sqrt() * values.iter().sum::<f64>() / n as f64;
            t * std::f64::consts::FRAC_PI_2.sqrt() * mean_error
        }),
    };
    Some((middle, values[low].min(middle - half).max(0.0), values[high].max(middle + half)))
}

/// A quantile of all rounds' samples together, with the ends of its interval: the quantiles at as much less and more as
/// the share of samples below it is in doubt, by how that share differs between the rounds.
fn tail(rounds: &[Vec<f64>], statistic: Statistic) -> Option<(f64, f64, f64)> {
    let mut all: Vec<f64> = rounds.iter().flatten().copied().collect();
    all.sort_by(f64::total_cmp);
    let (q, n, count) = (statistic.quantile(), all.len() as f64, rounds.len() as f64);
    let value = quantile(&all, q)?;
    let off = |runs: &Vec<f64>| {
        let below = runs.partition_point(|&run| run <= value) as f64;
        (below - q * runs.len() as f64).powi(2)
    };
    let between = rounds.iter().map(off).sum::<f64>() / (n * n) * count / (count - 1.0).max(1.0);
    // Rounds that happen to agree are no surer than independent samples.
    let doubt = Z * between.max(q * (1.0 - q) / n).sqrt();
    Some((value, quantile(&all, (q - doubt).max(0.0))?, quantile(&all, (q + doubt).min(1.0))?))
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn sample(wall_ns: u64, cpu_ns: u64) -> Sample {
        Sample { at_ns: 0, wall_ns, cpu_ns }
    }

    const INTERRUPTIONS: Sieve = Sieve { interruptions: true, bursts: false };

    fn plain(rounds: &[Vec<Sample>]) -> Vec<(&[Sample], f64)> {
        rounds.iter().map(|samples| (samples.as_slice(), 1.0)).collect()
    }

    #[test]
    fn a_means_width_is_students_t() {
        for (values, t) in [(2, 63.657), (7, 3.7074), (8, 3.4995), (31, 2.7500), (50, 2.67995), (1 << 40, Z)] {
            assert!((mean_width(values).unwrap() / t - 1.0).abs() < 2e-3, "{values}");
        }
        assert_eq!([mean_width(0), mean_width(1)], [None, None]);
    }

    #[test]
    fn few_values_leave_their_median_as_open_as_students_t_says() {
        use rand_distr::{Distribution, Normal};
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let normal = Normal::new(100.0, 5.0).unwrap();
        for n in [2, 3, 5, 7, 8, 20] {
            let holds = |_: &usize| {
                let (_, low, high) = around_median((0..n).map(|_| normal.sample(&mut rng)).collect()).unwrap();
                (low..=high).contains(&100.0)
            };
            let held = (0..2_000).filter(holds).count();
            assert!(held >= 1_970, "{n} values: {held} of 2000");
        }
        // One says nothing of itself.
        assert_eq!(around_median(vec![3.0]), Some((3.0, 0.0, 6.0)));
        assert_eq!(around_median(vec![3.0; 5]), Some((3.0, 3.0, 3.0)));
        assert_eq!(around_median(Vec::new()), None);
    }

    #[test]
    fn what_the_machine_was_slower_by_is_taken_out() {
        let rounds: Vec<Vec<Sample>> = (0..20).map(|round| vec![sample(1_000_000 + round * 10_000, 0); 50]).collect();
        let slower: Vec<(&[Sample], f64)> =
            rounds.iter().enumerate().map(|(round, samples)| (samples.as_slice(), 1.0 + 0.01 * round as f64)).collect();
        let measurement = Measurement::from_rounds(&slower, 1, Statistic::Median, INTERRUPTIONS).unwrap();
        assert!((measurement.latency.ms() - 1.0).abs() < 1e-9 && measurement.half_width() < 1e-9);
        assert!((measurement.with_doubt(0.03).half_width() - 0.03).abs() < 1e-9);
    }

    #[test]
    fn the_interval_of_a_median_has_the_ranks_of_the_textbook() {
        // Conover, Practical Nonparametric Statistics: n = 6 gives the extremes, n = 20 ranks 4 and 17 (from 1).
        assert_eq!(median_ranks(6), (0, 5));
        assert_eq!(median_ranks(20), (3, 16));
        assert_eq!(median_ranks(100), (36, 63));
        assert_eq!(median_ranks(1), (0, 0));
        let (low, high) = median_ranks(10_000);
        assert!((4_868..=4_873).contains(&low) && high == 9_999 - low);
    }

    #[test]
    fn a_median_over_rounds_counts_drift_between_them() {
        let rounds: Vec<Vec<Sample>> = (0..20).map(|round| vec![sample(1_000_000 + round * 10_000, 0); 50]).collect();
        let measurement = Measurement::from_rounds(&plain(&rounds), 1, Statistic::Median, INTERRUPTIONS).unwrap();
        assert!((measurement.latency.ms() - 1.095).abs() < 1e-9);
        assert!((measurement.interval.low.ms() - 1.03).abs() < 1e-9);
        assert!((measurement.interval.high.ms() - 1.16).abs() < 1e-9);
        assert_eq!((measurement.samples, measurement.rounds), (1000, 20));
    }

    #[test]
    fn interrupted_samples_are_counted_but_not_used() {
        let rounds = vec![vec![sample(1_000_000, 999_000), sample(3_000_000, 1_000_000)]; 8];
        let measurement = Measurement::from_rounds(&plain(&rounds), 1, Statistic::Median, INTERRUPTIONS).unwrap();
        assert_eq!((measurement.latency.ms(), measurement.disturbed), (1.0, 8));
        let undetected = Measurement::from_rounds(&plain(&rounds), 1, Statistic::Median, Sieve::default()).unwrap();
        assert_eq!(undetected.latency.ms(), 2.0);
    }

    #[test]
    fn a_batch_is_divided_by_its_runs() {
        let rounds = vec![vec![sample(8_000, 0)]; 8];
        let measurement = Measurement::from_rounds(&plain(&rounds), 4, Statistic::Min, INTERRUPTIONS).unwrap();
        assert!((measurement.latency.ms() - 0.002).abs() < 1e-12);
    }

    #[test]
    fn a_tail_is_that_of_all_rounds_and_its_interval_holds_the_truth() {
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let mut held = 0;
        for _ in 0..200 {
            // Uniform between 1 and 2 ms, in rounds that are slower or faster together by up to 5 %.
            let rounds: Vec<Vec<Sample>> = (0..60)
                .map(|_| {
                    let level = rng.random_range(0.95..1.05);
                    (0..12).map(|_| sample((1e6 * level * rng.random_range(1.0..2.0)) as u64, 0)).collect()
                })
                .collect();
            let measurement = Measurement::from_rounds(&plain(&rounds), 1, Statistic::P90, INTERRUPTIONS).unwrap();
            // The 90th percentile of the product of both, by 10 million draws.
            held += usize::from((measurement.interval.low.ms()..=measurement.interval.high.ms()).contains(&1.8983));
            assert!((measurement.latency.ms() - 1.9).abs() < 0.06, "{measurement:?}");
        }
        assert!(held >= 194, "{held} of 200 intervals of 99 %");
    }

    #[test]
    fn a_tail_of_few_samples_is_not_known() {
        let rounds = vec![vec![sample(1_000_000, 0); 9]; 11];
        assert_eq!(Measurement::from_rounds(&plain(&rounds), 1, Statistic::P99, INTERRUPTIONS), None);
        assert!(Measurement::from_rounds(&plain(&rounds), 1, Statistic::P90, INTERRUPTIONS).is_some());
        assert_eq!((Statistic::P99.fewest_samples(), Statistic::P90.fewest_samples()), (100, 10));
    }

    #[test]
    fn no_samples_are_no_measurement() {
        assert_eq!(Measurement::from_rounds(&[], 1, Statistic::Median, INTERRUPTIONS), None);
        assert_eq!(Measurement::from_rounds(&[(&[], 1.0)], 1, Statistic::Median, INTERRUPTIONS), None);
    }
}
