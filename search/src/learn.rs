//! One step's loss and gradients of a chain of modules, whole or block by block.

use fleetfoot_space::{Layer, Network};
use tch::{TchError, Tensor, no_grad};

use crate::error::SearchError;
use crate::loss::Criterion;
use crate::mixing::Targets;
use crate::module::{Mode, Module};
use crate::native::Wanted;
use crate::tape::Tape;

/// How a step's gradients are computed.
#[derive(Clone, Copy, Debug)]
pub struct Backward<'a> {
    /// The loss.
    pub criterion: &'a dyn Criterion,
    /// Label smoothing.
    pub smoothing: f64,
    /// Keep only the blocks' inputs and compute each block a second time when its gradients are due: less memory, a forward
    /// pass more (Chen et al., arXiv 1604.06174).
    pub recompute: bool,
    /// Parts that the batch is divided into, computed one after the other; gradients are those of the mean loss. Batch
    /// normalisation sees one part at a time.
    pub parts: usize,
}

/// Parts of a batch that is computed at once: what all runs had before that could be chosen.
pub(crate) fn whole() -> usize {
    1
}

/// Whether a batch can be divided into so many parts, each with an image at least.
pub(crate) fn check_parts(parts: usize, batch: usize) -> Result<(), SearchError> {
    if (1..=batch).contains(&parts) {
        return Ok(());
    }
    Err(SearchError::Settings(format!("{parts} parts of a batch of {batch}: wanted 1 to {batch}")))
}

/// Whether batch normalisation has values to go by where so many images are computed at a time: of a map of one pixel, a single
/// image has no deviation.
pub(crate) fn check_statistics<'a>(
    mut networks: impl Iterator<Item = &'a Network>,
    images: usize,
    options: &str,
) -> Result<(), SearchError> {
    let normalises_pixels = |network: &Network| {
        network.nodes().iter().any(|node| {
            let map = network.shape(node.inputs[0]);
            matches!(node.layer, Layer::BatchNorm { .. }) && map.h * map.w == 1
        })
    };
    if images > 1 || !networks.any(normalises_pixels) {
        return Ok(());
    }
    Err(SearchError::Settings(format!(
        "one image at a time, and batch normalisation of maps of one pixel has no deviation to go by: wanted two at least, by {options}"
    )))
}

/// What a batch gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Learned {
    /// Mean loss.
    pub loss: f64,
    /// Mean score: by accuracy, the share of right answers.
    pub score: f64,
}

/// What is done with the gradients of a module's trainable parameters, in their order.
pub type Update<'a> = dyn FnMut(&mut Module, &[Tensor]) -> Result<(), TchError> + 'a;

/// Loss and gradients of a chain of modules, the first of which takes the images (N x C x H x W) and the last of which gives
/// the logits (N x classes), against the targets of as many images. `update` is given each module once, as soon as its
/// gradients are there, so that only one module's are held at a time (all of them where the batch comes in parts). A loss
/// that is no number updates nothing. BN's running statistics move once a part, whether blocks are computed once or twice.
pub fn learn(
    chain: &mut [&mut Module],
    images: &Tensor,
    targets: &Targets,
    how: Backward<'_>,
    update: &mut Update<'_>,
) -> Result<Learned, SearchError> {
    let count = targets.images()?;
    let parts = (how.parts as i64).clamp(1, count.max(1));
    let step = if how.recompute { in_blocks } else { at_once };
    if parts == 1 {
        return step(chain, images, targets, how, &mut |_, module, gradients| update(module, &gradients));
    }
    let mut sums: Vec<Vec<Tensor>> = chain.iter().map(|_| Vec::new()).collect();
    let (mut start, mut sum) = (0, Learned { loss: 0.0, score: 0.0 });
    for part in 0..parts {
        // As even as can be; each counts by its images.
        let length = (count - start) / (parts - part);
        let (piece, own) = (images.f_narrow(0, start, length)?, targets.part(start, length)?);
        start += length;
        let share = length as f64 / count as f64;
        let mut add = |place: usize, _: &mut Module, gradients| accumulate(&mut sums[place], gradients, share);
        let learned = step(chain, &piece, &own, how, &mut add)?;
        sum = Learned { loss: sum.loss + share * learned.loss, score: sum.score + share * learned.score };
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

/// Loss and score of logits, and the loss' slopes by them.
pub(crate) fn judged(
    criterion: &dyn Criterion,
    logits: &Tensor,
    targets: &Targets,
    smoothing: f64,
) -> Result<(Learned, Tensor), SearchError> {
    let leaf = logits.f_detach()?.f_set_requires_grad(true)?;
    let loss = targets.loss(criterion, &leaf, smoothing)?;
    let slope = Tensor::f_run_backward(&[&loss], &[&leaf], false, false)?.swap_remove(0);
    let score = targets.score(criterion, &leaf)? / targets.images()? as f64;
    Ok((Learned { loss: loss.f_double_value(&[])?, score }, slope))
}

fn at_once(
    chain: &mut [&mut Module],
    images: &Tensor,
    targets: &Targets,
    how: Backward<'_>,
    update: &mut PlaceUpdate<'_>,
) -> Result<Learned, SearchError> {
    let mut tapes = Vec::with_capacity(chain.len());
    let mut x = images.shallow_clone();
    for module in chain.iter() {
        let (y, tape) = Tape::record(module, &x, Mode::Train)?;
        tapes.push(tape);
        x = y;
    }
    let (learned, slope) = judged(how.criterion, &x, targets, how.smoothing)?;
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
    images: &Tensor,
    targets: &Targets,
    how: Backward<'_>,
    update: &mut PlaceUpdate<'_>,
) -> Result<Learned, SearchError> {
    let Some((last, blocks)) = chain.split_last_mut() else {
        return Err(SearchError::Settings("a network without layers".to_owned()));
    };
    let mut inputs = Vec::with_capacity(blocks.len());
    let mut x = images.shallow_clone();
    for module in blocks.iter() {
        let y = no_grad(|| module.forward(&x, Mode::Train))?;
        inputs.push(std::mem::replace(&mut x, y));
    }
    let (logits, tape) = Tape::record(last, &x, Mode::Train)?;
    drop(x);
    let (learned, slope) = judged(how.criterion, &logits, targets, how.smoothing)?;
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
