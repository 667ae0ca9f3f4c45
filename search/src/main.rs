//! `fleetfoot-search`: the commands of `fleetfoot` that need libtorch. `fleetfoot search` starts it as
//! `fleetfoot-search search`, and so on.

mod commands;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use fleetfoot_console::{TRY_AGAIN, finish_passing, restart_for_openmp};
use fleetfoot_search::{SearchError, end_at_once};

/// Searching, training and exporting networks on libtorch.
#[derive(Debug, Parser)]
#[command(name = "fleetfoot", bin_name = "fleetfoot", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Commands,
}

#[derive(Debug, Subcommand)]
enum Commands {
    /// Search the network of a space that is accurate and meets a latency on a device
    Search(Box<commands::search::Options>),
    /// Train an architecture from scratch
    Train(Box<commands::train::Options>),
    /// Export a trained network to ONNX, checked against libtorch on real images
    Export(Box<commands::export::Options>),
}

fn main() -> ExitCode {
    if let Some(status) = restart_for_openmp() {
        return status;
    }
    fleetfoot_search::keep_memory();
    let done = match &Cli::parse().command {
        Commands::Search(options) => commands::search::run(options),
        Commands::Train(options) => commands::train::run(options),
        Commands::Export(options) => commands::export::run(options),
    };
    let passing = done.as_ref().is_err_and(is_passing);
    let status = finish_passing(done, passing);
    if passing {
        // Threads of c10d's may still wait for a rank that never answers: nothing of theirs is to be taken apart.
        end_at_once(TRY_AGAIN);
    }
    status
}

fn is_passing(error: &anyhow::Error) -> bool {
    error.downcast_ref::<SearchError>().is_some_and(SearchError::is_passing)
}
