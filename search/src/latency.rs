//! Latency in the loss: what the gates expect, and the two forms of the loss.

use std::fmt;
use std::str::FromStr;

use fleetfoot_predictor::CostMatrix;
use serde::{Deserialize, Serialize};
use tch::{Kind, TchError, Tensor};

use crate::demand::Demand;
use crate::error::SearchError;
use crate::gate_gradient::through_softmax;
use crate::gates::{Gates, Pair};

/// Expected latency of a softmax over every decision's candidates, in ms, as a scalar with gradient:
/// `E = constant + sum_d sum_i softmax(alpha_d)_i cost_di`.
///
/// `alpha` holds one tensor of logits per decision; the result has their kind, on their device.
pub fn expected_latency(alpha: &[Tensor], costs: &CostMatrix) -> Result<Tensor, TchError> {
    let mut total = Tensor::from(costs.constant_ms);
    for (logits, row) in alpha.iter().zip(&costs.rows) {
        let row = Tensor::f_from_slice(row)?.f_to_kind(logits.kind())?.f_to(logits.device())?;
        total = total
            .f_to_kind(logits.kind())?
            .f_to(logits.device())?
            .f_add(&logits.f_softmax(0, logits.kind())?.f_dot(&row)?)?;
    }
    Ok(total)
}

/// Expected amount of drawn pairs, and its gradient by the logits of each pair: within a pair the candidates have the
/// probabilities q, all others 0. Where there is no pair, `gates` have one candidate left, which counts.
pub fn expectation_of_pairs(demand: &Demand, gates: &Gates, pairs: &[Option<Pair>]) -> (f64, Vec<(f64, f64)>) {
    let mut p = gates.probabilities();
    for (p, pair) in p.iter_mut().zip(pairs) {
        if let Some(pair) = pair {
            p.fill(0.0);
            (p[pair.active], p[pair.other]) = pair.q;
        }
    }
    let (expected, slopes) = demand.expectation(&p);
    let gradients = pairs.iter().zip(p.iter().zip(&slopes)).map(|(pair, (p, slopes))| {
        let Some(pair) = pair else { return (0.0, 0.0) };
        let gradient = through_softmax(p, slopes);
        (gradient[pair.active], gradient[pair.other])
    });
    (expected, gradients.collect())
}

/// How latency enters the loss of the architecture parameters.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LatencyLoss {
    /// `CE + lambda (E - ref) / ref`.
    AddLinear,
    /// `alpha CE (ln(80 E / ref) / ln 80)^beta`: unit-free, equal to the authors' `mul#log` where ref = 80 ms.
    MulLog,
}

/// The authors' constants of `mul#log`.
const MUL_LOG_ALPHA: f64 = 0.2;
const MUL_LOG_BETA: f64 = 0.3;
/// The reference (ms) at which the unit-free form equals the authors'.
const MUL_LOG_REFERENCE: f64 = 80.0;

impl fmt::Display for LatencyLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::AddLinear => "add#linear",
            Self::MulLog => "mul#log",
        })
    }
}

impl FromStr for LatencyLoss {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = [Self::AddLinear, Self::MulLog].into_iter().find(|loss| loss.to_string() == text);
        known.ok_or_else(|| format!("'{text}' is no loss: wanted add#linear or mul#log"))
    }
}

impl LatencyLoss {
    /// The authors' weight of latency in `add#linear`.
    pub const LAMBDA: f64 = 0.1;

    /// The loss of a cross entropy and an expected latency E (ms) against a reference (ms), and its derivatives by the
    /// two.
    pub fn apply(
        self,
        ce: f64,
        expected_ms: f64,
        reference_ms: f64,
        lambda: f64,
    ) -> Result<(f64, f64, f64), SearchError> {
        match self {
            Self::AddLinear => {
                let loss = ce + lambda * (expected_ms - reference_ms) / reference_ms;
                Ok((loss, 1.0, lambda / reference_ms))
            }
            Self::MulLog => {
                let scaled = MUL_LOG_REFERENCE * expected_ms / reference_ms;
                if scaled <= 1.0 {
                    return Err(SearchError::LossUndefined { expected_ms, reference_ms });
                }
                let ratio = scaled.ln() / MUL_LOG_REFERENCE.ln();
                let factor = MUL_LOG_ALPHA * ratio.powf(MUL_LOG_BETA);
                let slope = MUL_LOG_ALPHA * MUL_LOG_BETA * ratio.powf(MUL_LOG_BETA - 1.0);
                Ok((factor * ce, factor, ce * slope / (expected_ms * MUL_LOG_REFERENCE.ln())))
            }
        }
    }
}

/// The expected latency of probabilities, in ms, without gradient.
pub fn mean_latency(probabilities: &[Vec<f64>], costs: &CostMatrix) -> f64 {
    let rows = probabilities.iter().zip(&costs.rows);
    costs.constant_ms + rows.map(|(p, row)| p.iter().zip(row).map(|(p, cost)| p * cost).sum::<f64>()).sum::<f64>()
}

