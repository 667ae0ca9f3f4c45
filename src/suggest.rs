//! `fleetfoot suggest`: which networks to measure next.

use std::collections::HashSet;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use clap::builder::RangedU64ValueParser;
use fleetfoot_predictor::{WholeNetworks, suggest};
use fleetfoot_space::{Architecture, SearchSpace};

use crate::evidence::{self, OtherOptions, Purpose};

/// Options of `suggest`.
#[derive(Debug, Args)]
pub struct Options {
    /// Search space: a preset's name or a TOML file
    #[arg(long, value_name = "SPACE")]
    space: String,
    /// Number of networks
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = RangedU64ValueParser::<usize>::new().range(1..=2000))]
    count: usize,
    /// Networks that were measured already (CSV with `architecture,latency_ms`)
    #[arg(long, value_name = "FILE")]
    networks: Option<PathBuf>,
    /// The device's latency table
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
    #[command(flatten)]
    others: OtherOptions,
    /// Seed of the random networks among which is chosen
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<()> {
    let space = SearchSpace::load(&options.space)?;
    let networks = options.networks.as_ref().map(|path| evidence::networks(path, &space)).transpose()?;
    let measured = networks.iter().flat_map(WholeNetworks::pairs).map(|(architecture, _)| architecture.clone());
    let measured: Vec<Architecture> = measured.collect();
    let purpose = Purpose { space: &space, measured: networks.as_ref(), left_out: HashSet::new() };
    let evidence = evidence::read(&purpose, options.table.as_deref(), &options.others)?;
    let suggested = suggest(&space, options.count, &measured, &evidence, options.seed)?;
    if suggested.len() < options.count {
        eprintln!("warning: space {} has only {} networks that aren't measured yet", space.name(), suggested.len());
    }
    let mut out = io::stdout().lock();
    writeln!(out, "architecture")?;
    for architecture in suggested {
        writeln!(out, "{architecture}")?;
    }
    Ok(())
}
