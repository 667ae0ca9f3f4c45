//! The loss: a dot that is missed costs more than one that isn't there, and five cost more than one.

use clap::ValueEnum;
use fleetfoot_search::{Criterion, CrossEntropy, SearchError};
use tch::{Kind, Tensor};

/// What a missed dot costs; one too many costs 1.
const MISSED: f64 = 4.0;

/// What networks learn by, and how the answer is read from their outputs. Both are scored by what the answer costs.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Counting {
    /// Output k answers whether there are more than k dots. The loss is the sum of the binary cross entropies (Cheng, Wang,
    /// Pollastri 2008, arXiv 0704.1028), in which a yes that was wanted counts as often as a missed dot costs; the answer is
    /// how many outputs say yes. That is the count whose expected cost is least, where probabilities are right.
    Costs,
    /// Cross entropy, to which all wrong counts are equally wrong; the answer is the most probable count.
    CrossEntropy,
}

impl Criterion for Counting {
    fn name(&self) -> String {
        match self {
            Self::Costs => format!("ordinal cross entropy, a missed dot costs {MISSED}"),
            Self::CrossEntropy => format!("cross entropy, a missed dot costs {MISSED}"),
        }
    }

    fn losses(&self, logits: &Tensor, labels: &Tensor, smoothing: f64) -> Result<Tensor, SearchError> {
        match self {
            Self::Costs => {
                let counts = Tensor::f_arange(logits.size()[1], (Kind::Int64, logits.device()))?;
                let more = labels.f_unsqueeze(1)?.f_gt_tensor(&counts)?.f_to_kind(Kind::Float)?;
                // ln sigmoid(z) is that of yes, ln sigmoid(-z) that of no.
                let yes = logits.f_log_sigmoid()?.f_mul(&more)?.f_mul_scalar(MISSED)?;
                let no = logits.f_neg()?.f_log_sigmoid()?.f_mul(&(1.0 - more))?;
                Ok(yes.f_add(&no)?.f_sum_dim_intlist([1].as_slice(), false, None)?.f_neg()?)
            }
            Self::CrossEntropy => CrossEntropy.losses(logits, labels, smoothing),
        }
    }

    /// 1 for the right count, 0 where all dots of the fullest picture are missed.
    fn scores(&self, logits: &Tensor, labels: &Tensor) -> Result<Tensor, SearchError> {
        let answers = match self {
            Self::Costs => logits.f_gt(0.0)?.f_sum_dim_intlist([1].as_slice(), false, Kind::Int64)?,
            Self::CrossEntropy => logits.f_argmax(1, false)?,
        };
        let too_many = answers.f_sub(labels)?.f_to_kind(Kind::Double)?;
        let missed = too_many.f_neg()?.f_clamp_min(0.0)?;
        let costs = too_many.f_clamp_min(0.0)?.f_add(&missed.f_mul_scalar(MISSED)?)?;
        Ok(costs.f_div_scalar(-dearest(logits.size()[1]))?.f_add_scalar(1.0)?)
    }
}

/// What answers cost on average, by their mean score in percent.
pub fn mean_cost(score_percent: f64, counts: usize) -> f64 {
    (1.0 - score_percent / 100.0) * dearest(counts as i64)
}

/// What the dearest answer costs.
fn dearest(counts: i64) -> f64 {
    MISSED * (counts - 1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_and_scores_are_by_what_an_answer_costs() {
        // Of 0 to 2 dots: surely more than 0, and even odds of more than 1.
        let logits = Tensor::from_slice(&[9.0f32, 0.0, -9.0]).unsqueeze(0);
        let value = |of: fn(&Counting, &Tensor, &Tensor) -> Tensor, label: i64| {
            of(&Counting::Costs, &logits, &Tensor::from_slice(&[label])).double_value(&[0])
        };
        let loss = |label| value(|c, logits, labels| c.losses(logits, labels, 0.0).unwrap(), label);
        let score = |label| value(|c, logits, labels| c.scores(logits, labels).unwrap(), label);
        let half = std::f64::consts::LN_2;
        assert!((loss(1) - half).abs() < 1e-3 && (loss(2) - MISSED * half).abs() < 1e-3, "{} {}", loss(1), loss(2));
        assert!((loss(0) - 9.0 - half).abs() < 1e-3, "{}", loss(0));
        // The answer is 1: one too many, right, one missed.
        for (label, cost) in [(0, 1.0), (1, 0.0), (2, MISSED)] {
            assert!((mean_cost(100.0 * score(label), 3) - cost).abs() < 1e-9, "{label}: {}", score(label));
        }
    }

    #[test]
    fn the_loss_is_least_at_the_answer_whose_expected_cost_is_least() {
        // One output, "more than 0?": yes in 30 % of the cases. Saying yes costs 0.7 on average, saying no 4 * 0.3.
        let loss = |logit: f32| {
            let logits = Tensor::from_slice(&[logit, -20.0]).repeat([10, 1]).reshape([10, 2]);
            let labels = Tensor::from_slice(&[1i64, 1, 1, 0, 0, 0, 0, 0, 0, 0]);
            Counting::Costs.losses(&logits, &labels, 0.0).unwrap().mean(Kind::Double).double_value(&[])
        };
        let best = (-40..40).map(|tenth| tenth as f32 / 10.0).min_by(|a, b| loss(*a).total_cmp(&loss(*b))).unwrap();
        assert!(best > 0.0, "{best}");
    }
}
