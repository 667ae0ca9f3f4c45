//! Several trainings or searches, each in a folder of its own below the list's.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use clap::builder::RangedU64ValueParser;
use fleetfoot_console::{Shard, usage};
use fleetfoot_profiler::{Configuration, sha256};
use fleetfoot_search::{Group, Launch, checkpoint_path};
use fleetfoot_space::SearchSpace;
use fleetfoot_worklist::{JOBS, Job, Jobs, Kind, SEARCHES, SEEDS, TRAININGS, seeds_from, write_record};
use serde::Serialize;

use super::FolderOptions;

/// No more seeds are asked for.
const MAX_SEEDS: u64 = 1000;

/// What makes a list of one.
#[derive(Clone, Debug, Args)]
pub struct ListOptions {
    /// Do it by this many seeds, from --seed on, each in a folder DIR/seedN of its own; one record of all is in DIR (seeds.json,
    /// trainings.json, searches.json)
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = RangedU64ValueParser::<usize>::new().range(1..=MAX_SEEDS))]
    pub seeds: usize,
    /// Do part I of N of the list, with other parts done elsewhere or at another time; goes on from its own checkpoints by itself, and
    /// passes over what is done. `fleetfoot merge DIR` writes the record of all
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,
}

impl ListOptions {
    /// Whether it is one thing, done here.
    pub fn is_one(&self) -> bool {
        self.seeds == 1 && self.shard.is_none()
    }

    /// Shards are for processes that each do their own.
    pub fn check_launch(&self, launch: Option<&Launch>) -> Result<()> {
        match (&self.shard, launch) {
            (Some(shard), Some(launch)) => Err(usage(format!(
                "--shard {shard} in one of {} processes that learn together: leave it out, or say --dist off, so that each does a shard of its own",
                launch.size
            ))),
            _ => Ok(()),
        }
    }
}

/// Where a run of several has its first; `None` for other folders.
pub fn first_of(run: &Path) -> Option<PathBuf> {
    let read =
        |name: &str| -> Option<serde_json::Value> { serde_json::from_slice(&std::fs::read(run.join(name)).ok()?).ok() };
    let folder = |record: serde_json::Value, path: &str| record.pointer(path)?.as_str().map(|folder| run.join(folder));
    read(SEEDS)
        .and_then(|record| folder(record, "/folders/0"))
        .or_else(|| read(TRAININGS).and_then(|record| folder(record, "/trainings/0/folders/0")))
        .or_else(|| read(JOBS).and_then(|record| folder(record, "/jobs/0/folder")))
}

/// A run folder holds one training (or search), whose record has this name, or several, not both.
pub fn check_alone(folder: &FolderOptions, kind: Kind, several: bool) -> Result<()> {
    let path = folder.path();
    let one = path.join(kind.result()).exists() || checkpoint_path(path).exists();
    let many = [SEEDS, TRAININGS, SEARCHES, JOBS].iter().any(|name| path.join(name).exists());
    let holds = match (several, one, many) {
        (true, true, _) => "the run of one seed: go on with it without --seeds",
        (false, _, true) => "a run of several seeds: go on with it by --seeds",
        _ => return Ok(()),
    };
    bail!("{} holds {holds}, or name another folder", path.display())
}

/// What decides the results of a list in this space.
pub fn of_space(space: &SearchSpace) -> Configuration {
    let mut configuration = Configuration::default();
    configuration.set("space", space.name());
    configuration.set("the space's file", sha256(space.text().as_bytes()));
    configuration
}

/// Adds the settings of a list's jobs, but for the seed, which tells them apart.
pub fn add_settings(configuration: &mut Configuration, settings: &impl Serialize) -> Result<()> {
    let settings = serde_json::to_value(settings)?;
    for (name, value) in settings.as_object().into_iter().flatten().filter(|(name, _)| *name != "seed") {
        configuration.set(name, value);
    }
    Ok(())
}

/// Does all of a list, or a shard of it. `named` says under which names its folders are where there are several, and what each is of;
/// `configuration` what decides the results besides.
pub fn run(
    options: &ListOptions,
    group: &Group,
    (folder, first_seed): (&FolderOptions, u64),
    (kind, named): (Kind, &[(String, String)]),
    configuration: impl FnOnce() -> Result<Configuration>,
    mut one: impl FnMut(&Job, &FolderOptions) -> Result<()>,
) -> Result<()> {
    group.led(|| check_alone(folder, kind, true))?;
    let path = folder.path();
    let is_claimed = group.led(|| Ok::<_, anyhow::Error>(options.shard.is_some() || path.join(JOBS).exists()))?;
    let configuration = if is_claimed { configuration()? } else { Configuration::default() };
    let jobs = Jobs::new(kind, configuration, named, &seeds_from(first_seed, options.seeds))?;
    let own = jobs.of(options.shard)?;
    let folder = match options.shard {
        Some(_) => folder.going_on(),
        None => {
            let result = if kind == Kind::Searches {
                SEARCHES
            } else if named.len() > 1 {
                TRAININGS
            } else {
                SEEDS
            };
            folder.open(group, result, &path.join(&jobs.jobs[0].folder).join(kind.result()))?;
            folder.clone()
        }
    };
    if is_claimed {
        group.led(|| jobs.claim(path, folder.is_forced()).map(drop))?;
    }
    for job in &own {
        one(job, &folder.below(&job.folder))?;
    }
    match options.shard {
        // Rank 0 alone writes.
        None if !group.leads() => {}
        None => write_record(path, &jobs)?.iter().for_each(|line| eprintln!("{line}")),
        Some(shard) => eprintln!(
            "{}: shard {shard} is done, {} of {} in the list; `fleetfoot merge {}` writes the record of all",
            path.display(),
            own.len(),
            jobs.jobs.len(),
            path.display()
        ),
    }
    Ok(())
}