/// Logits as double-precision tensors that take gradients.
pub fn logit_tensors(logits: &[Vec<f64>]) -> Vec<Tensor> {
    logits.iter().map(|row| Tensor::from_slice(row).to_kind(Kind::Double).set_requires_grad(true)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::softmax;

    fn costs() -> CostMatrix {
        CostMatrix::new(0.5, vec![vec![1.0, 2.5, 0.0], vec![0.3, 4.0]]).unwrap()
    }

    #[test]
    fn losses_have_the_published_check_values() {
        for (expected, mul, add) in [(60.0, 0.391_934, 1.975), (80.0, 0.4, 2.0), (100.0, 0.406_005, 2.025)] {
            let mul_log = LatencyLoss::MulLog.apply(2.0, expected, 80.0, 0.1).unwrap().0;
            let add_linear = LatencyLoss::AddLinear.apply(2.0, expected, 80.0, 0.1).unwrap().0;
            assert!((mul_log - mul).abs() < 5e-7 && (add_linear - add).abs() < 1e-12);
            // Without units: the same at a reference of 0.2 ms.
            let scaled = LatencyLoss::MulLog.apply(2.0, expected / 400.0, 0.2, 0.1).unwrap().0;
            assert!((scaled - mul_log).abs() < 1e-12);
        }
        assert!(LatencyLoss::MulLog.apply(2.0, 1.0, 80.0, 0.1).is_err());
    }

    #[test]
    fn derivatives_of_the_losses_match_central_differences() {
        let h = 1e-6;
        for loss in [LatencyLoss::AddLinear, LatencyLoss::MulLog] {
            let f = |ce: f64, e: f64| loss.apply(ce, e, 0.2, 0.3).unwrap().0;
            let (_, by_ce, by_e) = loss.apply(1.7, 0.15, 0.2, 0.3).unwrap();
            assert!(((f(1.7 + h, 0.15) - f(1.7 - h, 0.15)) / (2.0 * h) - by_ce).abs() < 1e-6 * by_ce.abs());
            assert!(((f(1.7, 0.15 + h) - f(1.7, 0.15 - h)) / (2.0 * h) - by_e).abs() < 1e-6 * by_e.abs());
        }
    }

    #[test]
    fn the_gradient_of_expected_latency_matches_central_differences() {
        let logits = vec![vec![0.2, -0.4, 1.0], vec![0.0, 0.7]];
        let tensors = logit_tensors(&logits);
        let expected = expected_latency(&tensors, &costs()).unwrap();
        let value = |logits: &[Vec<f64>]| {
            let probabilities: Vec<Vec<f64>> = logits.iter().map(|row| softmax(row)).collect();
            mean_latency(&probabilities, &costs())
        };
        assert!((expected.double_value(&[]) - value(&logits)).abs() < 1e-12);
        let gradients = Tensor::run_backward(&[&expected], &tensors, false, false);
        for (decision, gradient) in gradients.iter().enumerate() {
            for candidate in 0..logits[decision].len() {
                let moved = |h: f64| {
                    let mut logits = logits.clone();
                    logits[decision][candidate] += h;
                    value(&logits)
                };
                let h = 1e-5;
                let difference = (moved(h) - moved(-h)) / (2.0 * h);
                let gradient = gradient.double_value(&[candidate as i64]);
                assert!((gradient - difference).abs() < 1e-6 * difference.abs().max(1e-3), "{gradient} {difference}");
            }
        }
    }

    #[test]
    fn the_analytic_gradient_is_that_of_libtorch_in_single_precision() {
        let logits = vec![vec![0.2, -0.4, 1.0], vec![-2.5, 3.5]];
        let single = |row: &Vec<f64>| Tensor::from_slice(row).to_kind(Kind::Float).set_requires_grad(true);
        let tensors: Vec<Tensor> = logits.iter().map(single).collect();
        let expected = expected_latency(&tensors, &costs()).unwrap();
        assert_eq!(expected.kind(), Kind::Float);
        let gradients = Tensor::run_backward(&[&expected], &tensors, false, false);
        let analytic = costs().expectation(&logits).unwrap();
        assert!((expected.double_value(&[]) - analytic.latency_ms).abs() < 1e-6 * analytic.latency_ms);
        for (gradient, analytic) in gradients.iter().zip(&analytic.gradient) {
            for (candidate, analytic) in analytic.iter().enumerate() {
                assert!(
                    (gradient.double_value(&[candidate as i64]) - analytic).abs() < 1e-6,
                    "{gradient:?} {analytic}"
                );
            }
        }
    }

    #[test]
    fn pairs_have_the_expected_latency_and_gradient_of_their_softmax() {
        let (a, b) = (0.3, -0.6);
        let q = softmax(&[a, b]);
        let pairs = [Some(Pair { active: 1, other: 2, q: (q[0], q[1]) }), None];
        let mut gates = Gates::from_logits(vec![vec![0.0, a, b], vec![9.0, 0.0]]);
        assert_eq!(gates.cut(0.01, 1, |_| false), [(1, 1)]);
        let (expected, gradients) = expectation_of_pairs(&Demand::Sum(costs()), &gates, &pairs);
        let value = |a: f64, b: f64| {
            let q = softmax(&[a, b]);
            0.5 + q[0] * 2.5 + q[1] * 0.0 + 0.3
        };
        assert!((expected - value(a, b)).abs() < 1e-12);
        let h = 1e-6;
        assert!((gradients[0].0 - (value(a + h, b) - value(a - h, b)) / (2.0 * h)).abs() < 1e-8);
        assert!((gradients[0].1 - (value(a, b + h) - value(a, b - h)) / (2.0 * h)).abs() < 1e-8);
        assert_eq!(gradients[1], (0.0, 0.0));
    }
}
