//! `fleetfoot evaluate`: predictions against networks, measured now or in a file.

mod contexts;
mod curve;
mod known;
mod networks;
mod repeated;

use std::io::{self, StdoutLock, Write};
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context as _, Result};
use clap::Args;
use clap::builder::RangedU64ValueParser;
use fleetfoot_console::usage;
use fleetfoot_predictor::{Evaluation, Predictor};
use fleetfoot_profiler::{Cost, DeviceConfig, Subject, median, write_json};
use fleetfoot_space::SearchSpace;
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use crate::cli::PlanOptions;
use crate::evidence::{OtherOptions, keep_apart};
use crate::predict::{EvidenceOptions, warn_of_estimates};
use crate::tabulating::Work;
pub use networks::context_of;
use networks::{draw, measure, repeatability, values};

/// Options of `evaluate`.
#[derive(Debug, Args)]
pub struct Options {
    /// Latency tables of one device to compare, measured in different contexts
    #[arg(value_name = "TABLES", conflicts_with = "table")]
    tables: Vec<PathBuf>,
    /// The device's latency table
    #[arg(long, value_name = "FILE", required_unless_present_any = ["tables", "learning_curve", "model"])]
    table: Option<PathBuf>,
    /// Estimate units that the table hasn't, by regression
    #[arg(long)]
    estimate: bool,
    /// A model of `fleetfoot fit`: with --table and --estimate the regression (without it, one is fitted to the table on the spot);
    /// without --table a model of whole networks
    #[arg(long, value_name = "FILE", conflicts_with = "tables")]
    model: Option<PathBuf>,
    /// Search space: a preset's name or a TOML file
    #[arg(long, value_name = "SPACE")]
    space: String,
    /// Device: a shipped configuration's name or a TOML file
    #[arg(long, value_name = "DEVICE", default_value = "local-cpu")]
    device: String,
    /// Number of random networks that are measured now; or a file of networks that were measured (CSV with
    /// `architecture,latency_ms`): nothing is measured then
    #[arg(long, alias = "random", value_name = "N|FILE", default_value = "100")]
    networks: Networks,
    /// How good models of whole networks are by the number of networks that they are fitted to, such as 10,20,50,100: the last
    /// networks of the file that --networks names are predicted by models of others of it
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', conflicts_with_all = ["tables", "estimate", "model"])]
    learning_curve: Vec<usize>,
    /// Networks at the file's end that a learning curve predicts; without it a fifth, at most 1000
    #[arg(long, value_name = "N", requires = "learning_curve", value_parser = fleetfoot_console::count())]
    test: Option<usize>,
    /// How often a learning curve tries every number of networks, with others each time
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1000))]
    windows: usize,
    /// The order of the file's networks says nothing, as where fleetfoot measured them in turns: every time they come in an order of their
    /// own, so that others are predicted, too
    #[arg(long, requires = "learning_curve")]
    shuffle: bool,
    /// The file's networks measured again, a file each time: the spread of one network's values is the repeatability, which no prediction
    /// can be much better than
    #[arg(long, value_name = "FILE", num_args = 1..)]
    again: Vec<PathBuf>,
    /// Draw the learning curve (SVG)
    #[arg(long, value_name = "FILE", requires = "learning_curve")]
    picture: Option<PathBuf>,
    #[command(flatten)]
    others: OtherOptions,
    /// Measure every network this often, each time in a new agent: their spread is the repeatability
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = RangedU64ValueParser::<usize>::new().range(2..=1000))]
    passes: usize,
    /// Rows of the table that are measured again between the networks: what is measured while the machine is as fast as it
    /// was for the table counts, as far as it can be had
    #[arg(long, value_name = "N", default_value_t = 10)]
    references: usize,
    #[command(flatten)]
    plan: PlanOptions,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Write the JSON with every network's figures here, too; raw samples are kept in FILE.passN.journal
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Go on with what an earlier run left, or start if there is nothing
    #[arg(long, requires = "output", conflicts_with = "force")]
    resume: bool,
    /// Replace existing files and their journals
    #[arg(long)]
    force: bool,
}

/// Networks to evaluate with.
#[derive(Clone, Debug)]
enum Networks {
    /// So many random ones, measured now.
    Random(usize),
    /// Those of a file.
    File(PathBuf),
}

impl FromStr for Networks {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_number = text.parse::<f64>().is_ok();
        match text.parse() {
            Ok(count) if (1..=100_000).contains(&count) => Ok(Self::Random(count)),
            _ if is_number => Err("wanted 1 to 100000 networks, or a file of them".to_owned()),
            _ => Ok(Self::File(text.into())),
        }
    }
}

