//! One step's loss and gradients of a chain of modules, whole or block by block.

use tch::{Kind, TchError, Tensor, no_grad};

use crate::batches::Batch;
use crate::error::SearchError;
use crate::loss::{accuracy, cross_entropy};
use crate::module::{Mode, Module, Parameter};

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

fn trainable(module: &Module) -> Vec<&Tensor> {
    let trainable = module.parameters().iter().filter(|parameter: &&Parameter| parameter.trainable);
    trainable.map(|parameter| &parameter.value).collect()
}

fn at_once(chain: &[&Module], batch: &Batch, how: Backward) -> Result<Learned, SearchError> {
    let mut x = batch.images.shallow_clone();
    for module in chain {
        x = module.forward(&x, Mode::Train)?;
    }
    let loss = cross_entropy(&x, &batch.labels, how.smoothing)?;
    let values: Vec<&Tensor> = chain.iter().flat_map(|module| trainable(module)).collect();
    let gradients = Tensor::f_run_backward(&[&loss], &values, false, false)?;
    Ok(Learned { loss: loss.f_double_value(&[])?, accuracy: accuracy(&x, &batch.labels)?, gradients })
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
    // Behind the images, every block's input has a gradient.
    let leaf = |x: &Tensor, index: usize| x.f_detach()?.f_set_requires_grad(index > 0);
    let x = leaf(&x, blocks.len())?;
    let logits = last.forward(&x, Mode::Train)?;
    let loss = cross_entropy(&logits, &batch.labels, how.smoothing)?;
    let (mut slope, gradients) = backward(&loss, last, &x)?;
    let mut reversed = vec![gradients];
    let (loss, accuracy) = (loss.f_double_value(&[])?, accuracy(&logits, &batch.labels)?);
    for (index, module) in blocks.iter().enumerate().rev() {
        let Some(input) = inputs.pop() else { break };
        let Some(above) = slope.take() else { break };
        let x = leaf(&input, index)?;
        // The batch's statistics once more, without moving the running ones a second time.
        let y = module.forward(&x, Mode::Probe)?;
        // Its gradient by y is exactly what comes from above.
        let pulled = y.f_mul(&above)?.f_sum(Kind::Float)?;
        let (below, gradients) = backward(&pulled, module, &x)?;
        slope = below;
        reversed.push(gradients);
    }
    Ok(Learned { loss, accuracy, gradients: reversed.into_iter().rev().flatten().collect() })
}

/// A scalar's gradients by a module's input, where that has one, and by its trainable parameters.
fn backward(scalar: &Tensor, module: &Module, x: &Tensor) -> Result<(Option<Tensor>, Vec<Tensor>), TchError> {
    let mut values = trainable(module);
    let has_slope = x.requires_grad();
    if has_slope {
        values.push(x);
    }
    let mut gradients = Tensor::f_run_backward(&[scalar], &values, false, false)?;
    let slope = if has_slope { gradients.pop() } else { None };
    Ok((slope, gradients))
}
