//! `fleetfoot merge`: one result from the parts that `--shard` made of it.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use fleetfoot_console::usage;

use crate::sharding::{Content, PartFile, complete, parts_of};
use crate::{measure, profile};

/// Options of `merge`.
#[derive(Debug, Args)]
pub struct Options {
    /// Parts of a table or of measurements; none: those that lie beside the file of --output
    #[arg(value_name = "PART")]
    parts: Vec<PathBuf>,
    /// The file to write: what the command without --shard would have written
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<()> {
    let Some(output) = &options.output else {
        return Err(usage("merge: name the file to write with --output"));
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
