//! `fleetfoot`: measure what network operators cost on a device, predict what any network would cost there, and search
//! the network that fits.

mod cli;
mod compare;
mod devices;
mod doctor;
mod evaluate;
mod evidence;
mod expect;
mod fit;
mod import;
mod matrix;
mod measure;
mod measuring;
mod merge;
mod picture;
mod predict;
mod profile;
mod report;
mod search;
mod sharding;
mod show;
mod suggest;
mod table;
mod tabulating;
mod verify;

use std::process::ExitCode;

use clap::Parser;
use cli::Command;
use fleetfoot_console::finish;

fn main() -> ExitCode {
    let done = match &cli::Cli::parse().command {
        Command::Devices(options) => devices::run(options),
        Command::Doctor(options) => doctor::run(options),
        Command::Show(options) => show::run(options),
        Command::Profile(options) => profile::run(options),
        Command::Table(options) => table::run(options),
        Command::Compare(options) => compare::run(options),
        Command::Verify(options) => verify::run(options),
        Command::Import(options) => import::run(options),
        Command::Fit(options) => fit::run(options),
        Command::Predict(options) => predict::run(options),
        Command::Suggest(options) => suggest::run(options),
        Command::Expect(options) => expect::run(options),
        Command::Evaluate(options) => evaluate::run(options),
        Command::Measure(options) => measure::run(options),
        Command::Matrix(options) => matrix::run(options),
        Command::Merge(options) => merge::run(options),
        Command::Search(forwarded) => search::run("search", forwarded),
        Command::Train(forwarded) => search::run("train", forwarded),
        Command::Export(forwarded) => search::run("export", forwarded),
        Command::Report(options) => report::run(options),
    };
    finish(done)
}
