//! What is learned from, wherever it comes from.

use std::fmt::Debug;

use rand_chacha::ChaCha8Rng;

use super::{Augmentation, Classes, DatasetError};

/// Labelled examples of one size: images in memory, files that are decoded when they are needed, or data of one's own.
///
/// Several threads read at the same time, in any order, and read an example again in every epoch. What comes out must depend on
/// the index, the augmentation and the generator alone: that is what makes equal seeds give equal runs.
pub trait Examples: Debug + Send + Sync {
    /// Number of examples.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Channels, height and width of an example.
    fn size(&self) -> (usize, usize, usize);

    /// How many classes there are.
    fn classes(&self) -> Classes;

    /// An example's class, below the number of classes. With a loss of one's own (`fleetfoot_search::Criterion`) it may be
    /// something else, such as a quantity in whole steps or the number of an entry in a table of targets; `classes` is then
    /// about the network's outputs.
    fn label(&self, index: usize) -> u16;

    /// Writes an example: C x H x W values, images' in 0..1. With an augmentation it is changed at random as that says, by
    /// the generator that comes along and no other; without, it is what evaluations see. Normalisation isn't done here.
    ///
    /// [`DatasetError::Corrupt`] says that this example can't be used: it is noted, and another takes its place. Any other
    /// error ends the run.
    fn read(
        &self,
        index: usize,
        augmented: Option<(&Augmentation, &mut ChaCha8Rng)>,
        values: &mut [f32],
    ) -> Result<(), DatasetError>;

    /// Hands everything that tells this set from another to `add`: a run goes on only with the examples that it began with.
    fn identify(&self, add: &mut dyn FnMut(&[u8]));

    /// Whether each reading makes the example anew and takes its time (decodes a file, renders a scene), so that several
    /// threads read ahead.
    fn streamed(&self) -> bool {
        true
    }

    /// Mean and standard deviation of each channel, of values as evaluations see them, where they are known; otherwise they
    /// are estimated from a sample ([`Split::channel_statistics`](super::Split::channel_statistics)).
    fn channel_statistics(&self) -> Option<Vec<(f32, f32)>> {
        None
    }
}
