//! `fleetfoot report RUN`: collects a run folder into `summary.json` and renders `report.html` from that file alone.
//!
//! ```text
//! table.csv, predicted.csv, measured.csv, evaluate.json,     folder      summary              page
//! search/search.json, train/*/train.json                 ──────────► summary.json ──────► report.html
//! ```

mod blocks;
mod checks;
mod collect;
mod curves;
mod facts;
mod folder;
mod heat_map;
mod markup;
mod page;
mod picture;
mod plot;
mod records;
mod scatter;
mod searched;
mod sections;
mod summary;
mod tables;
mod terminal;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// What `fleetfoot report` is asked.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The run folder; summary.json and report.html are written into it, anew each time.
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
}

/// Writes the run's summary.json and report.html; the final table goes to stdout, the report's path to stderr.
pub fn run(options: &Options) -> Result<()> {
    let run = &options.run;
    if !run.is_dir() {
        bail!("run folder {} doesn't exist: give the folder that search/, train/ and table.csv are in", run.display());
    }
    let summary = collect::summarise(&folder::RunFolder::read(run)?)?;
    for warning in &summary.warnings {
        eprintln!("warning: {}", terminal::printable(warning));
    }
    let json = serde_json::to_string_pretty(&summary).context("summary.json")? + "\n";
    write_atomically(&run.join("summary.json"), &json)?;
    // From here on the summary's text is the only source.
    let page = page::render(&json).context("the page can't be made from summary.json")?;
    let report = run.join("report.html");
    write_atomically(&report, &page)?;
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(terminal::table(&summary).as_bytes()).and_then(|()| stdout.flush()).context("stdout")?;
    eprintln!("{}", report.display());
    Ok(())
}

/// Writes beside the target and renames: a reader sees the old file or the new one.
fn write_atomically(path: &Path, text: &str) -> Result<()> {
    let temporary = path.with_extension(format!("tmp-{}", std::process::id()));
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|error| {
        // What is left of a failed write; the first error is the one to tell.
        let _ = fs::remove_file(&temporary);
        anyhow::anyhow!("{} can't be written: {error}", path.display())
    })
}
