//! One step's loss and gradients of a chain of modules, whole or block by block.

use fleetfoot_space::{Layer, Network};
use tch::{TchError, Tensor, no_grad};

use crate::error::SearchError;
use crate::group::{Exchange, Group, mark};
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
    /// With whom: each rank has images of its own, and all update by the mean of their gradients.
    pub group: &'a Group,
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
/// In a group of several ranks loss and score are means over all of them, and a module is updated when all gradients are
/// there.
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
    let mut exchange = how.group.exchange();
    if parts == 1 {
        if how.group.size() == 1 {
            return step(chain, images, targets, how, &mut Alone(update));
        }
        let mark = mark_of(chain);
        step(chain, images, targets, how, &mut Among { exchange: &mut exchange, mark })?;
    } else {
        let mut sums: Vec<Vec<Tensor>> = chain.iter().map(|_| Vec::new()).collect();
        let (mut start, mut sum) = (0, Learned { loss: 0.0, score: 0.0 });
        for part in 0..parts {
            // As even as can be; each counts by its images.
            let length = (count - start) / (parts - part);
            let (piece, own) = (images.f_narrow(0, start, length)?, targets.part(start, length)?);
            start += length;
            let share = length as f64 / count as f64;
            let learned = step(chain, &piece, &own, how, &mut Parts { sums: &mut sums, share })?;
            sum = Learned { loss: sum.loss + share * learned.loss, score: sum.score + share * learned.score };
        }
        exchange.begin([sum.loss, sum.score], mark_of(chain))?;
        if exchange.means()?[0].is_finite() {
            for (place, gradients) in sums.into_iter().enumerate() {
                exchange.take(place, chain[place].layout(), gradients)?;
            }
        }
    }
    let [loss, score] = exchange.means()?;
    exchange.finish(|place, gradients| {
        // Gradients of a loss that is no number are none, either.
        if loss.is_finite() { Ok(update(chain[place], &gradients)?) } else { Ok(()) }
    })?;
    Ok(Learned { loss, score })
}

/// A mark of what is computed: all ranks' gradients must be of the same tensors.
fn mark_of(chain: &[&mut Module]) -> u64 {
    let parameters = || chain.iter().flat_map(|module| module.parameters());
    let extents = parameters().flat_map(|parameter| parameter.value.size());
    mark(parameters().map(|parameter| parameter.name.as_str()), extents)
}

/// What becomes of a step's loss and gradients.
trait Taker {
    /// Takes loss and score; whether gradients are wanted.
    fn judged(&mut self, own: Learned) -> Result<bool, SearchError>;

    /// Takes a module's gradients; `place` is its place in the chain.
    fn take(&mut self, place: usize, module: &mut Module, gradients: Vec<Tensor>) -> Result<(), SearchError>;
}

/// Modules are updated as soon as their gradients are there.
struct Alone<'a, 'b>(&'a mut Update<'b>);

impl Taker for Alone<'_, '_> {
    fn judged(&mut self, own: Learned) -> Result<bool, SearchError> {
        Ok(own.loss.is_finite())
    }

    fn take(&mut self, _: usize, module: &mut Module, gradients: Vec<Tensor>) -> Result<(), SearchError> {
        Ok((self.0)(module, &gradients)?)
    }
}

/// What one part of a batch gives is added to what others gave.
struct Parts<'a> {
    sums: &'a mut [Vec<Tensor>],
    share: f64,
}

impl Taker for Parts<'_> {
    fn judged(&mut self, own: Learned) -> Result<bool, SearchError> {
        Ok(own.loss.is_finite())
    }

    fn take(&mut self, place: usize, _: &mut Module, gradients: Vec<Tensor>) -> Result<(), SearchError> {
        Ok(accumulate(&mut self.sums[place], gradients, self.share)?)
    }
}

/// All goes to the other ranks, whatever this one's loss: they wait for it.
struct Among<'a, 'b> {
    exchange: &'a mut Exchange<'b>,
    mark: u64,
}

impl Taker for Among<'_, '_> {
    fn judged(&mut self, own: Learned) -> Result<bool, SearchError> {
        self.exchange.begin([own.loss, own.score], self.mark)?;
        Ok(true)
    }

    fn take(&mut self, place: usize, module: &mut Module, gradients: Vec<Tensor>) -> Result<(), SearchError> {
        self.exchange.take(place, module.layout(), gradients)
    }
}

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

/// A rank's share of the slopes by its own images: sums over all ranks are then means.
fn share(slope: Tensor, group: &Group) -> Result<Tensor, TchError> {
    if group.size() == 1 { Ok(slope) } else { slope.f_div_scalar(group.size() as f64) }
}

fn at_once(
    chain: &mut [&mut Module],
    images: &Tensor,
    targets: &Targets,
    how: Backward<'_>,
    taker: &mut dyn Taker,
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
    let wanted = taker.judged(learned)?;
    let mut slope = wanted.then(|| share(slope, how.group)).transpose()?;
    while let (Some(tape), Some(above)) = (tapes.pop(), slope.take()) {
        let (place, module) = (tapes.len(), &mut *chain[tapes.len()]);
        // Nobody asks for the slopes of the images.
        let slopes = tape.backward(module, above, Wanted { by_input: place > 0, ..ALL })?;
        taker.take(place, module, slopes.by_parameters)?;
        slope = slopes.by_input;
    }
    Ok(learned)
}

fn in_blocks(
    chain: &mut [&mut Module],
    images: &Tensor,
    targets: &Targets,
    how: Backward<'_>,
    taker: &mut dyn Taker,
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
    if !taker.judged(learned)? {
        return Ok(learned);
    }
    let slopes = tape.backward(last, share(slope, how.group)?, Wanted { by_input: !inputs.is_empty(), ..ALL })?;
    taker.take(blocks.len(), last, slopes.by_parameters)?;
    let mut slope = slopes.by_input;
    while let (Some(input), Some(above)) = (inputs.pop(), slope.take()) {
        let (place, module) = (inputs.len(), &mut *blocks[inputs.len()]);
        // By the batch's statistics once more, without moving the running ones a second time.
        let (_, tape) = Tape::record(module, &input, Mode::Probe)?;
        drop(input);
        let slopes = tape.backward(module, above, Wanted { by_input: place > 0, ..ALL })?;
        slope = slopes.by_input;
        taker.take(place, module, slopes.by_parameters)?;
    }
    Ok(learned)
}
