//! Work over a list: the networks that a command line names, jobs that shards take turns at, and one record of all.
//!
//! A list of trainings or searches is a folder: `jobs.json` says what is to be done and what decides the result, each job has a folder of its
//! own below, and when all are done one record is written of them, by whoever did the last one or by `fleetfoot merge`: the same bytes.

mod architectures;
mod jobs;
mod searches;
mod trainings;

pub use architectures::{ArchitectureOptions, Named, Unwritten};
pub use jobs::{JOBS, Job, Jobs, Kind, seeds_from};
pub use searches::{SEARCH, SEARCHES};
pub use trainings::{SEEDS, TRAIN, TRAININGS};

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

/// Writes the record of all jobs of a list, which lie in folders below this one and are all done; what came out, in words, a line each.
pub fn write_record(folder: &Path, jobs: &Jobs) -> Result<Vec<String>> {
    match jobs.kind {
        Kind::Trainings => trainings::write(folder, jobs),
        Kind::Searches => searches::write(folder, jobs),
    }
}

/// Writes a record as JSON, whole or not at all.
pub fn write_json(path: &Path, record: &impl Serialize) -> Result<()> {
    fleetfoot_profiler::write_json(path, record).with_context(|| format!("can't write {}", path.display()))
}
