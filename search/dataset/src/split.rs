//! Training or test examples: all or some of a set's, and which of them turned out to be corrupt.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Augmentation, Classes, DatasetError, Examples, Moments};

/// Examples that streamed sets' statistics are estimated from.
const SAMPLE: usize = 2000;
/// Others that are tried in a corrupt example's place. That all of so many are corrupt only happens where nearly all are.
const OTHERS: usize = 1000;
/// Corrupt examples that are passed over in any set, whatever its size; beyond them, one in a hundred.
const ALWAYS_PASSED: usize = 10;

/// All or some of a set's examples. Clones and [subsets](Self::subset) are of the same set: nothing is copied, and what one
/// of them finds corrupt all of them pass over.
#[derive(Clone)]
pub struct Split {
    set: Arc<Set>,
    /// Which examples, where not all.
    indices: Option<Arc<[u32]>>,
}

/// What all splits of a set share.
struct Set {
    examples: Box<dyn Examples>,
    found: Mutex<Found>,
    readings: AtomicUsize,
    class_sizes: OnceLock<BTreeMap<u16, usize>>,
    statistics: OnceLock<Vec<(f32, f32)>>,
}

/// What turned out to be corrupt.
#[derive(Default)]
struct Found {
    /// In the order in which it was found.
    list: Vec<Corrupt>,
    indices: HashSet<u32>,
    by_class: BTreeMap<u16, usize>,
}

/// An example that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Corrupt {
    /// Its file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub what: String,
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.what)
    }
}

impl fmt::Debug for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Split").field("of", &self.set.examples.len()).field("len", &self.len()).finish()
    }
}

impl<E: Examples + 'static> From<E> for Split {
    fn from(examples: E) -> Self {
        let set = Set {
            examples: Box::new(examples),
            found: Mutex::default(),
            readings: AtomicUsize::new(0),
            class_sizes: OnceLock::new(),
            statistics: OnceLock::new(),
        };
        Self { set: Arc::new(set), indices: None }
    }
}

