//! What a search and a training have in common: steps up to the last, checkpoints on the way.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::batches::Feed;
use crate::compute::Compute;
use crate::error::SearchError;
use crate::group::Group;
use fleetfoot_dataset::{Corrupt, Split};

/// Time between checkpoints, where nobody says another.
const CHECKPOINTS_APART: Duration = Duration::from_secs(60);

/// What a run took and met, over all processes that worked on it. It is no part of its state: equal runs may take unequal
/// times.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Account {
    /// How long it took, in seconds.
    pub seconds: f64,
    /// How long of that learning waited for batches, in seconds.
    pub waited_seconds: f64,
    /// How long of it gates learned, in seconds; 0 where there are none.
    pub gate_seconds: f64,
    /// What computed, one after the other where it wasn't one thing throughout. Equal runs on the same give the same bits.
    pub computed_on: Vec<Compute>,
    /// How many processes learned together, one number after the other where it wasn't the same throughout.
    pub ranks: Vec<usize>,
    /// Images that turned out to be corrupt, in the order in which they were found.
    pub corrupt: Vec<Corrupt>,
}

/// How long a run has taken, over all processes that worked on it.
#[derive(Clone, Debug)]
pub struct Stopwatch {
    earlier: f64,
    waited: f64,
    gates: f64,
    computed_on: Vec<Compute>,
    ranks: Vec<usize>,
    since: Instant,
}

impl Default for Stopwatch {
    fn default() -> Self {
        Self::after(&Account::default())
    }
}

impl Stopwatch {
    /// Goes on behind what took so long.
    pub fn after(earlier: &Account) -> Self {
        Self {
            earlier: earlier.seconds,
            waited: earlier.waited_seconds,
            gates: earlier.gate_seconds,
            computed_on: earlier.computed_on.clone(),
            ranks: earlier.ranks.clone(),
            since: Instant::now(),
        }
    }

    /// Seconds in all.
    pub fn seconds(&self) -> f64 {
        self.earlier + self.since.elapsed().as_secs_f64()
    }

    /// Gates have learned for so long more, in seconds.
    pub fn add_gates(&mut self, seconds: f64) {
        self.gates += seconds;
    }

    /// The account of a run that learns from these batches, all of one set, among so many ranks.
    pub fn account(&self, feeds: &[&Feed], ranks: usize) -> Account {
        let waited: f64 = feeds.iter().map(|feed| feed.waited_seconds()).sum();
        let corrupt = feeds.first().map(|feed| feed.source().images.corrupt()).unwrap_or_default();
        let mut computed_on = self.computed_on.clone();
        computed_on.extend(feeds.first().map(|feed| feed.source().placement.compute));
        computed_on.dedup();
        let mut all: Vec<usize> = self.ranks.iter().copied().chain([ranks]).collect();
        all.dedup();
        Account {
            ranks: all,
            seconds: self.seconds(),
            waited_seconds: self.waited + waited,
            gate_seconds: self.gates,
            computed_on,
            corrupt,
        }
    }
}

/// What a run on the disk is of, of these that differ from what is asked for, and the remedy; `None` where it may be gone
/// on with.
pub fn difference(differing: &[(&str, bool)]) -> Option<String> {
    let (what, _) = differing.iter().find(|(_, differs)| *differs)?;
    Some(format!("{what}: use the same, or start anew with --force"))
}

/// A run that learns step by step and can be taken up from its checkpoint.
pub trait Learning {
    /// Weight steps in all.
    fn total_steps(&self) -> usize;

    /// Weight steps so far.
    fn step(&self) -> usize;

    /// How long the run has taken so far, in seconds, the time before a resumption included.
    fn seconds(&self) -> f64;

    /// What the run took and met so far.
    fn account(&self) -> Account;

    /// Who learns together.
    fn group(&self) -> &Arc<Group>;

    /// The images that are learned from.
    fn images(&self) -> &Split;

    /// One step more, of all ranks together. `folder` is where the last checkpoint is, for errors to name.
    fn advance(&mut self, folder: &Path) -> Result<(), SearchError>;

    /// Gives all ranks rank 0's running statistics of batch normalisation, each of which saw images of its own.
    fn level(&mut self) -> Result<(), SearchError>;

    /// Writes the checkpoint.
    fn save(&self, folder: &Path) -> Result<(), SearchError>;

    /// Goes on until the last step, or until `stop`, with a checkpoint each minute and at the end. `watch` is told of every
    /// step.
    fn run(&mut self, folder: &Path, stop: &AtomicBool, watch: &mut dyn FnMut(&Self)) -> Result<(), SearchError>
    where
        Self: Sized,
    {
        self.run_saving(folder, (stop, CHECKPOINTS_APART), watch)
    }

    /// The same, with checkpoints so far apart. All ranks stop where one is to.
    fn run_saving(
        &mut self,
        folder: &Path,
        (stop, apart): (&AtomicBool, Duration),
        watch: &mut dyn FnMut(&Self),
    ) -> Result<(), SearchError>
    where
        Self: Sized,
    {
        let group = Arc::clone(self.group());
        let mut saved = Instant::now();
        while self.step() < self.total_steps() {
            self.advance(folder)?;
            watch(self);
            let done = self.step() == self.total_steps();
            let due = group.leads() && saved.elapsed() >= apart;
            let [stopping, due] = group.any([stop.load(Ordering::Relaxed), due])?;
            if stopping || done || due {
                self.level()?;
                let found = group.gather(&self.images().corrupt())?;
                self.images().remember(&found.concat());
                if group.leads() {
                    self.save(folder)?;
                }
                saved = Instant::now();
            }
            if stopping && !done {
                // Nobody ends before the checkpoint is there.
                group.sum(&mut [0.0])?;
                return Err(SearchError::Interrupted { folder: folder.to_path_buf(), ranks: group.size() });
            }
        }
        group.sum(&mut [0.0])
    }
}

/// Where a run folder's checkpoint is.
pub fn checkpoint_path(folder: &Path) -> PathBuf {
    folder.join("checkpoint.safetensors")
}
