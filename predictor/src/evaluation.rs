//! Predictions against measurements, in the figures that the literature uses.

use fleetfoot_profiler::median;
use serde::{Deserialize, Serialize};

use crate::network_model::NetworkEstimate;

/// How far predictions are from measurements.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Number of pairs.
    pub networks: usize,
    /// Root of the mean squared error, in the unit of what is predicted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rmse: Option<f64>,
    /// Root of the mean squared relative error, in percent of the measured value.
    pub rmspe_percent: f64,
    /// Mean absolute relative error, in percent.
    pub mape_percent: f64,
    /// Share of predictions within 5 % of the measured value, in percent.
    pub within_5_percent: f64,
    /// Share of predictions within 10 % of the measured value, in percent.
    pub within_10_percent: f64,
    /// Spearman's rank correlation; ties share their mean rank. Absent where one side doesn't vary.
    pub spearman: Option<f64>,
    /// Kendall's tau-b. Absent where one side doesn't vary.
    pub kendall: Option<f64>,
}

/// Intervals against measurements.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Coverage {
    /// Share of the measured values that lie within their interval, in percent.
    pub covered_percent: f64,
    /// Half of the interval, in percent of the prediction, in the median.
    pub half_width_percent: f64,
}

impl Coverage {
    /// From estimates with what was measured.
    pub fn new(pairs: &[(NetworkEstimate, f64)]) -> Self {
        let covered = pairs.iter().filter(|(own, measured)| (own.low_ms..=own.high_ms).contains(measured)).count();
        let width = |own: &NetworkEstimate| 50.0 * (own.high_ms - own.low_ms) / own.ms.max(f64::MIN_POSITIVE);
        Self {
            covered_percent: 100.0 * covered as f64 / pairs.len().max(1) as f64,
            half_width_percent: median(pairs.iter().map(|(own, _)| width(own))).unwrap_or_default(),
        }
    }
}

/// Pairs that can't be evaluated.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum EvaluationError {
    /// There is none.
    #[error("nothing to evaluate: no pair of a prediction and a measurement")]
    Empty,
    /// A measurement isn't above 0, or a value isn't finite.
    #[error("predicted {predicted} ms against measured {measured} ms: wanted finite numbers, the measured one above 0")]
    Value {
        /// The prediction.
        predicted: f64,
        /// The measurement.
        measured: f64,
    },
}

impl Evaluation {
    /// From pairs (predicted, measured).
    pub fn new(pairs: &[(f64, f64)]) -> Result<Self, EvaluationError> {
        if pairs.is_empty() {
            return Err(EvaluationError::Empty);
        }
        let unfit = pairs.iter().find(|(p, m)| !(p.is_finite() && m.is_finite() && *m > 0.0));
        if let Some(&(predicted, measured)) = unfit {
            return Err(EvaluationError::Value { predicted, measured });
        }
        let n = pairs.len() as f64;
        let errors: Vec<f64> = pairs.iter().map(|(predicted, measured)| predicted / measured - 1.0).collect();
        let within = |limit: f64| 100.0 * errors.iter().filter(|error| error.abs() <= limit).count() as f64 / n;
        let (predicted, measured): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
        Ok(Self {
            networks: pairs.len(),
            rmse: Some(
                (pairs.iter().map(|(predicted, measured)| (predicted - measured).powi(2)).sum::<f64>() / n).sqrt(),
            ),
            rmspe_percent: 100.0 * (errors.iter().map(|e| e * e).sum::<f64>() / n).sqrt(),
            mape_percent: 100.0 * errors.iter().map(|e| e.abs()).sum::<f64>() / n,
            within_5_percent: within(0.05),
            within_10_percent: within(0.10),
            spearman: pearson(&ranks(&predicted), &ranks(&measured)),
            kendall: kendall(&predicted, &measured),
        })
    }
}

/// Ranks from 1; ties share their mean.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    for tie in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let first = order.iter().position(|index| index == &tie[0]).unwrap_or_default();
        let mean = first as f64 + (tie.len() as f64 + 1.0) / 2.0;
        tie.iter().for_each(|&index| ranks[index] = mean);
    }
    ranks
}

fn pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    let n = x.len() as f64;
    let (mx, my) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let sum = |f: fn(f64, f64) -> f64| x.iter().zip(y).map(|(a, b)| f(a - mx, b - my)).sum::<f64>();
    let (xy, xx, yy) = (sum(|a, b| a * b), sum(|a, _| a * a), sum(|_, b| b * b));
    (xx > 0.0 && yy > 0.0).then(|| xy / (xx * yy).sqrt())
}

/// Kendall's tau-b: (concordant - discordant) / sqrt((pairs - ties in x) (pairs - ties in y)). None where all of one are ties.
pub fn kendall(x: &[f64], y: &[f64]) -> Option<f64> {
    let sign = |a: f64, b: f64| if a == b { 0.0 } else { (a - b).signum() };
    let (mut score, mut in_x, mut in_y) = (0.0, 0.0, 0.0);
    for i in 0..x.len() {
        for j in 0..i {
            let (a, b) = (sign(x[i], x[j]), sign(y[i], y[j]));
            score += a * b;
            in_x += a * a;
            in_y += b * b;
        }
    }
    (in_x > 0.0 && in_y > 0.0).then(|| score / f64::sqrt(in_x * in_y))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_the_definitions() {
        let evaluation = Evaluation::new(&[(1.04, 1.0), (1.8, 2.0), (3.6, 3.0), (4.0, 4.0)]).unwrap();
        assert!((evaluation.mape_percent - 8.5).abs() < 1e-9);
        assert!((evaluation.rmspe_percent - 100.0 * (0.0516f64 / 4.0).sqrt()).abs() < 1e-9);
        assert_eq!((evaluation.within_5_percent, evaluation.within_10_percent), (50.0, 75.0));
        assert_eq!((evaluation.spearman, evaluation.kendall), (Some(1.0), Some(1.0)));
    }

    #[test]
    fn rank_correlations_count_ties() {
        // scipy.stats.kendalltau([1,2,2,3],[1,3,2,4]) = 0.9128709; spearmanr of the same = 0.9486833.
        let evaluation = Evaluation::new(&[(1.0, 1.0), (2.0, 3.0), (2.0, 2.0), (3.0, 4.0)]).unwrap();
        assert!((evaluation.kendall.unwrap() - 0.912_870_9).abs() < 1e-6);
        assert!((evaluation.spearman.unwrap() - 0.948_683_3).abs() < 1e-6);
    }

    #[test]
    fn a_constant_has_no_rank_correlation() {
        assert_eq!(Evaluation::new(&[(1.0, 1.0), (1.0, 2.0)]).unwrap().spearman, None);
    }

    #[test]
    fn unusable_pairs_are_errors() {
        assert_eq!(Evaluation::new(&[]), Err(EvaluationError::Empty));
        assert!(Evaluation::new(&[(f64::NAN, 1.0)]).is_err());
        assert!(Evaluation::new(&[(1.0, 0.0)]).is_err());
    }
}