impl Split {
    /// Number of examples.
    pub fn len(&self) -> usize {
        self.indices.as_ref().map_or_else(|| self.set.examples.len(), |indices| indices.len())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Channels, height and width of an example.
    pub fn size(&self) -> (usize, usize, usize) {
        self.set.examples.size()
    }

    /// How many classes there are.
    pub fn classes(&self) -> Classes {
        self.set.examples.classes()
    }

    /// Whether examples are made anew each time ([`Examples::streamed`]).
    pub fn streamed(&self) -> bool {
        self.set.examples.streamed()
    }

    /// Number of examples without those that were found to be corrupt, in this process.
    pub fn readable(&self) -> usize {
        let found = self.found();
        self.len() - (0..self.len()).filter(|&index| found.indices.contains(&self.inner(index))).count()
    }

    /// The class of one of these.
    pub fn label(&self, index: usize) -> u16 {
        self.set.examples.label(self.inner(index) as usize)
    }

    /// Some of these, in this order.
    pub fn subset(&self, indices: impl IntoIterator<Item = usize>) -> Self {
        let indices = indices.into_iter().map(|index| self.inner(index)).collect();
        Self { set: Arc::clone(&self.set), indices: Some(indices) }
    }

    /// These in an order that the generator draws.
    pub fn shuffled(&self, rng: &mut ChaCha8Rng) -> Self {
        let mut order: Vec<u32> = (0..self.len()).map(|index| self.inner(index)).collect();
        order.shuffle(rng);
        Self { set: Arc::clone(&self.set), indices: Some(order.into()) }
    }

    /// Reads one of these ([`Examples::read`]). `false`: it is corrupt, which is noted, and of `values` nothing is to be
    /// expected.
    ///
    /// That too much is corrupt is an error: more than ten examples and one in a hundred of those read, or all of a class.
    pub fn read(
        &self,
        index: usize,
        augmented: Option<(&Augmentation, &mut ChaCha8Rng)>,
        values: &mut [f32],
    ) -> Result<bool, DatasetError> {
        let inner = self.inner(index);
        if self.found().indices.contains(&inner) {
            return Ok(false);
        }
        let readings = self.set.readings.fetch_add(1, Ordering::Relaxed) + 1;
        match self.set.examples.read(inner as usize, augmented, values) {
            Ok(()) => Ok(true),
            Err(DatasetError::Corrupt { file, what }) => {
                self.note(inner, Corrupt { file, what }, readings)?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// As [`read`](Self::read), where another one, which the generator draws, takes a corrupt example's place: the label of
    /// the one that was read.
    pub fn read_or_another(
        &self,
        mut index: usize,
        augmentation: Option<&Augmentation>,
        rng: &mut ChaCha8Rng,
        values: &mut [f32],
    ) -> Result<u16, DatasetError> {
        for _ in 0..OTHERS {
            if self.read(index, augmentation.map(|augmentation| (augmentation, &mut *rng)), values)? {
                return Ok(self.label(index));
            }
            index = rng.random_range(0..self.len());
        }
        Err(DatasetError::NothingLeft { examples: self.len() })
    }

    /// What was found to be corrupt so far, of the whole set, in the order in which it was found.
    pub fn corrupt(&self) -> Vec<Corrupt> {
        self.corrupt_since(0)
    }

    /// What was found to be corrupt behind the first `known`.
    pub fn corrupt_since(&self, known: usize) -> Vec<Corrupt> {
        self.found().list.iter().skip(known).cloned().collect()
    }

    /// Takes up what an earlier process found to be corrupt.
    pub fn remember(&self, earlier: &[Corrupt]) {
        let mut found = self.found();
        earlier.iter().for_each(|corrupt| found.list(corrupt));
    }

    /// Mean and standard deviation of each channel over the whole set, of values as evaluations see them: exactly where the
    /// images are in memory; of streamed sets over 2000 examples (all, if there are fewer) that a generator with a seed of
    /// its own draws, so that a set always has the same, without those that are corrupt. They are determined once.
    pub fn channel_statistics(&self) -> Result<Vec<(f32, f32)>, DatasetError> {
        if let Some(known) = self.set.statistics.get() {
            return Ok(known.clone());
        }
        let statistics = match self.set.examples.channel_statistics() {
            Some(known) => known,
            None => Self { set: Arc::clone(&self.set), indices: None }.estimated_statistics()?,
        };
        Ok(self.set.statistics.get_or_init(|| statistics).clone())
    }

    fn estimated_statistics(&self) -> Result<Vec<(f32, f32)>, DatasetError> {
        let mut chosen = self.shuffled(&mut ChaCha8Rng::seed_from_u64(0)).indices.unwrap_or_default().to_vec();
        chosen.truncate(SAMPLE);
        let (channels, height, width) = self.size();
        let next = AtomicUsize::new(0);
        let work = || {
            let mut values = vec![0.0; channels * height * width];
            let mut found = Vec::new();
            while let Some(&index) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                let mut moments = vec![Moments::default(); channels];
                if self.read(index as usize, None, &mut values)? {
                    let planes = values.chunks_exact((height * width).max(1));
                    planes.zip(&mut moments).for_each(|(plane, moments)| {
                        plane.iter().for_each(|&value| moments.add(value.into()));
                    });
                    found.push((index, moments));
                }
            }
            Ok(found)
        };
        let results: Vec<Result<_, DatasetError>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..cores().min(chosen.len())).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
        });
        let mut found = results.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
        // Sums depend on their order, which mustn't depend on the threads.
        found.sort_by_key(|(index, _)| *index);
        let mut sums = vec![Moments::default(); channels];
        for (_, moments) in found {
            sums.iter_mut().zip(&moments).for_each(|(sum, moments)| sum.join(moments));
        }
        Ok(sums.iter().map(Moments::mean_and_deviation).collect())
    }

    /// Hands what tells these examples from others to `add`.
    pub(super) fn identify(&self, add: &mut dyn FnMut(&[u8])) {
        self.set.examples.identify(add);
        if let Some(indices) = &self.indices {
            indices.iter().for_each(|index| add(&index.to_le_bytes()));
        }
    }

    fn inner(&self, index: usize) -> u32 {
        self.indices.as_ref().map_or(index as u32, |indices| indices[index])
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        // A list of finds is as good behind a panic as it was before.
        self.set.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, index: u32, corrupt: Corrupt, readings: usize) -> Result<(), DatasetError> {
        let examples = &self.set.examples;
        let mut found = self.found();
        // Another thread may have read the same one.
        if !found.indices.insert(index) {
            return Ok(());
        }
        found.list(&corrupt);
        let (read, bad) = (readings.min(examples.len()), found.indices.len());
        if bad > ALWAYS_PASSED + read / 100 {
            return Err(DatasetError::TooManyCorrupt { corrupt: bad, read, last: corrupt });
        }
        let class = examples.label(index as usize);
        let bad = found.by_class.entry(class).or_default();
        *bad += 1;
        let whole = self.set.class_sizes().get(&class).copied().unwrap_or_default();
        if *bad == whole {
            return Err(DatasetError::ClassCorrupt { examples: whole, last: corrupt });
        }
        Ok(())
    }
}

impl Set {
    fn class_sizes(&self) -> &BTreeMap<u16, usize> {
        self.class_sizes.get_or_init(|| {
            let mut sizes = BTreeMap::new();
            (0..self.examples.len()).for_each(|index| *sizes.entry(self.examples.label(index)).or_default() += 1);
            sizes
        })
    }
}

impl Found {
    fn list(&mut self, corrupt: &Corrupt) {
        if self.list.iter().all(|known| known.file != corrupt.file) {
            self.list.push(corrupt.clone());
        }
    }
}

/// Threads that read at a time: one a core.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}
