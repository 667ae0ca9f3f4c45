//! The command line as people type it.

use std::ffi::OsString;
use std::time::Duration;

use anyhow::Result;
use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand};
use fleetfoot_console::{share, usage};
use fleetfoot_profiler::{Plan, Standing, Statistic};

/// Hardware-aware neural architecture search from honest measurements.
#[derive(Debug, Parser)]
#[command(name = "fleetfoot", version, about, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands, in the order in which they are used.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the devices that are configured and whether they can be reached
    Devices(crate::devices::Options),
    /// Look at a device: what harms measurements there, and how noisy it is now
    Doctor(crate::doctor::Options),
    /// Show a search space, or an architecture's units, MACs and parameters
    Show(crate::show::Options),
    /// Measure every unit of a space on a device: its latency table
    Profile(crate::profile::Options),
    /// A latency table again from its raw samples, by another statistic
    Table(crate::table::Options),
    /// Compare two latency tables, unit by unit
    Compare(crate::compare::Options),
    /// Measure a few rows of a latency table again: is it still true today?
    Verify(crate::verify::Options),
    /// Import tables of others: Once-for-All's YAML, any CSV, profiles of ONNX Runtime
    Import(crate::import::Options),
    /// Fit a regression to a latency table, for units that were never measured
    Fit(crate::fit::Options),
    /// Predict the latency of networks from a table, without running them
    Predict(crate::predict::Options),
    /// Suggest which networks to measure next, for a model of whole networks
    Suggest(crate::suggest::Options),
    /// Expected latency of a softmax over every decision's candidates, and its gradient
    Expect(crate::expect::Options),
    /// Compare predictions with random networks measured now or in a file; learning curves
    Evaluate(crate::evaluate::Options),
    /// Measure whole networks: architectures with random weights, or ONNX models
    Measure(crate::measure::Options),
    /// Measure networks on several devices: is each the fastest on the device that it was searched for?
    Matrix(crate::matrix::Options),
    /// Put the parts of a result together that --shard made
    Merge(crate::merge::Options),
    /// Search the network that fits (options: `fleetfoot search --help`)
    #[command(disable_help_flag = true)]
    Search(Forwarded),
    /// Train an architecture from scratch (options: `fleetfoot train --help`)
    #[command(disable_help_flag = true)]
    Train(Forwarded),
    /// Export a trained network to ONNX (options: `fleetfoot export --help`)
    #[command(disable_help_flag = true)]
    Export(Forwarded),
    /// Write a run's summary.json and its report.html
    Report(crate::report::Options),
}

/// A command of `fleetfoot-search`, with its options as they are.
#[derive(Debug, Args)]
pub struct Forwarded {
    /// Options of the command
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    pub options: Vec<OsString>,
}

/// A batch size.
pub fn batch_size() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=1024)
}

fn milliseconds(text: &str) -> Result<f64, String> {
    let ms = text.parse().ok().filter(|ms| *ms > 0.0 && *ms <= 60_000.0);
    ms.ok_or_else(|| "wanted milliseconds above 0, at most 60000".to_owned())
}

/// How long to measure.
#[derive(Debug, Args)]
pub struct PlanOptions {
    /// Seed of the order of measurements (and of random networks)
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// What a latency is of its samples: min, p20, median, p90 or p99
    #[arg(long, default_value_t = Statistic::default())]
    statistic: Statistic,
    /// Rounds that everything gets at least
    #[arg(long, value_name = "N", default_value_t = Plan::default().min_rounds, value_parser = clap::value_parser!(u32).range(1..))]
    min_rounds: u32,
    /// Rounds that anything gets at most
    #[arg(long, value_name = "N", default_value_t = Plan::default().max_rounds)]
    max_rounds: u32,
    /// Seconds behind which no round begins any more, if eight are over; 0: no limit
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=604_800))]
    max_time: u64,
    /// Go on until half the 99 % interval is below this share of the latency, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 100.0 * Plan::default().half_width, value_parser = share)]
    half_width: f64,
    /// Rounds behind which the measuring process is started anew, since where its memory lies makes some models faster or
    /// slower as long as it runs; 0: never
    #[arg(long, value_name = "N", default_value_t = Plan::default().sitting)]
    sitting: u32,
    /// Milliseconds of timed runs in one visit
    #[arg(long, value_name = "MS", default_value_t = 1000.0 * Plan::default().visit.as_secs_f64(), value_parser = milliseconds)]
    visit: f64,
    /// Keep the device busy for so many seconds before anything counts, so that its sustained speed is measured: what
    /// heat leaves of it
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=86_400))]
    soak: u64,
}

impl PlanOptions {
    /// The plan that is meant.
    pub fn plan(&self) -> Result<Plan> {
        let (min, max) = (self.min_rounds, self.max_rounds);
        if max < min {
            return Err(usage(format!(
                "--min-rounds {min} --max-rounds {max}: wanted at most as many as there may be"
            )));
        }
        Ok(Plan {
            min_rounds: self.min_rounds,
            max_rounds: self.max_rounds,
            max_time: (self.max_time > 0).then(|| Duration::from_secs(self.max_time)),
            half_width: self.half_width / 100.0,
            common_half_width: self.half_width / 100.0,
            sitting: self.sitting,
            visit: Duration::from_secs_f64(self.visit / 1000.0),
            statistic: self.statistic,
            standing: Standing::Best,
            seed: self.seed,
            soak: Duration::from_secs(self.soak),
        })
    }
}