/// A network, in the unit of what was predicted.
#[derive(Debug)]
struct Point {
    architecture: String,
    cost: Cost,
    predicted: f64,
    low: f64,
    high: f64,
    measured: f64,
}

impl Serialize for Point {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let amounts =
            [("predicted", self.predicted), ("low", self.low), ("high", self.high), ("measured", self.measured)];
        let mut map = serializer.serialize_map(Some(amounts.len() + 1))?;
        map.serialize_entry("architecture", &self.architecture)?;
        for (name, amount) in amounts {
            map.serialize_entry(&self.cost.column(name), &amount)?;
        }
        map.end()
    }
}

#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    evaluation: Evaluation,
    /// Standard deviation of one network's value over passes, root mean square over the networks, in percent.
    repeatability_percent: f64,
    /// By how much the machine was slower than for the table, in percent. Absent where no row of it was measured again.
    #[serde(skip_serializing_if = "Option::is_none")]
    slower_percent: Option<f64>,
    /// Units of these networks, each counted as often as it stands in one, that are estimated by regression.
    #[serde(skip_serializing_if = "is_zero")]
    estimated_units: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    points: Vec<Point>,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// How much slower or faster, in percent, a device may be than for the table without a warning.
const FAR: f64 = 3.0;

/// Runs the command.
pub fn run(options: &Options) -> Result<()> {
    if !options.others.transfer_from.is_empty() && options.learning_curve.is_empty() {
        return Err(usage("--transfer-from is for --learning-curve here, and for `fleetfoot fit`"));
    }
    // clap forgets what an option requires where that conflicts with another one.
    let for_curves =
        [("--picture", options.picture.is_some()), ("--shuffle", options.shuffle), ("--test", options.test.is_some())];
    if let (true, Some((option, _))) =
        (options.learning_curve.is_empty(), for_curves.iter().find(|(_, is_given)| *is_given))
    {
        return Err(usage(format!("{option} is for --learning-curve")));
    }
    if options.force && options.output.is_none() && options.picture.is_none() {
        return Err(usage("--force replaces what --output or --picture name, and neither is given"));
    }
    if options.resume && matches!(options.networks, Networks::File(_)) {
        return Err(usage("--resume goes on with measuring, but nothing is measured where --networks is a file"));
    }
    if !options.tables.is_empty() && matches!(options.networks, Networks::File(_)) {
        return Err(usage("several tables are compared by networks that are measured now: say --networks N"));
    }
    if options.estimate && options.table.is_none() && options.tables.is_empty() {
        return Err(usage("--estimate is for units that a table hasn't: --table"));
    }
    let networks = if let Networks::File(path) = &options.networks { Some(path.as_path()) } else { None };
    let inputs = [
        (options.table.as_deref(), "the table itself"),
        (options.model.as_deref(), "the model itself"),
        (networks, "the networks' file itself"),
    ];
    for output in [&options.output, &options.picture].into_iter().flatten() {
        keep_apart(output, &inputs, &options.others)?;
    }
    if let (Some(output), Some(picture)) = (&options.output, &options.picture) {
        if output == picture {
            return Err(usage("--output and --picture name one file"));
        }
        keep_apart(picture, &[(Some(output), "the other output")], &options.others)?;
    }
    if !options.again.is_empty() && matches!(options.networks, Networks::Random(_)) {
        return Err(usage(
            "--again goes with --networks FILE: networks that are measured now are measured --passes times",
        ));
    }
    let count = match (&options.networks, options.learning_curve.is_empty()) {
        (Networks::File(path), false) => return curve::run(options, path),
        (Networks::File(path), true) => return known::run(options, path),
        (Networks::Random(_), false) => {
            let command = "fleetfoot measure --random N --space SPACE -o FILE.csv";
            return Err(usage(format!(
                "--learning-curve of which networks? measure them (`{command}`) and say --networks FILE.csv"
            )));
        }
        (Networks::Random(count), true) => *count,
    };
    if options.model.is_some() && !options.estimate {
        return Err(usage("--model without --estimate is a model of whole networks: say --networks FILE, too"));
    }
    match options.tables.len() {
        0 => alone(options, count),
        1 => Err(usage("one table to compare: name it with --table, or name others beside it")),
        _ => contexts::run(options, count),
    }
}

