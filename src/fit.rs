//! `fleetfoot fit`: a regression for units that were never measured, or a model of whole networks.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use fleetfoot_console::{claim, usage};
use fleetfoot_predictor::{NetworkModel, Regression};
use fleetfoot_profiler::LatencyTable;
use fleetfoot_space::SearchSpace;

use crate::evidence::{self, OtherOptions, Purpose};

/// Options of `fit`.
#[derive(Debug, Args)]
pub struct Options {
    /// The latency table to fit to: a regression for units that were never measured. With --networks what the device's blocks take, which
    /// the networks correct
    #[arg(long, value_name = "FILE", required_unless_present = "networks")]
    table: Option<PathBuf>,
    /// Whole networks to fit to, in the order in which they were measured (CSV with `architecture,latency_ms`, as `fleetfoot
    /// measure --random N` writes it): a model of the space's networks
    #[arg(long, value_name = "FILE", requires = "space")]
    networks: Option<PathBuf>,
    /// Search space of the networks: a preset's name or a TOML file
    #[arg(long, value_name = "SPACE", requires = "networks")]
    space: Option<String>,
    #[command(flatten)]
    others: OtherOptions,
    /// The model to write (JSON)
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Seed of the cross-validation's split, of a regression
    #[arg(long, default_value_t = 0, conflicts_with = "networks")]
    seed: u64,
    /// Replace an existing model
    #[arg(long)]
    force: bool,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<()> {
    claim(&options.output, options.force, "or replace it with --force")?;
    let inputs =
        [(options.table.as_deref(), "the table itself"), (options.networks.as_deref(), "the networks' file itself")];
    evidence::keep_apart(&options.output, &inputs, &options.others)?;
    if let (Some(networks), Some(space)) = (&options.networks, &options.space) {
        return fit_networks(options, networks, &SearchSpace::load(space)?);
    }
    if !options.others.transfer_from.is_empty() {
        return Err(usage("--transfer-from goes with --networks: a few that were measured on the device itself"));
    }
    let input = options.table.as_deref().ok_or_else(|| usage("fit to what? --table or --networks"))?;
    let (table, warnings) = LatencyTable::read(input)?;
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

fn fit_networks(options: &Options, path: &Path, space: &SearchSpace) -> Result<()> {
    let output = &options.output;
    let networks = evidence::networks(path, space)?;
    let purpose = Purpose { space, measured: Some(&networks), left_out: HashSet::new() };
    let evidence = evidence::read(&purpose, options.table.as_deref(), &options.others)?;
    let model = NetworkModel::fit(space, &networks, &evidence)?;
    model.write(output)?;
    let (validation, all) = (model.validation(), networks.networks().len());
    if validation.fitted < all {
        eprintln!("of {all} networks {}, evenly chosen, are fitted to", validation.fitted);
    }
    if validation.outliers > 0 {
        eprintln!(
            "{} of {} networks count for little: they are far from what the others say of them",
            validation.outliers, validation.fitted
        );
    }
    eprintln!(
        "{}: fitted to {} networks of {}; each tenth predicted from the others: RMSPE {:.2} %, Spearman {}, 90 % intervals of ±{:.1} % in \
         the median",
        output.display(),
        validation.fitted,
        space.name(),
        validation.evaluation.rmspe_percent,
        validation.evaluation.spearman.map_or("-".to_owned(), |spearman| format!("{spearman:.3}")),
        validation.half_width_percent,
    );
    Ok(())
}
