//! `fleetfoot merge`: one result from the parts that `--shard` made of it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use fleetfoot_console::{say, usage};
use fleetfoot_worklist::{JOBS, Jobs, write_record};

use crate::sharding::{Content, PartFile, complete, parts_of};
use crate::{measure, profile};

/// Options of `merge`.
#[derive(Debug, Args)]
pub struct Options {
    /// Parts of a table or of measurements; none: those that lie beside the file of --output. Or a folder of trainings or searches, or
    /// several that hosts have filled
    #[arg(value_name = "PART|DIR")]
    parts: Vec<PathBuf>,
    /// The file to write: what the command without --shard would have written. Of several folders a new one, into which their jobs are
    /// copied
    #[arg(short, long, value_name = "FILE|DIR")]
    output: Option<PathBuf>,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<()> {
    match options.parts.iter().filter(|path| path.is_dir()).count() {
        0 => files(options),
        folders if folders == options.parts.len() => jobs(options),
        _ => Err(usage("merge: wanted parts of one file, or folders of trainings or searches, not both")),
    }
}

/// Makes a table, or a file of measurements.
fn files(options: &Options) -> Result<()> {
    let Some(output) = &options.output else {
        return Err(usage("merge: name the file to write with --output, or a folder of trainings or searches"));
    };
    let paths = if options.parts.is_empty() { parts_of(output)? } else { options.parts.clone() };
    if paths.is_empty() {
        bail!("no parts of {0} lie beside it ({0}.1of8, …): measure them with --shard, or name them", output.display());
    }
    let parts = complete(paths.iter().map(|path| PartFile::read(path)).collect::<Result<Vec<_>>>()?)?;
    match parts.first().map(|part| part.content.clone()) {
        Some(Content::Table { space }) => profile::shard::merge(parts, &space, output, options.force),
        Some(Content::Networks { count, .. }) => measure::shard::merge(parts, count, output, options.force),
        None => bail!("no parts: nothing to merge"),
    }
}

/// Writes the record of a list's jobs.
fn jobs(options: &Options) -> Result<()> {
    let folders = &options.parts;
    let list = |folder: &PathBuf| {
        let missing = || {
            format!("{} has no {JOBS}: wanted a folder that `train` or `search` filled by --shard", folder.display())
        };
        Jobs::read(folder)?.with_context(missing)
    };
    let lists = folders.iter().map(list).collect::<Result<Vec<Jobs>>>()?;
    let Some(first) = lists.first() else { bail!("no folder: nothing to merge") };
    for (folder, other) in folders.iter().zip(&lists) {
        if let Some(difference) = first.difference(other) {
            bail!(
                "{} and {} are of different lists ({difference}): merge folders that the same command filled but for --shard",
                folders[0].display(),
                folder.display()
            );
        }
    }
    let done = first.done_in(folders)?;
    let folder = match (folders.as_slice(), &options.output) {
        ([folder], None) => folder.clone(),
        (_, Some(output)) => {
            gather(first, &done, output, options.force)?;
            output.clone()
        }
        (_, None) => {
            return Err(usage("merge: name a new folder with --output, into which the jobs of all are copied"));
        }
    };
    write_record(&folder, first)?.iter().for_each(say);
    Ok(())
}

/// Copies the folders of jobs that are done into a new one.
fn gather(jobs: &Jobs, done: &[PathBuf], output: &Path, force: bool) -> Result<()> {
    let is_new = fs::read_dir(output).map_or(true, |mut entries| entries.next().is_none());
    if output.is_file() || !force && !is_new {
        bail!("{} isn't empty: name a new folder, or write into it with --force", output.display());
    }
    for (job, place) in jobs.jobs.iter().zip(done) {
        copy(place, &output.join(&job.folder))?;
    }
    jobs.claim(output, force)
}

/// Copies a folder with all that is in it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("can't make the folder {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("can't read the folder {}", from.display()))? {
        let (path, target) = entry.map(|entry| (entry.path(), to.join(entry.file_name())))?;
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            let cannot = || format!("can't copy {} to {}", path.display(), target.display());
            fs::copy(&path, &target).with_context(cannot)?;
        }
    }
    Ok(())
}
