//! What batches are made of, and in which order they come.

use std::time::Duration;

use rand::seq::SliceRandom;
use tch::{TchError, Tensor};

use crate::compute::Compute;
use crate::error::SearchError;
use crate::group::{ALONE, Group};
use crate::native;
use crate::pipeline::{Learning, Order, Pipeline, generator};
use crate::placement::Placement;
use fleetfoot_dataset::{Augmentation, Split};

/// A batch: images N x C x H x W, normalised, and labels N.
#[derive(Debug)]
pub struct Batch {
    /// Images.
    pub images: Tensor,
    /// Labels, as 64-bit integers.
    pub labels: Tensor,
}

impl Batch {
    /// On this device. A copy from pinned memory to a GPU is under way when this returns: what the GPU
    /// computes with it comes behind it.
    pub fn on(&self, compute: Compute) -> Result<Self, TchError> {
        let moved = |tensor: &Tensor| tensor.f_to_device_(compute.device(), tensor.f_kind()?, true, false);
        Ok(Self { images: moved(&self.images)?, labels: moved(&self.labels)? })
    }

    /// In memory from which a device copies by itself; for the CPU it stays where it is.
    pub(crate) fn pinned(self, compute: Compute) -> Result<Self, TchError> {
        match compute {
            Compute::Cpu => Ok(self),
            Compute::Cuda(_) => {
                Ok(Self { images: native::pinned(&self.images)?, labels: native::pinned(&self.labels)? })
            }
        }
    }
}

/// Which images, how normalised.
#[derive(Clone, Debug)]
pub struct Source {
    /// The images.
    pub images: Split,
    /// Mean and standard deviation of each channel, of values in 0..1.
    pub statistics: Vec<(f32, f32)>,
    /// Where batches lie; their images are 32-bit floats.
    pub placement: Placement,
}

impl Source {
    /// Full batches in an epoch.
    pub fn batches(&self, batch: usize) -> usize {
        self.images.len() / batch
    }

    /// All images in order as evaluations see them, in batches of at most this size; those that are corrupt are left out.
    pub fn in_order(&self, batch: usize) -> impl Iterator<Item = Result<Batch, SearchError>> + use<> {
        self.share_in_order(batch, &ALONE)
    }

    /// A rank's share of the same batches, one in so many as there are ranks.
    pub fn share_in_order(
        &self,
        batch: usize,
        group: &Group,
    ) -> impl Iterator<Item = Result<Batch, SearchError>> + use<> {
        let (all, batch) = (self.images.len() as u32, batch.max(1));
        let starts = (0..all).step_by(batch).skip(group.rank()).step_by(group.size());
        let orders = starts.map(move |start| (start..all.min(start.saturating_add(batch as u32))).collect());
        Pipeline::new(self, batch, orders.map(|examples| Order { examples, learning: None }))
    }
}

/// Batches to learn from, one after the other, epoch by epoch, from any step on.
///
/// An epoch's order depends on the seed and the epoch only, what happens to an image only on these and its number in the
/// epoch: a run can be taken up at any step. The last batch of an epoch is left out if it isn't full. A corrupt image's place
/// takes another, drawn by the generator of that place.
#[derive(Debug)]
pub struct Feed {
    source: Source,
    seed: u64,
    batch: usize,
    augmentation: Option<Augmentation>,
    /// Which part of each batch is made, of how many.
    part: (usize, usize),
    end: Option<usize>,
    under_way: Option<(usize, Pipeline)>,
    waited: Duration,
}

impl Feed {
    /// Batches of a source in the order that the seed gives; without an augmentation, of images as evaluations see them.
    pub fn new(source: Source, seed: u64, batch: usize, augmentation: Option<Augmentation>) -> Self {
        Self { source, seed, batch, augmentation, part: (0, 1), end: None, under_way: None, waited: Duration::ZERO }
    }

    /// A rank's share of the same batches, which it must be possible to divide evenly. What happens to an image is what would
    /// happen to it if nobody shared.
    pub fn share(self, group: &Group) -> Self {
        Self { part: (group.rank(), group.size()), ..self }
    }

    /// The same, where batches behind so many steps aren't made ahead: what is found to be corrupt is then, at the end, what is
    /// in these, however far ahead the threads were.
    pub fn until(self, steps: usize) -> Self {
        Self { end: Some(steps), ..self }
    }

    /// Where the batches come from.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Full batches in an epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.source.batches(self.batch)
    }

    /// Seconds that batches were waited for.
    pub fn waited_seconds(&self) -> f64 {
        let under_way = self.under_way.as_ref().map_or(Duration::ZERO, |(_, pipeline)| pipeline.waited());
        (self.waited + under_way).as_secs_f64()
    }

    /// The batch of a step, the first being 0. Steps are best asked for in order: the next ones are under way already.
    pub fn batch(&mut self, step: usize) -> Result<Batch, SearchError> {
        if self.steps_per_epoch() == 0 {
            return Err(SearchError::Settings("fewer images than a batch holds: lower --batch".to_owned()));
        }
        if self.under_way.as_ref().is_none_or(|(next, _)| *next != step) || self.end == Some(step) {
            self.rewind();
        }
        let left = self.end.and_then(|end| end.checked_sub(step)).filter(|&left| left > 0).unwrap_or(usize::MAX);
        let (next, pipeline) = self.under_way.get_or_insert_with(|| {
            let orders = orders(self.source.images.len(), self.seed, step, (self.batch, self.part), self.augmentation);
            (step, Pipeline::new(&self.source, self.batch / self.part.1, orders.take(left)))
        });
        *next += 1;
        let batch = pipeline.next().unwrap_or(Err(SearchError::Panicked));
        if batch.is_err() {
            self.rewind();
        }
        batch
    }

    /// Forgets what is under way.
    pub fn rewind(&mut self) {
        if let Some((_, pipeline)) = self.under_way.take() {
            self.waited += pipeline.waited();
        }
    }
}

/// A part of the batches of a set of so many images from a step on, without end.
fn orders(
    images: usize,
    seed: u64,
    first: usize,
    (batch, (part, parts)): (usize, (usize, usize)),
    augmentation: Option<Augmentation>,
) -> impl Iterator<Item = Order> + Send {
    let (per_epoch, share) = (images / batch, batch / parts);
    let (mut of, mut order) = (None, Vec::new());
    (first..).map(move |step| {
        let (epoch, start) = ((step / per_epoch) as u64, step % per_epoch * batch + part * share);
        if of != Some(epoch) {
            order = (0..images as u32).collect();
            order.shuffle(&mut generator(seed, epoch, u64::MAX));
            of = Some(epoch);
        }
        let learning = Some(Learning { seed, epoch, first: start as u64, augmentation });
        Order { examples: order[start..start + share].to_vec(), learning }
    })
}
