//! What a search and a training have in common: steps up to the last, checkpoints on the way.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::error::SearchError;

/// Seconds between checkpoints.
const CHECKPOINT_SECONDS: u64 = 60;

/// A run that learns step by step and can be taken up from its checkpoint.
pub trait Learning {
    /// Weight steps in all.
    fn total_steps(&self) -> usize;

    /// Weight steps so far.
    fn step(&self) -> usize;

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
