//! What networks learn by and what they are judged by: a loss and a score.

use std::fmt;

use tch::{Kind, Reduction, Tensor};

use crate::error::SearchError;

/// A loss, and what an answer is worth.
///
/// Weights learn by it, and gates; networks are derived, held against rivals, chosen among finalists and tested by it.
/// [`CrossEntropy`] is what a [`Search`](crate::Search) and a [`Training`](crate::Training) have unless they are given another
/// one.
///
/// Both methods are given logits (N x outputs; a space's `classes` says how many outputs) and labels (N, 64-bit integers, as
/// [`Examples::label`](crate::Examples::label) says them), and give a value for each image (N). A label is what the criterion
/// takes it for: a class, an order, a step of a quantity, or the number of an entry in a table of targets that the criterion
/// holds. All that enters a loss must be made of libtorch's operators, through which its gradient goes. Several threads may
/// call at a time; numbers that it needs are best held as such and made tensors of when they are needed, since tensors can't
/// be shared among threads.
pub trait Criterion: fmt::Debug + Send + Sync {
    /// Its name, with all that it depends on, such as `focal loss, gamma 2`: a run goes on only with what it began with.
    fn name(&self) -> String;

    /// Each image's loss (N). The mean is what is learned. `smoothing` is the label smoothing of the settings where weights
    /// learn, and 0 where gates do and where anything is judged; a loss that has no use for it leaves it aside.
    fn losses(&self, logits: &Tensor, labels: &Tensor, smoothing: f64) -> Result<Tensor, SearchError>;

    /// Each image's score (N), 0 for an answer that is worth nothing to 1 for one that can't be better; means are told in
    /// percent, as accuracy is. REINFORCE's reward is made of it, and so is what a network may gain by using all that it
    /// may. Unless it is said otherwise: 1 where the largest logit is the label's.
    fn scores(&self, logits: &Tensor, labels: &Tensor) -> Result<Tensor, SearchError> {
        Ok(logits.f_argmax(1, false)?.f_eq_tensor(labels)?)
    }
}

/// Cross entropy of the softmax with label smoothing (Szegedy et al., CVPR 2016), and accuracy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CrossEntropy;

impl CrossEntropy {
    /// The loss of runs whose records don't name any: there was no other.
    pub(crate) fn default_name() -> String {
        Self.name()
    }
}

impl Criterion for CrossEntropy {
    fn name(&self) -> String {
        "cross entropy".to_owned()
    }

    fn losses(&self, logits: &Tensor, labels: &Tensor, smoothing: f64) -> Result<Tensor, SearchError> {
        Ok(logits.f_cross_entropy_loss(labels, None::<&Tensor>, Reduction::None, -100, smoothing)?)
    }
}

/// Mean cross entropy of logits (N x classes) against labels (N), with label smoothing.
pub fn cross_entropy(logits: &Tensor, labels: &Tensor, smoothing: f64) -> Result<Tensor, SearchError> {
    mean_loss(&CrossEntropy, logits, labels, smoothing)
}

/// Mean loss of logits (N x outputs) against labels (N).
pub(crate) fn mean_loss(
    criterion: &dyn Criterion,
    logits: &Tensor,
    labels: &Tensor,
    smoothing: f64,
) -> Result<Tensor, SearchError> {
    let losses = criterion.losses(logits, labels, smoothing)?;
    check(criterion, "losses", &losses, labels)?;
    if logits.requires_grad() && !losses.requires_grad() {
        let what = "its losses don't come from the logits by libtorch's operators: they have no gradient".to_owned();
        return Err(SearchError::Criterion { name: criterion.name(), what });
    }
    Ok(losses.f_mean(None)?)
}

/// Sum of the scores of logits (N x outputs) against labels (N).
pub(crate) fn total_score(criterion: &dyn Criterion, logits: &Tensor, labels: &Tensor) -> Result<f64, SearchError> {
    let scores = criterion.scores(&logits.f_detach()?, labels)?;
    check(criterion, "scores", &scores, labels)?;
    Ok(scores.f_sum(Kind::Double)?.f_double_value(&[])?)
}

fn check(criterion: &dyn Criterion, what: &str, values: &Tensor, labels: &Tensor) -> Result<(), SearchError> {
    let (found, wanted) = (values.size(), labels.size());
    if found == wanted {
        return Ok(());
    }
    let what = format!("its {what} have the extents {found:?}, wanted {wanted:?}: one for each image");
    Err(SearchError::Criterion { name: criterion.name(), what })
}
