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
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Learned {
    /// Mean loss.
    pub loss: f64,
    /// Share of right answers.
    pub accuracy: f64,
}

/// What is done with the gradients of a module's trainable parameters, in their order.
pub type Update<'a> = dyn FnMut(&mut Module, &[Tensor]) -> Result<(), TchError> + 'a;

/// Loss and gradients of a chain of modules, the first of which takes the images and the last of which gives the logits.
/// `update` is given each module once, as soon as its gradients are there, so that only one module's are held at a time (all
/// of them where the batch comes in parts). A loss that is no number updates nothing. BN's running statistics move once a
/// part, whether blocks are computed once or twice.
pub fn learn(
    chain: &mut [&mut Module],
    batch: &Batch,
    how: Backward,
    update: &mut Update<'_>,
) -> Result<Learned, SearchError> {
    let images = batch.labels.size1()?;
    let parts = (how.parts as i64).clamp(1, images.max(1));
    let step = |chain: &mut [&mut Module], piece: &Batch, update: &mut PlaceUpdate<'_>| match how.recompute {
        true => in_blocks(chain, piece, how, update),
        false => at_once(chain, piece, how, update),
    };
    if parts == 1 {
        return step(chain, batch, &mut |_, module, gradients| update(module, &gradients));
    }
    let mut sums: Vec<Vec<Tensor>> = chain.iter().map(|_| Vec::new()).collect();
    let (mut start, mut sum) = (0, Learned { loss: 0.0, accuracy: 0.0 });
    for part in 0..parts {
        // As even as can be; each counts by its images.
        let length = (images - start) / (parts - part);
        let piece = Batch {
            images: batch.images.f_narrow(0, start, length)?,
            labels: batch.labels.f_narrow(0, start, length)?,
        };
        start += length;
        let share = length as f64 / images as f64;
        let learned = step(chain, &piece, &mut |place, _, gradients| accumulate(&mut sums[place], gradients, share))?;
        sum = Learned { loss: sum.loss + share * learned.loss, accuracy: sum.accuracy + share * learned.accuracy };
    }
    if sum.loss.is_finite() {
        for (module, gradients) in chain.iter_mut().zip(&sums) {
            update(module, gradients)?;
        }
    }
    Ok(sum)
}

/// As [`Update`], with the module's place in the chain.
type PlaceUpdate<'a> = dyn FnMut(usize, &mut Module, Vec<Tensor>) -> Result<(), TchError> + 'a;

fn accumulate(sums: &mut Vec<Tensor>, gradients: Vec<Tensor>, share: f64) -> Result<(), TchError> {
    for (index, gradient) in gradients.into_iter().enumerate() {
        let mut part = gradient;
        let part = part.f_mul_scalar_(share)?;
        match sums.get_mut(index) {
            Some(sum) => drop(sum.f_add_(&part)?),
            None => sums.push(part),
        }
    }
    Ok(())
}

const ALL: Wanted = Wanted { by_input: true, by_weight: true };

/// Loss and accuracy of logits, and the loss' slopes by them.
pub(crate) fn judged(logits: &Tensor, batch: &Batch, smoothing: f64) -> Result<(Learned, Tensor), SearchError> {
    let leaf = logits.f_detach()?.f_set_requires_grad(true)?;
    let loss = cross_entropy(&leaf, &batch.labels, smoothing)?;
    let slope = Tensor::f_run_backward(&[&loss], &[&leaf], false, false)?.swap_remove(0);
    Ok((Learned { loss: loss.f_double_value(&[])?, accuracy: accuracy(&leaf, &batch.labels)? }, slope))
}

fn at_once(
    chain: &mut [&mut Module],
    batch: &Batch,
    how: Backward,
    update: &mut PlaceUpdate<'_>,
) -> Result<Learned, SearchError> {
    let mut tapes = Vec::with_capacity(chain.len());
    let mut x = batch.images.shallow_clone();
    for module in chain.iter() {
        let (y, tape) = Tape::record(module, &x, Mode::Train)?;
        tapes.push(tape);
        x = y;
    }
    let (learned, slope) = judged(&x, batch, how.smoothing)?;
    drop(x);
    let mut slope = Some(slope).filter(|_| learned.loss.is_finite());
    while let (Some(tape), Some(above)) = (tapes.pop(), slope.take()) {
        let (place, module) = (tapes.len(), &mut *chain[tapes.len()]);
        // Nobody asks for the slopes of the images.
        let slopes = tape.backward(module, above, Wanted { by_input: place > 0, ..ALL })?;
        update(place, module, slopes.by_parameters)?;
        slope = slopes.by_input;
    }
    Ok(learned)
}

fn in_blocks(
    chain: &mut [&mut Module],
    batch: &Batch,
    how: Backward,
    update: &mut PlaceUpdate<'_>,
) -> Result<Learned, SearchError> {
    let Some((last, blocks)) = chain.split_last_mut() else {
        return Err(SearchError::Settings("a network without layers".to_owned()));
    };
    let mut inputs = Vec::with_capacity(blocks.len());
    let mut x = batch.images.shallow_clone();
    for module in blocks.iter() {
        let y = no_grad(|| module.forward(&x, Mode::Train))?;
        inputs.push(std::mem::replace(&mut x, y));
    }
    let (logits, tape) = Tape::record(last, &x, Mode::Train)?;
    drop(x);
    let (learned, slope) = judged(&logits, batch, how.smoothing)?;
    if !learned.loss.is_finite() {
        return Ok(learned);
    }
    let slopes = tape.backward(last, slope, Wanted { by_input: !inputs.is_empty(), ..ALL })?;
    update(blocks.len(), last, slopes.by_parameters)?;
    let mut slope = slopes.by_input;
    while let (Some(input), Some(above)) = (inputs.pop(), slope.take()) {
        let (place, module) = (inputs.len(), &mut *blocks[inputs.len()]);
        // By the batch's statistics once more, without moving the running ones a second time.
        let (_, tape) = Tape::record(module, &input, Mode::Probe)?;
        drop(input);
        let slopes = tape.backward(module, above, Wanted { by_input: place > 0, ..ALL })?;
        slope = slopes.by_input;
        update(place, module, slopes.by_parameters)?;
    }
    Ok(learned)
}
