//! One step's loss and gradients of a chain of modules, whole or block by block.

use tch::{TchError, Tensor, no_grad};

use crate::batches::Batch;
use crate::error::SearchError;
use crate::loss::{accuracy, cross_entropy};
use crate::module::{Mode, Module};
use crate::native::Wanted;
use crate::tape::Tape;

/// How a step's gradients are computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backward {
    /// Label smoothing.
    pub smoothing: f64,
    /// Keep only the blocks' inputs and compute each block a second time when its gradients are due: less memory, a forward
    /// pass more (Chen et al., arXiv 1604.06174).
    pub recompute: bool,
    /// Parts that the batch is divided into, computed one after the other; gradients are those of the mean loss. Batch
    /// normalisation sees one part at a time.
    pub parts: usize,
}

/// What a batch gave.
#[derive(Debug)]
pub struct Learned {
    /// Mean loss.
    pub loss: f64,
    /// Share of right answers.
    pub accuracy: f64,
    /// Gradients of the trainable parameters, module by module, in their order.
    pub gradients: Vec<Tensor>,
}

/// Loss and gradients of a chain of modules, the first of which takes the images and the last of which gives the logits.
/// BN's running statistics move once a part, whether blocks are computed once or twice.
pub fn learn(chain: &[&Module], batch: &Batch, how: Backward) -> Result<Learned, SearchError> {
    let images = batch.labels.size1()?;
    let parts = (how.parts as i64).clamp(1, images.max(1));
    let (mut start, mut sum) = (0, None::<Learned>);
    for part in 0..parts {
        // As even as can be; each counts by its images.
        let length = (images - start) / (parts - part);
        let piece = Batch {
            images: batch.images.f_narrow(0, start, length)?,
            labels: batch.labels.f_narrow(0, start, length)?,
        };
        start += length;
        let learned = if how.recompute { in_blocks(chain, &piece, how) } else { at_once(chain, &piece, how) }?;
        sum = Some(weighted(sum, learned, length as f64 / images as f64)?);
    }
    sum.ok_or_else(|| SearchError::Settings("a batch without images".to_owned()))
}

/// The sum so far and a part by its share.
fn weighted(sum: Option<Learned>, part: Learned, share: f64) -> Result<Learned, TchError> {
    let Some(mut sum) = sum else {
        if share == 1.0 {
            return Ok(part);
        }
        let gradients = part.gradients.iter().map(|gradient| gradient.f_mul_scalar(share));
        let gradients = gradients.collect::<Result<Vec<Tensor>, TchError>>()?;
        return Ok(Learned { loss: share * part.loss, accuracy: share * part.accuracy, gradients });
    };
    sum.loss += share * part.loss;
    sum.accuracy += share * part.accuracy;
    for (sum, part) in sum.gradients.iter_mut().zip(part.gradients) {
        let _ = sum.f_add_(&part.f_mul_scalar(share)?)?;
    }
    Ok(sum)
}

const ALL: Wanted = Wanted { by_input: true, by_weight: true };

/// Loss and accuracy of logits, and the loss' slopes by them.
pub(crate) fn judged(logits: &Tensor, batch: &Batch, smoothing: f64) -> Result<(f64, f64, Tensor), SearchError> {
    let leaf = logits.f_detach()?.f_set_requires_grad(true)?;
    let loss = cross_entropy(&leaf, &batch.labels, smoothing)?;
    let slope = Tensor::f_run_backward(&[&loss], &[&leaf], false, false)?.swap_remove(0);
    Ok((loss.f_double_value(&[])?, accuracy(&leaf, &batch.labels)?, slope))
}

fn at_once(chain: &[&Module], batch: &Batch, how: Backward) -> Result<Learned, SearchError> {
    let mut tapes = Vec::with_capacity(chain.len());
    let mut x = batch.images.shallow_clone();
    for module in chain {
        let (y, tape) = Tape::record(module, &x, Mode::Train)?;
        tapes.push(tape);
        x = y;
    }
    let (loss, accuracy, mut slope) = judged(&x, batch, how.smoothing)?;
    let mut reversed = Vec::with_capacity(chain.len());
    while let Some(tape) = tapes.pop() {
        // Nobody asks for the slopes of the images.
        let slopes = tape.backward(slope, Wanted { by_input: !tapes.is_empty(), ..ALL })?;
        reversed.push(slopes.by_parameters);
        let Some(below) = slopes.by_input else { break };
        slope = below;
    }
    Ok(Learned { loss, accuracy, gradients: reversed.into_iter().rev().flatten().collect() })
}

fn in_blocks(chain: &[&Module], batch: &Batch, how: Backward) -> Result<Learned, SearchError> {
    let Some((last, blocks)) = chain.split_last() else {
        return Err(SearchError::Settings("a network without layers".to_owned()));
    };
    let mut inputs = Vec::with_capacity(blocks.len());
    let mut x = batch.images.shallow_clone();
    for module in blocks {
        let y = no_grad(|| module.forward(&x, Mode::Train))?;
        inputs.push(std::mem::replace(&mut x, y));
    }
    let (logits, tape) = Tape::record(last, &x, Mode::Train)?;
    drop(x);
    let (loss, accuracy, slope) = judged(&logits, batch, how.smoothing)?;
    let slopes = tape.backward(slope, Wanted { by_input: !inputs.is_empty(), ..ALL })?;
    let mut reversed = vec![slopes.by_parameters];
    let mut slope = slopes.by_input;
    for module in blocks.iter().rev() {
        let (Some(input), Some(above)) = (inputs.pop(), slope.take()) else { break };
        // By the batch's statistics once more, without moving the running ones a second time.
        let (_, tape) = Tape::record(module, &input, Mode::Probe)?;
        drop(input);
        let slopes = tape.backward(above, Wanted { by_input: !inputs.is_empty(), ..ALL })?;
        slope = slopes.by_input;
        reversed.push(slopes.by_parameters);
    }
    Ok(Learned { loss, accuracy, gradients: reversed.into_iter().rev().flatten().collect() })
}
