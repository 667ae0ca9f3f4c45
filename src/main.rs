//! `fleetfoot`: measure what network operators cost on a device, predict what any network would cost there, and search
//! the network that fits.

mod cli;
mod devices;
mod evaluate;
mod fit;
mod measure;
mod measuring;
mod predict;
mod profile;
mod report;
mod search;
mod show;

use std::process::ExitCode;

use clap::Parser;
use cli::Command;

fn main() -> ExitCode {
    let done = match &cli::Cli::parse().command {
        Command::Devices(options) => devices::run(options),
        Command::Show(options) => show::run(options),
        Command::Profile(options) => profile::run(options),
        Command::Fit(options) => fit::run(options),
        Command::Predict(options) => predict::run(options),
        Command::Evaluate(options) => evaluate::run(options),
        Command::Measure(options) => measure::run(options),
        Command::Search(forwarded) => search::run("search", forwarded),
        Command::Train(forwarded) => search::run("train", forwarded),
        Command::Export(forwarded) => search::run("export", forwarded),
        Command::Report(options) => report::run(options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the output has seen enough (`| head`).
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fleetfoot: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error and its causes, each said once, on one line.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let cause = cause.to_string().trim_end().replace('\n', " | ");
        if !line.contains(&cause) {
            let separator = if line.is_empty() { "" } else { ": " };
            line = format!("{line}{separator}{cause}");
        }
    }
    line
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.root_cause().downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
