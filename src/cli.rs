//! The command line as people type it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand};
use fleetfoot_console::{share, usage};
use fleetfoot_profiler::{Plan, Standing, Statistic, csv_format};
use fleetfoot_space::{Architecture, SearchSpace, line_of_record, without_mark};

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

/// Which networks.
#[derive(Debug, Args)]
pub struct ArchitectureOptions {
    /// Architectures: digits, or names that the space's file gives; with a width multiplier, too (k3e6@0.75)
    #[arg(value_name = "ARCHITECTURE")]
    given: Vec<String>,
    /// A file with an architecture a line, or a CSV with a column `architecture`; `#` lines are skipped
    #[arg(long, value_name = "FILE")]
    architectures: Option<PathBuf>,
}

impl ArchitectureOptions {
    /// Whether none is named.
    pub fn is_empty(&self) -> bool {
        self.given.is_empty() && self.architectures.is_none()
    }

    /// The architectures with the space in their widths, each under the label that results carry: its digits, or its
    /// name (with the width multiplier) where it has widths of its own.
    pub fn resolve(&self, space: &SearchSpace) -> Result<Vec<(String, SearchSpace, Architecture)>> {
        let mut all = Vec::new();
        self.each(space, |named| {
            all.push(match named {
                Named::Own(architecture) => (architecture.to_string(), space.clone(), architecture),
                Named::Widened { label, space, architecture } => (label, *space, architecture),
            });
            Ok(())
        })?;
        Ok(all)
    }

    /// Hands the architectures on one by one; of a file never more than one is in memory.
    pub fn each(&self, space: &SearchSpace, mut take: impl FnMut(Named) -> Result<()>) -> Result<()> {
        for text in &self.given {
            take(named(space, text)?)?;
        }
        match &self.architectures {
            Some(path) => each_of_file(path, |text| take(named(space, text)?)),
            None => Ok(()),
        }
    }
}

/// Results that nobody takes: it isn't what was read last that is wrong.
#[derive(Debug, thiserror::Error)]
#[error("can't write to standard output")]
pub struct Unwritten(#[from] std::io::Error);

/// An architecture that somebody named.
pub enum Named {
    /// One of the space.
    Own(Architecture),
    /// One with widths of its own.
    Widened {
        /// Its name.
        label: String,
        /// The space in its widths.
        space: Box<SearchSpace>,
        /// Its choices.
        architecture: Architecture,
    },
}

fn named(space: &SearchSpace, text: &str) -> Result<Named> {
    if !space.is_name(text) {
        return Ok(Named::Own(space.parse_architecture(text)?));
    }
    let (own, architecture) = space.resolve(text)?;
    Ok(match own.is_as_wide_as(space) {
        true => Named::Own(architecture),
        false => Named::Widened { label: space.canonical(text)?, space: Box::new(own), architecture },
    })
}

/// A record's line. The file is read again for it.
fn line_in(path: &Path, record: &csv::StringRecord) -> u64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    record.position().map_or(0, |position| line_of_record(without_mark(&text), position.byte()))
}

/// Hands on the architectures of a file: those of the column `architecture` where the file is a CSV that has one, else the first of every
/// line. Errors name the line.
fn each_of_file(path: &Path, mut take: impl FnMut(&str) -> Result<()>) -> Result<()> {
    let cannot = || format!("can't read the architectures {}", path.display());
    let mut file = BufReader::with_capacity(1 << 16, File::open(path).with_context(cannot)?);
    // Spreadsheets put a mark in front.
    if file.fill_buf().with_context(cannot)?.starts_with(b"\xef\xbb\xbf") {
        file.consume(3);
    }
    // All up to the first line that is no comment, whatever a pipe gives at once.
    let (mut head, mut line) = (Vec::new(), 0);
    while head[line..].trim_ascii().is_empty() || head[line..].starts_with(b"#") {
        line = head.len();
        if file.read_until(b'\n', &mut head).with_context(cannot)? == 0 {
            break;
        }
    }
    let mut format = csv_format(&head);
    let mut reader = format.has_headers(false).flexible(true).from_reader(head.as_slice().chain(file));
    let (mut column, mut record, mut is_first, mut found) = (0, csv::StringRecord::new(), true, false);
    while reader.read_record(&mut record).with_context(|| path.display().to_string())? {
        if std::mem::take(&mut is_first)
            && let Some(named) = record.iter().position(|field| field == "architecture")
        {
            column = named;
            continue;
        }
        let line = || line_in(path, &record);
        match record.get(column).filter(|name| !name.is_empty()) {
            Some(name) => match take(name) {
                Err(error) if !error.is::<Unwritten>() => {
                    return Err(error.context(format!("{}, line {}", path.display(), line())));
                }
                done => done?,
            },
            None => bail!("{}, line {}: no architecture stands there", path.display(), line()),
        }
        found = true;
    }
    if !found {
        bail!("{}: it names no architecture", path.display());
    }
    Ok(())
}
