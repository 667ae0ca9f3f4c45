//! `fleetfoot-search`: the commands of `fleetfoot` that need libtorch. `fleetfoot search` starts it as
//! `fleetfoot-search search`, and so on.

mod commands;

use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand};
use fleetfoot_console::finish;

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
    Train(commands::train::Options),
    /// Export a trained network to ONNX, checked against libtorch on real images
    Export(commands::export::Options),
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
    finish(done)
}

/// Threads that spin at OpenMP's barriers collapse on contended cores. libgomp reads how long they spin when it is
/// loaded, which was before `main`: where nobody has set it, the program starts itself again with it set.
fn restart_for_openmp() -> Option<ExitCode> {
    const SPIN: &str = "GOMP_SPINCOUNT";
    if std::env::var_os(SPIN).is_some() {
        return None;
    }
    let mut again = Command::new(std::env::current_exe().ok()?);
    again.args(std::env::args_os().skip(1)).env(SPIN, "0");
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        let error = again.exec();
        eprintln!("fleetfoot: can't start with {SPIN}=0 ({error}); going on without");
        None
    }
    #[cfg(not(unix))]
    {
        let status = again.status().ok()?;
        Some(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
    }
}
