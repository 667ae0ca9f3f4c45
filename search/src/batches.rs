//! Batches of images, prepared ahead on another thread.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{TchError, Tensor};

use crate::error::SearchError;
use crate::layout::Layout;
use fleetfoot_dataset::Images;

/// Batches that are ready before they are asked for.
const AHEAD: usize = 4;

/// What is done to training images at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Augmentation {
    /// Largest shift in pixels, in both directions; what comes in from outside is 0.
    pub shift: usize,
    /// Whether every second image is mirrored.
    pub flip: bool,
}

impl Augmentation {
    /// Images as they are.
    pub const NONE: Self = Self { shift: 0, flip: false };
}

/// A batch: images N x C x H x W, normalised, and labels N.
#[derive(Debug)]
pub struct Batch {
    /// Images.
    pub images: Tensor,
    /// Labels, as 64-bit integers.
    pub labels: Tensor,
}

/// Which images of a set, how normalised.
#[derive(Clone, Debug)]
pub struct Source {
    /// The images.
    pub images: Arc<Images>,
    /// Those that are used.
    pub indices: Arc<Vec<usize>>,
    /// Mean and standard deviation of each channel, of values in 0..1.
    pub statistics: Vec<(f32, f32)>,
    /// Memory order of the batches.
    pub layout: Layout,
}

/// An epoch's batches, in the order that the seed gives; the last one is left out if it isn't full.
#[derive(Debug)]
pub struct Epoch {
    ready: Receiver<(Vec<f32>, Vec<i64>)>,
    dims: [i64; 3],
    layout: Layout,
}

impl Source {
    /// Full batches in an epoch.
    pub fn batches(&self, batch: usize) -> usize {
        self.indices.len() / batch
    }

    /// The batches of an epoch from the `first` on. What happens to an image depends only on the seed, the epoch and
    /// the batch's number: an epoch can be taken up in its middle.
    pub fn epoch(&self, seed: u64, epoch: u64, first: usize, batch: usize, augmentation: Augmentation) -> Epoch {
        let mut order = (*self.indices).clone();
        order.shuffle(&mut generator(seed, epoch, u64::MAX));
        let (source, total) = (self.clone(), self.batches(batch));
        let (sender, ready) = sync_channel(AHEAD);
        thread::spawn(move || {
            for number in first..total {
                let mut rng = generator(seed, epoch, number as u64);
                let chosen = &order[number * batch..(number + 1) * batch];
                if sender.send(source.prepare(chosen, augmentation, &mut rng)).is_err() {
                    return;
                }
            }
        });
        let Images { channels, height, width, .. } = *self.images;
        Epoch { ready, dims: [channels, height, width].map(|extent| extent as i64), layout: self.layout }
    }

    /// All images in order, in batches of at most this size, as they are.
    pub fn in_order(&self, batch: usize) -> impl Iterator<Item = Result<Batch, TchError>> + '_ {
        let Images { channels, height, width, .. } = *self.images;
        let dims = [channels, height, width].map(|extent| extent as i64);
        self.indices.chunks(batch).map(move |chosen| {
            let mut unused = generator(0, 0, 0);
            tensors(self.prepare(chosen, Augmentation::NONE, &mut unused), dims, self.layout)
        })
    }

    fn prepare(&self, chosen: &[usize], augmentation: Augmentation, rng: &mut ChaCha8Rng) -> (Vec<f32>, Vec<i64>) {
        let Images { channels, height, width, .. } = *self.images;
        let mut values = vec![0.0; chosen.len() * self.images.image_len()];
        for (&index, target) in chosen.iter().zip(values.chunks_exact_mut(self.images.image_len())) {
            let reach = augmentation.shift as i64;
            let (dy, dx) = (rng.random_range(-reach..=reach), rng.random_range(-reach..=reach));
            let mirror = augmentation.flip && rng.random_bool(0.5);
            let image = self.images.image(index);
            for channel in 0..channels {
                let (mean, std) = self.statistics[channel];
                let outside = -mean / std;
                let plane = &image[channel * height * width..][..height * width];
                for y in 0..height {
                    let row = &mut target[(channel * height + y) * width..][..width];
                    let Some(from) = inside(y, dy, height) else {
                        row.fill(outside);
                        continue;
                    };
                    for (x, value) in row.iter_mut().enumerate() {
                        let x = if mirror { width - 1 - x } else { x };
                        *value = inside(x, dx, width)
                            .map_or(outside, |x| (f32::from(plane[from * width + x]) / 255.0 - mean) / std);
                    }
                }
            }
        }
        let labels = chosen.iter().map(|&index| i64::from(self.images.labels[index])).collect();
        (values, labels)
    }
}

/// Batches one after the other, epoch by epoch, from any step on.
#[derive(Debug)]
pub struct Feed {
    source: Source,
    seed: u64,
    batch: usize,
    augmentation: Augmentation,
    under_way: Option<(usize, Epoch)>,
}

impl Feed {
    /// Batches of a source in the order that the seed gives.
    pub fn new(source: Source, seed: u64, batch: usize, augmentation: Augmentation) -> Self {
        Self { source, seed, batch, augmentation, under_way: None }
    }

    /// Where the batches come from.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Full batches in an epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.source.batches(self.batch)
    }

    /// The batch of a step, the first being 0. Steps are asked for in order; after [`rewind`](Self::rewind), from any on.
    pub fn batch(&mut self, step: usize) -> Result<Batch, SearchError> {
        let ended = || SearchError::Settings("fewer images than a batch holds: lower --batch".to_owned());
        let per_epoch = self.steps_per_epoch();
        if per_epoch == 0 {
            return Err(ended());
        }
        let (epoch, position) = (step / per_epoch, step % per_epoch);
        if self.under_way.as_ref().is_none_or(|(number, _)| *number != epoch) {
            let batches = self.source.epoch(self.seed, epoch as u64, position, self.batch, self.augmentation);
            self.under_way = Some((epoch, batches));
        }
        let batch = self.under_way.as_mut().and_then(|(_, batches)| batches.next());
        Ok(batch.ok_or_else(ended)??)
    }

    /// Forgets the epoch under way: the next step may be any.
    pub fn rewind(&mut self) {
        self.under_way = None;
    }
}

fn inside(at: usize, shift: i64, extent: usize) -> Option<usize> {
    at.checked_add_signed(shift as isize).filter(|&at| at < extent)
}

/// The generator of one batch of one epoch.
fn generator(seed: u64, epoch: u64, batch: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&epoch.to_le_bytes());
    key[16..24].copy_from_slice(&batch.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

fn tensors((values, labels): (Vec<f32>, Vec<i64>), dims: [i64; 3], layout: Layout) -> Result<Batch, TchError> {
    let [c, h, w] = dims;
    let images = Tensor::f_from_slice(&values)?.f_reshape([labels.len() as i64, c, h, w])?;
    Ok(Batch { images: layout.arrange(&images)?, labels: Tensor::f_from_slice(&labels)? })
}

impl Iterator for Epoch {
    type Item = Result<Batch, TchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let prepared = self.ready.recv().ok()?;
        Some(tensors(prepared, self.dims, self.layout))
    }
}
