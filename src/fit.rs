//! `fleetfoot fit`: a regression for units that were never measured.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use fleetfoot_console::claim;
use fleetfoot_predictor::Regression;
use fleetfoot_profiler::LatencyTable;

/// Options of `fit`.
#[derive(Debug, Args)]
pub struct Options {
    /// The latency table to fit to
    #[arg(long, value_name = "FILE")]
    table: PathBuf,
    /// The model to write (JSON)
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Seed of the cross-validation's split
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Replace an existing model
    #[arg(long)]
    force: bool,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<()> {
    claim(&options.output, options.force, "or replace it with --force")?;
    if options.output.canonicalize().is_ok_and(|output| options.table.canonicalize().is_ok_and(|table| table == output))
    {
        bail!("{} is the table itself: write the model to another file", options.output.display());
    }
    let (table, warnings) = LatencyTable::read(&options.table)?;
    warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    let regression = Regression::fit(&table, options.seed)?;
    regression.write(&options.output)?;
    let validation = regression.validation();
    eprintln!(
        "{}: fitted to {} units; {}-fold cross-validation: RMSPE {:.1} %, MAPE {:.1} %, {:.0} % within ±10 %",
        options.output.display(),
        regression.rows(),
        validation.folds,
        validation.evaluation.rmspe_percent,
        validation.evaluation.mape_percent,
        validation.evaluation.within_10_percent,
    );
    Ok(())
}