fn alone(options: &Options, count: usize) -> Result<()> {
    let space = SearchSpace::load(&options.space)?;
    let device = DeviceConfig::load(&options.device)?;
    let table = options.table.clone().context("no latency table is named")?;
    let evidence = EvidenceOptions::new(table, options.estimate, options.model.clone());
    let predictor = evidence.predictor(&options.space)?;
    let (batch, precision) = (predictor.table().batch(), predictor.table().precision());
    device.check_precision(predictor.table().precision(), "--device")?;
    let context = context_of(predictor.table())?;
    let architectures = draw(&space, count, options.plan.seed, &[context])?;
    let mut subjects = Vec::new();
    let mut predictions = Vec::new();
    for architecture in &architectures {
        let network = space.network_at(architecture, batch, precision)?;
        predictions.push(predictor.network(&network)?);
        subjects.push(Subject::of_network(architecture.to_string(), &network)?);
    }
    let cost = predictor.table().cost();
    if cost == Cost::Latency {
        let work = Work::new(&space, batch, precision, context, cost)?;
        subjects.extend(work.references(predictor.table(), options.references));
    }
    let estimated_units = warn_of_estimates(&predictor, predictions.iter())?;
    let passes = measure(options, &space, &device, &subjects, &[predictor.table()])?;
    let measured = values(&passes, architectures.len());
    let slower_percent = median(passes.iter().filter_map(|pass| pass.slower)).map(|slower| 100.0 * (slower - 1.0));
    let points: Vec<Point> = architectures
        .iter()
        .zip(&predictions)
        .zip(&measured)
        .map(|((architecture, prediction), values)| Point {
            architecture: architecture.to_string(),
            cost,
            predicted: prediction.latency.ms(),
            low: prediction.low.ms(),
            high: prediction.high.ms(),
            measured: median(values.iter().copied()).unwrap_or(f64::NAN),
        })
        .collect();
    let pairs: Vec<(f64, f64)> = points.iter().map(|point| (point.predicted, point.measured)).collect();
    let repeatability_percent = repeatability(&measured);
    let evaluation = Evaluation::new(&pairs)?;
    let mut report = Report { evaluation, repeatability_percent, slower_percent, estimated_units, points };
    if let Some(path) = &options.output {
        write_json(path, &report).with_context(|| format!("can't write {}", path.display()))?;
    }
    // Standard output has the figures that scripts rely on, and no others.
    report.points.clear();
    report.slower_percent = None;
    if options.json {
        report.evaluation.rmse = None;
    }
    if let Some(slower) = slower_percent {
        let (how, percent) = if slower < 0.0 { ("faster", -slower) } else { ("slower", slower) };
        let told =
            format!("rows of the table that were measured again: the device was {percent:.1} % {how} than for it");
        if percent > FAR {
            eprintln!("warning: {told}; let it calm down, or make the table anew with `fleetfoot profile`");
        } else {
            eprintln!("{told}");
        }
    }
    tell(options, &report, print)
}

/// On standard output: as one line of JSON, or as people read it.
fn tell<R: Serialize>(
    options: &Options,
    report: &R,
    print: fn(&mut StdoutLock<'_>, &R) -> io::Result<()>,
) -> Result<()> {
    let mut out = io::stdout().lock();
    if options.json {
        serde_json::to_writer(&mut out, report)?;
        writeln!(out)?;
    } else {
        print(&mut out, report)?;
    }
    Ok(())
}

fn print(out: &mut StdoutLock<'_>, report: &Report) -> io::Result<()> {
    print_evaluation(out, &report.evaluation)?;
    writeln!(out, "repeatability     {:.2} % (one network's value in different agents)", report.repeatability_percent)
}

fn print_evaluation(out: &mut StdoutLock<'_>, evaluation: &Evaluation) -> io::Result<()> {
    let correlation = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.4}"));
    writeln!(out, "networks          {}", evaluation.networks)?;
    if let Some(rmse) = evaluation.rmse {
        writeln!(out, "RMSE              {rmse:.4}")?;
    }
    writeln!(out, "RMSPE             {:.2} %", evaluation.rmspe_percent)?;
    writeln!(out, "MAPE              {:.2} %", evaluation.mape_percent)?;
    writeln!(out, "within ±5 %       {:.1} %", evaluation.within_5_percent)?;
    writeln!(out, "within ±10 %      {:.1} %", evaluation.within_10_percent)?;
    writeln!(out, "Spearman          {}", correlation(evaluation.spearman))?;
    writeln!(out, "Kendall           {}", correlation(evaluation.kendall))
}
