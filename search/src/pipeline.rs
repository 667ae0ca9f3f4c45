//! Batches that are made ahead, by several threads, and handed over in order.
//!
//! Workers take pieces of batches, one example each where examples are decoded, and a last thread puts them together, so that
//! whoever learns receives finished tensors. Those for a GPU are ready in memory that it copies from by itself, and are copied
//! when they are asked for: batches that are ahead take none of its memory. What is in a batch depends on what was asked for alone, never on the threads.

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use fleetfoot_dataset::{Augmentation, cores};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tch::{TchError, Tensor};

use crate::batches::{Batch, Source};
use crate::compute::Compute;
use crate::error::SearchError;
use crate::layout::Layout;
use crate::placement::Placement;

/// Examples that are ready before they are asked for, in at least two batches.
const AHEAD: usize = 256;
/// Parts that are being made or wait for others of their batch, beyond a batch's: for each worker so many.
const IN_HAND: usize = 4;

/// A batch to be made.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    /// Which examples.
    pub examples: Vec<u32>,
    /// How; `None`: as evaluations see them, without those that are corrupt.
    pub learning: Option<Learning>,
}

/// How a batch to learn from is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Learning {
    pub seed: u64,
    pub epoch: u64,
    /// The first example's number in the epoch.
    pub first: u64,
    pub augmentation: Option<Augmentation>,
}

/// Batches in the order in which they are asked for.
#[derive(Debug)]
pub(crate) struct Pipeline {
    ready: Receiver<Result<Batch, SearchError>>,
    compute: Compute,
    waited: Duration,
}

/// A part of a batch to be made.
struct Task {
    batch: usize,
    range: Range<usize>,
    order: Arc<Order>,
}

/// A part of a batch.
struct Piece {
    batch: usize,
    start: usize,
    /// Examples of the whole batch, and of this part where all could be read.
    of: usize,
    covers: usize,
    made: Result<Made, SearchError>,
}

/// Values and labels.
type Made = (Vec<f32>, Vec<i64>);

/// Tasks in order, and leave to take one: as many as parts may be in hand.
struct Tasks<I> {
    tasks: I,
    leave: Receiver<()>,
}

impl<I: Iterator<Item = Task>> Iterator for Tasks<I> {
    type Item = Task;

    fn next(&mut self) -> Option<Task> {
        self.leave.recv().ok()?;
        self.tasks.next()
    }
}

impl Pipeline {
    /// Batches as ordered, each of at most `batch` examples.
    pub fn new(source: &Source, batch: usize, orders: impl Iterator<Item = Order> + Send + 'static) -> Self {
        let batch = batch.max(1);
        // Small images in memory are made faster than they are handed from thread to thread.
        let (workers, piece) = if source.images.streamed() { (cores(), 1) } else { (1, batch) };
        let (sender, ready) = sync_channel((AHEAD / batch).clamp(2, 16));
        let ((done, pieces), (give_leave, leave)) = (channel(), channel());
        (0..batch.div_ceil(piece) + IN_HAND * workers).for_each(|_| give(&give_leave));
        let tasks = Arc::new(Mutex::new(Tasks { tasks: tasks(orders, piece), leave }));
        for _ in 0..workers {
            let (tasks, done, source) = (Arc::clone(&tasks), done.clone(), source.clone());
            thread::spawn(move || work(&*tasks, &source, &done));
        }
        let (size, placement) = (source.images.size(), source.placement);
        thread::spawn(move || assemble(&pieces, size, placement, &give_leave, &sender));
        Self { ready, compute: placement.compute, waited: Duration::ZERO }
    }

    /// How long batches were waited for.
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

impl Iterator for Pipeline {
    type Item = Result<Batch, SearchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let asked = Instant::now();
        let batch = self.ready.recv().ok();
        self.waited += asked.elapsed();
        batch.map(|batch| Ok(batch?.on(self.compute)?))
    }
}

/// The parts of batches, one after the other.
fn tasks(orders: impl Iterator<Item = Order> + Send, piece: usize) -> impl Iterator<Item = Task> + Send {
    orders.enumerate().flat_map(move |(batch, order)| {
        let order = Arc::new(order);
        let length = order.examples.len();
        (0..length).step_by(piece).map(move |start| Task {
            batch,
            range: start..(start + piece).min(length),
            order: Arc::clone(&order),
        })
    })
}

/// Makes parts until there are none left or nobody wants them.
fn work(tasks: &Mutex<impl Iterator<Item = Task>>, source: &Source, done: &Sender<Piece>) {
    loop {
        // The guard is gone before the part is made.
        let Ok(Some(task)) = tasks.lock().map(|mut tasks| tasks.next()) else { return };
        let Task { batch, range, order } = task;
        let (start, covers, of) = (range.start, range.len(), order.examples.len());
        // Whoever waits for this part must hear of it, whatever an implementation of `Examples` does.
        let made = catch_unwind(AssertUnwindSafe(|| make(source, &order, range)));
        let made = made.unwrap_or(Err(SearchError::Panicked));
        let failed = made.is_err();
        if done.send(Piece { batch, start, of, covers, made }).is_err() || failed {
            return;
        }
    }
}

