//! What a search and a training have in common: steps up to the last, checkpoints on the way.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::batches::Feed;
use crate::compute::Compute;
use crate::error::SearchError;
use fleetfoot_dataset::Corrupt;

/// Seconds between checkpoints.
const CHECKPOINT_SECONDS: u64 = 60;

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

    /// The account of a run that learns from these batches, all of one set.
    pub fn account(&self, feeds: &[&Feed]) -> Account {
        let waited: f64 = feeds.iter().map(|feed| feed.waited_seconds()).sum();
        let corrupt = feeds.first().map(|feed| feed.source().images.corrupt()).unwrap_or_default();
        let mut computed_on = self.computed_on.clone();
        computed_on.extend(feeds.first().map(|feed| feed.source().placement.compute));
        computed_on.dedup();
        Account {
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

    /// One step more. `folder` is where the last checkpoint is, for errors to name.
    fn advance(&mut self, folder: &Path) -> Result<(), SearchError>;

    /// Writes the checkpoint.
    fn save(&self, folder: &Path) -> Result<(), SearchError>;

    /// Goes on until the last step, or until `stop`, with a checkpoint each minute and at the end. `watch` is told of
    /// every step.
    fn run(&mut self, folder: &Path, stop: &AtomicBool, watch: &mut dyn FnMut(&Self)) -> Result<(), SearchError>
    where
        Self: Sized,
    {
        let mut saved = Instant::now();
        while self.step() < self.total_steps() {
            self.advance(folder)?;
            watch(self);
            let (stopping, done) = (stop.load(Ordering::Relaxed), self.step() == self.total_steps());
            if stopping || done || saved.elapsed().as_secs() >= CHECKPOINT_SECONDS {
                self.save(folder)?;
                saved = Instant::now();
            }
            if stopping && !done {
                return Err(SearchError::Interrupted { folder: folder.to_path_buf() });
            }
        }
        Ok(())
    }
}

/// Where a run folder's checkpoint is.
pub fn checkpoint_path(folder: &Path) -> PathBuf {
    folder.join("checkpoint.safetensors")
}
