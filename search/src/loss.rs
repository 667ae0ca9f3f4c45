//! What a batch's logits are worth.

use tch::Tensor;

use crate::error::SearchError;

/// Mean cross entropy of logits (N x classes) against labels (N), with label smoothing.
pub fn cross_entropy(logits: &Tensor, labels: &Tensor, smoothing: f64) -> Result<Tensor, SearchError> {
    Ok(logits.f_cross_entropy_loss(labels, None::<&Tensor>, tch::Reduction::Mean, -100, smoothing)?)
}

/// Share of logits (N x classes) whose largest is the label's.
pub fn accuracy(logits: &Tensor, labels: &Tensor) -> Result<f64, SearchError> {
    let right = logits.f_argmax(1, false)?.f_eq_tensor(labels)?.f_to_kind(tch::Kind::Double)?;
    Ok(right.f_mean(None)?.f_double_value(&[])?)
}