/// Reads, normalises and arranges some of a batch's examples.
fn make(source: &Source, order: &Order, range: Range<usize>) -> Result<Made, SearchError> {
    let (channels, height, width) = source.images.size();
    let length = channels * height * width;
    let mut example = vec![0.0; length];
    let (mut values, mut labels) = (vec![0.0; range.len() * length], Vec::with_capacity(range.len()));
    for position in range {
        let index = order.examples[position] as usize;
        let label = match order.learning {
            Some(Learning { seed, epoch, first, augmentation }) => {
                let mut rng = generator(seed, epoch, first + position as u64);
                source.images.read_or_another(index, augmentation.as_ref(), &mut rng, &mut example)?
            }
            None if source.images.read(index, None, &mut example)? => source.images.label(index),
            None => continue,
        };
        let target = &mut values[labels.len() * length..][..length];
        let interleaved = is_interleaved(source.placement.layout, channels);
        for ((channel, plane), (mean, std)) in example.chunks_exact(height * width).enumerate().zip(&source.statistics)
        {
            let normalised = plane.iter().map(|value| (value - mean) / std);
            if interleaved {
                let targets = target[channel..].iter_mut().step_by(channels);
                targets.zip(normalised).for_each(|(target, value)| *target = value);
            } else {
                let targets = &mut target[channel * height * width..];
                targets.iter_mut().zip(normalised).for_each(|(target, value)| *target = value);
            }
        }
        labels.push(i64::from(label));
    }
    values.truncate(labels.len() * length);
    Ok((values, labels))
}

/// Whether a batch's values are made H x W x C: with one channel both orders are the same, and libtorch takes it for NCHW.
fn is_interleaved(layout: Layout, channels: usize) -> bool {
    layout == Layout::ChannelsLast && channels > 1
}

/// Puts parts together and hands batches over in order, until nobody wants them or one has failed.
fn assemble(
    pieces: &Receiver<Piece>,
    size: (usize, usize, usize),
    placement: Placement,
    give_leave: &Sender<()>,
    ready: &SyncSender<Result<Batch, SearchError>>,
) {
    let mut waiting: BTreeMap<usize, Vec<Piece>> = BTreeMap::new();
    let mut next = 0;
    for piece in pieces {
        waiting.entry(piece.batch).or_default().push(piece);
        while let Some(parts) = waiting.remove(&next) {
            if !is_whole(&parts) {
                waiting.insert(next, parts);
                break;
            }
            next += 1;
            let count = parts.len();
            let batch =
                join(parts).and_then(|made| Ok(tensors(made, size, placement.layout)?.pinned(placement.compute)?));
            // Where all examples of an evaluation's batch are corrupt there is nothing to hand over.
            let empty = batch.as_ref().is_ok_and(|batch| batch.labels.numel() == 0);
            let failed = batch.is_err();
            if (!empty && ready.send(batch).is_err()) || failed {
                return;
            }
            (0..count).for_each(|_| give(give_leave));
        }
    }
}

/// Gives leave to take one task more. Whether any worker is left to take it doesn't matter.
fn give(leave: &Sender<()>) {
    let _ = leave.send(());
}

/// Whether all parts of a batch are there, or one that failed.
fn is_whole(parts: &[Piece]) -> bool {
    let covered: usize = parts.iter().map(|part| part.covers).sum();
    parts.iter().any(|part| part.made.is_err() || covered == part.of)
}

/// A whole batch of its parts.
fn join(mut parts: Vec<Piece>) -> Result<Made, SearchError> {
    parts.sort_by_key(|part| part.start);
    let mut parts = parts.into_iter().map(|part| part.made);
    let (mut values, mut labels) = parts.next().transpose()?.unwrap_or_default();
    values.reserve_exact(values.len() * parts.len());
    for part in parts {
        let (more_values, more_labels) = part?;
        values.extend(more_values);
        labels.extend(more_labels);
    }
    Ok((values, labels))
}

fn tensors(
    (values, labels): Made,
    (channels, height, width): (usize, usize, usize),
    layout: Layout,
) -> Result<Batch, TchError> {
    let [n, c, h, w] = [labels.len(), channels, height, width].map(|extent| extent as i64);
    let values = Tensor::f_from_slice(&values)?;
    let images = if is_interleaved(layout, channels) {
        values.f_reshape([n, h, w, c])?.f_permute([0, 3, 1, 2])?
    } else {
        values.f_reshape([n, c, h, w])?
    };
    Ok(Batch { images, labels: Tensor::f_from_slice(&labels)? })
}

/// The generator of an example of an epoch, or of the epoch's order (`u64::MAX`).
pub(crate) fn generator(seed: u64, epoch: u64, number: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&epoch.to_le_bytes());
    key[16..24].copy_from_slice(&number.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}
