//! `fleetfoot report RUN`: collects a run folder into `summary.json` and renders `report.html` from that file alone. Of a latency
//! table alone, `fleetfoot report TABLE.csv` makes a page, too.
//!
//! ```text
//! table.csv, predicted.csv, measured.csv, evaluate.json,     folder      summary              page
//! search/search.json, train/*/train.json                 ──────────► summary.json ──────► report.html
//! ```

mod amounts;
pub mod blocks;
mod checks;
mod collect;
mod curves;
pub mod facts;
mod folder;
mod gates;
mod headline;
mod heat_map;
mod limits;
pub mod markup;
pub mod page;
mod picture;
pub mod plot;
mod profiled;
mod ranking;
mod recipe;
mod records;
mod results;
mod rivals;
mod scatter;
mod searched;
mod sections;
pub mod specialised;
pub mod summary;
mod tables;
mod terminal;
mod timeline;
mod way;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use fleetfoot_profiler::write_atomically;

/// What `fleetfoot report` is asked.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The run folder: summary.json and report.html are written into it, anew each time; or a latency table: its page is
    /// TABLE.html beside it
    #[arg(value_name = "RUN|TABLE")]
    pub run: PathBuf,
}

/// Writes the run's summary.json and report.html; the final table goes to stdout, the report's path to stderr.
pub fn run(options: &Options) -> Result<()> {
    let run = &options.run;
    if run.is_file() {
        let page = run.with_extension("html");
        write(&page, &profiled::render(run)?)?;
        eprintln!("{}", page.display());
        return Ok(());
    }
    if !run.is_dir() {
        bail!(
            "{} doesn't exist: give the folder that search/, train/ and table.csv are in, or a latency table",
            run.display()
        );
    }
    let summary = collect::summarise(&folder::RunFolder::read(run)?)?;
    for warning in &summary.warnings {
        eprintln!("warning: {}", terminal::printable(warning));
    }
    let json = serde_json::to_string_pretty(&summary).context("summary.json")? + "\n";
    write(&run.join("summary.json"), &json)?;
    // From here on the summary's text is the only source.
    let page = page::render(&json).context("the page can't be made from summary.json")?;
    let report = run.join("report.html");
    write(&report, &page)?;
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(terminal::table(&summary).as_bytes()).and_then(|()| stdout.flush()).context("stdout")?;
    eprintln!("{}", report.display());
    Ok(())
}

/// Whole or not at all.
fn write(path: &Path, text: &str) -> Result<()> {
    write_atomically(path, text.as_bytes()).with_context(|| format!("{} can't be written", path.display()))
}
