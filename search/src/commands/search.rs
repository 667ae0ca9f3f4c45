//! `fleetfoot search`.

use std::io::{self, Write};
use std::path::{Path as FilePath, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use fleetfoot_console::{Progress, count, positive, stop_flag};
use fleetfoot_predictor::{CostMatrix, TablePredictor, cost_matrix};
use fleetfoot_profiler::{Budget, Cost, write_atomically};
use fleetfoot_search::{
    Account, Augmentation, Constraint, Contest, Corrupt, Finalist, Found, LatencyLoss, Learning as _, News, Search,
    SearchError, SearchPoint, SearchSettings, Split, checkpoint_path, difference,
};
use fleetfoot_space::{Architecture, SearchSpace};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{DataOptions, FolderOptions, Images, LearningOptions, Naming, Start, corrupt, time, write_json};

/// Folder of the finalists in a run's folder.
const FINALISTS: &str = "finalists";

/// Options of `search`.
#[derive(Debug, Args)]
pub struct Options {
    /// Search space: a preset's name or a TOML file
    #[arg(long, value_name = "SPACE")]
    space: String,
    /// The device's latency table (from `fleetfoot profile`)
    #[arg(long, value_name = "FILE")]
    table: PathBuf,
    /// Estimate units that the table hasn't, by regression
    #[arg(long)]
    estimate: bool,
    /// The regression (from `fleetfoot fit`); without it, one is fitted to the table on the spot
    #[arg(long, value_name = "FILE", requires = "estimate")]
    model: Option<PathBuf>,
    /// What the network may cost on the device, with its unit: a latency (0.25ms, 250us), a throughput (4000/s), or what else
    /// the table is of (3.5MiB, 12mJ)
    #[arg(long, value_name = "COST")]
    target: Budget,
    #[command(flatten)]
    data: DataOptions,
    #[command(flatten)]
    folder: FolderOptions,
    /// How latency enters the gates' loss: add#linear or mul#log
    #[arg(long, default_value_t = LatencyLoss::AddLinear)]
    loss: LatencyLoss,
    /// Fixed weight of latency in add#linear; without it, the weight follows the target
    #[arg(long, value_name = "WEIGHT", value_parser = weight)]
    lambda: Option<f64>,
    /// Epochs in which only weights learn
    #[arg(long, value_name = "N", default_value_t = 40)]
    warmup_epochs: usize,
    /// Epochs of the warm-up in which one candidate of each decision learns alone, the smallest kernel of the largest
    /// expansion (left out every second time where it can be); then the others inherit its weights, which spares a short
    /// search most of the warm-up. 0: each learns from random weights of its own, as in the paper
    #[arg(long, value_name = "N", default_value_t = 0)]
    inherit_after: usize,
    /// Epochs in which gates learn, too
    #[arg(long, value_name = "N", default_value_t = 120, value_parser = count())]
    search_epochs: usize,
    /// Images of a step
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = count())]
    batch: usize,
    /// Images of a step of the gates; default: those of a step of the weights
    #[arg(long, value_name = "N", value_parser = count())]
    gate_batch: Option<usize>,
    /// Images that weights learn from; default: all of the training set that gates don't learn from
    #[arg(long, value_name = "N", value_parser = count())]
    train_images: Option<usize>,
    /// Images of the training set that gates learn from; default: a tenth of the set
    #[arg(long, value_name = "N", value_parser = count())]
    validation_images: Option<usize>,
    /// Peak learning rate of the weights in the warm-up
    #[arg(long, default_value_t = 0.05, value_parser = positive)]
    warmup_lr: f64,
    /// Peak learning rate of the weights in the search
    #[arg(long, default_value_t = 0.025, value_parser = positive)]
    lr: f64,
    /// Exchange single candidates of the most probable network that meets the target as long as that lowers the supernet's
    /// cross entropy on this many validation images (2048 is a good number); 0: leave it as it is
    #[arg(long, value_name = "N", default_value_t = 0)]
    refine_images: usize,
    /// Train this many networks that meet the target from scratch for a short while and take the one with the lowest cross
    /// entropy on the validation images: the one that the gates led to, and others drawn by what the gates learned. They
    /// are trained as the weights of the warm-up are, as many at a time as there are threads. 0: the gates decide alone
    #[arg(long, value_name = "N", default_value_t = 0)]
    finalists: usize,
    /// Epochs of a finalist's training
    #[arg(long, value_name = "N", default_value_t = 1, requires = "finalists", value_parser = count())]
    finalist_epochs: usize,
    /// Learning rate of the gates
    #[arg(long, default_value_t = 1e-3, value_parser = positive)]
    alpha_lr: f64,
    /// Weight steps for one step of the gates
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = count())]
    weight_steps: usize,
    #[command(flatten)]
    learning: LearningOptions,
}

/// search.json.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    format: u32,
    /// What the table is of. Where it isn't latency, the names of its amounts end with its unit instead of `ms`.
    #[serde(default)]
    cost: Cost,
    /// The space's name.
    space: String,
    /// The space itself, as its file stood then.
    space_toml: String,
    architecture: String,
    /// The network that the gates led to, before the last stage.
    derived: String,
    most_probable: String,
    expected_ms: f64,
    predicted_ms: f64,
    target_ms: f64,
    loss: String,
    lambda: f64,
    seed: u64,
    dataset: String,
    images: Images,
    train_images: usize,
    validation_images: usize,
    warmup_epochs: usize,
    search_epochs: usize,
    batch: usize,
    threads: usize,
    seconds: f64,
    /// How long of that the search's learning waited for batches.
    #[serde(default)]
    waited_seconds: f64,
    refine_images: usize,
    finalist_count: usize,
    finalist_epochs: usize,
    settings: SearchSettings,
    costs: CostMatrix,
    /// Units of the space whose cost was never measured.
    estimated: Vec<String>,
    probabilities: Vec<Vec<f64>>,
    curve: Vec<SearchPoint>,
    finalists: Vec<Finalist>,
    /// Images that were left out.
    #[serde(default)]
    corrupt: Vec<Corrupt>,
}

impl Record {
    /// Whether the network was derived from the gates as these options say.
    fn is_derived_by(&self, options: &Options) -> bool {
        let ours = (self.refine_images, self.finalist_count, self.finalist_epochs);
        ours == (options.refine_images, options.finalists, options.finalist_epochs)
    }
}

/// Runs the command.
pub fn run(options: &Options) -> Result<()> {
    let folder = options.folder.path();
    let space = SearchSpace::load(&options.space)?;
    let (predictor, warnings) = TablePredictor::read(&options.table, options.model.as_deref(), options.estimate)?;
    warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    let predictor = predictor.for_space(&options.space);
    let (batch, precision) = (predictor.table().batch(), predictor.table().precision());
    let cost = predictor.table().cost();
    let costs = cost_matrix(&space, &predictor, batch, precision)?;
    let target = options.target.amount(cost, batch)?;
    let (least, most) = costs.range_ms();
    if cost != Cost::Latency && !(least..=most).contains(&target.ms()) {
        let (target, unit) = (cost.show(target), cost.unit());
        bail!("target {target} lies outside of what the space holds on this device: {least:.4} to {most:.4} {unit}");
    }
    if batch > 1 {
        eprintln!(
            "the table is of {precision} at batch {batch}: latencies, the target too, are those of {batch} images"
        );
    }
    let estimated: Vec<String> = predictor.unmeasured(&space).iter().map(ToString::to_string).collect();
    if let Some(first) = estimated.first() {
        eprintln!("warning: {} units of the space are estimated by regression, such as {first}", estimated.len());
    }
    let dataset = options.data.load(&space)?;
    let settings = settings(options, &dataset.train, target.ms());
    let mut search = Search::new(&space, costs.clone(), &dataset, settings.clone())?;
    let images = options.data.record(search.fingerprint());
    let result = folder.join("search.json");
    let mut naming = Naming::new(&dataset.train);
    match options.folder.open("search.json", &checkpoint_path(folder))? {
        Start::Done => {
            let text = std::fs::read(&result).with_context(|| format!("can't read {}", result.display()))?;
            let record = read_record(&text).with_context(|| result.display().to_string())?;
            let searched = SearchSpace::from_toml(&record.space_toml, &result.display().to_string())?;
            let differing = [
                ("other settings", record.settings != settings || !record.is_derived_by(options)),
                ("another space", searched.signature() != space.signature()),
                ("another data set", record.images.sha256 != images.sha256),
                ("another table", record.costs != costs),
            ];
            if let Some(difference) = difference(&differing) {
                bail!("{} is of {difference}", result.display());
            }
            eprintln!("{} is there already", result.display());
            return Ok(writeln!(io::stdout(), "{}", record.architecture)?);
        }
        Start::Checkpoint => {
            search.restore(folder)?;
            naming = Naming::after_resuming(&dataset.train);
        }
        Start::Anew => remove_finalists(&folder.join(FINALISTS))?,
    }
    let threads = options.learning.set_threads();
    let bar = Progress::new(search.total_steps(), search.step(), "steps")?;
    let mut watch = |search: &Search| {
        if let Some(point) = search.curve().last() {
            bar.set_message(format!(
                "{}: loss {:.3}, accuracy {:.1} %, expected {:.4} {}, entropy {:.2}",
                point.phase,
                point.loss,
                point.accuracy_percent,
                point.expected_ms,
                cost.unit(),
                point.entropy
            ));
        }
        naming.name(|line| bar.say(line));
        bar.set(search.step());
    };
    let stop = stop_flag()?;
    let done = search.run(folder, &stop, &mut watch);
    bar.finish();
    naming.name(|line| eprintln!("{line}"));
    done?;
    let learning = search.account();
    let mut found = search.refined(options.refine_images, &mut |exchange| eprintln!("{exchange}"))?;
    let derived = found.architecture.to_string();
    let finalists = hold_contest(options, &search, &space, (&costs, cost), &found.architecture, (threads, &stop))?;
    naming.name(|line| eprintln!("{line}"));
    if let Some(best) = finalists.first() {
        found.architecture = space.parse_architecture(&best.architecture)?;
        found.predicted_ms = best.predicted_ms;
    }
    let account = Account { corrupt: corrupt(&[&dataset.train]), ..search.account() };
    let evidence = Evidence { space: &space, dataset: &dataset.name, images, cost, costs: &costs, estimated };
    let record = record(&found, derived, options, evidence, &settings, finalists, (threads, &account));
    write_curve(&folder.join("curve.csv"), &found.curve, cost)?;
    write_json(&result, &renamed(serde_json::to_value(&record)?, Cost::Latency, cost))?;
    tell(&found, &costs, cost, settings.target_ms);
    if !account.corrupt.is_empty() {
        eprintln!("{} corrupt images were left out: {} names them", account.corrupt.len(), result.display());
    }
    eprintln!("the search took {}", time(account.seconds, &learning));
    writeln!(io::stdout(), "{}", found.architecture)?;
    Ok(())
}

/// The record with the names of amounts ending with another cost's unit.
fn renamed(value: Value, from: Cost, to: Cost) -> Value {
    let (from_unit, to_unit) = (from.column(""), to.column(""));
    match value {
        Value::Object(map) => {
            let entry = |(name, value): (String, Value)| {
                let other = name.strip_suffix(&from_unit).map(|name| format!("{name}{to_unit}"));
                (other.unwrap_or(name), renamed(value, from, to))
            };
            Value::Object(map.into_iter().map(entry).collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(|value| renamed(value, from, to)).collect()),
        other => other,
    }
}

fn read_record(text: &[u8]) -> Result<Record> {
    let value: Value = serde_json::from_slice(text)?;
    let cost = value.get("cost").cloned().map(serde_json::from_value::<Cost>).transpose()?.unwrap_or_default();
    Ok(serde_json::from_value(renamed(value, cost, Cost::Latency))?)
}

/// Trains the finalists, if there are to be any; best first.
fn hold_contest(
    options: &Options,
    search: &Search,
    space: &SearchSpace,
    (costs, cost): (&CostMatrix, Cost),
    first: &Architecture,
    (threads, stop): (usize, &AtomicBool),
) -> Result<Vec<Finalist>> {
    if options.finalists == 0 {
        return Ok(Vec::new());
    }
    let finalists = search.finalists(first, options.finalists);
    if finalists.len() < options.finalists {
        eprintln!("only {} networks within 5 % below the target were found for the last stage", finalists.len());
    }
    let (dataset, recipe) = (search.split(), search.finalist_recipe(options.finalist_epochs));
    let folder = options.folder.path().join(FINALISTS);
    let contest = Contest { space, costs, dataset: &dataset, recipe: &recipe, folder, threads };
    let bar = Progress::new(contest.steps(finalists.len()), 0, "steps of finalists")?;
    let ranked = contest.run(&finalists, stop, &|news| match news {
        News::Steps(steps) => bar.add(steps),
        News::Done(finalist) => bar.say(&format!(
            "finalist {}: predicted {:.4} {}, cross entropy {:.4}, accuracy {:.2} % on the validation images",
            finalist.architecture,
            finalist.predicted_ms,
            cost.unit(),
            finalist.cross_entropy,
            finalist.accuracy_percent
        )),
    });
    bar.finish();
    // Each finalist has its own checkpoint; the search's, which counts the time, is the one to go on from.
    match ranked {
        Err(SearchError::Interrupted { .. }) => {
            let folder = options.folder.path().to_path_buf();
            search.save(&folder)?;
            Err(SearchError::Interrupted { folder }.into())
        }
        ranked => Ok(ranked?),
    }
}

/// A search that starts anew has no use for the last one's finalists.
fn remove_finalists(folder: &FilePath) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("can't remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

fn weight(text: &str) -> Result<f64, String> {
    let weight = text.parse().ok().filter(|weight: &f64| weight.is_finite() && *weight >= 0.0);
    weight.ok_or_else(|| "wanted a number, at least 0".to_owned())
}

fn settings(options: &Options, train: &Split, target: f64) -> SearchSettings {
    let (available, augmentation) = (train.len(), options.learning.augmentation(train));
    let Augmentation { shift, flip, crop, jitter } = augmentation;
    let validation_images = options.validation_images.unwrap_or(available / 10);
    let train_images = options.train_images.unwrap_or(available.saturating_sub(validation_images));
    let constraint = match options.lambda {
        Some(lambda) => Constraint::fixed(lambda),
        None => Constraint { lambda: Constraint::INITIAL_LAMBDA, rate: Constraint::RATE, gain: Constraint::GAIN },
    };
    SearchSettings {
        warmup_epochs: options.warmup_epochs,
        search_epochs: options.search_epochs,
        inherit_after: options.inherit_after,
        batch: options.batch,
        gate_batch: options.gate_batch.unwrap_or(options.batch),
        train_images,
        validation_images,
        warmup_lr: options.warmup_lr,
        search_lr: options.lr,
        alpha_lr: options.alpha_lr,
        weight_steps: options.weight_steps,
        loss: options.loss,
        constraint,
        target_ms: target,
        smoothing: 0.1,
        shift,
        flip,
        crop,
        jitter,
        seed: options.learning.seed,
        channels_last: !options.learning.nchw,
    }
}

/// What a search rests on.
struct Evidence<'a> {
    space: &'a SearchSpace,
    dataset: &'a str,
    images: Images,
    cost: Cost,
    costs: &'a CostMatrix,
    estimated: Vec<String>,
}

fn record(
    found: &Found,
    derived: String,
    options: &Options,
    evidence: Evidence<'_>,
    settings: &SearchSettings,
    finalists: Vec<Finalist>,
    (threads, account): (usize, &Account),
) -> Record {
    Record {
        format: 1,
        cost: evidence.cost,
        space: evidence.space.name().to_owned(),
        space_toml: evidence.space.text().to_owned(),
        derived,
        architecture: found.architecture.to_string(),
        most_probable: found.most_probable.to_string(),
        expected_ms: found.expected_ms,
        predicted_ms: found.predicted_ms,
        target_ms: settings.target_ms,
        loss: settings.loss.to_string(),
        lambda: found.lambda,
        seed: settings.seed,
        dataset: evidence.dataset.to_owned(),
        images: evidence.images,
        train_images: settings.train_images,
        validation_images: settings.validation_images,
        warmup_epochs: settings.warmup_epochs,
        search_epochs: settings.search_epochs,
        batch: settings.batch,
        threads,
        seconds: account.seconds,
        waited_seconds: account.waited_seconds,
        refine_images: options.refine_images,
        finalist_count: options.finalists,
        finalist_epochs: options.finalist_epochs,
        settings: settings.clone(),
        costs: evidence.costs.clone(),
        estimated: evidence.estimated,
        probabilities: found.probabilities.clone(),
        curve: found.curve.clone(),
        finalists,
        corrupt: account.corrupt.clone(),
    }
}

fn write_curve(path: &FilePath, curve: &[SearchPoint], cost: Cost) -> Result<()> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    curve.iter().try_for_each(|point| writer.serialize(point))?;
    let text = String::from_utf8(writer.into_inner().map_err(csv::IntoInnerError::into_error)?)?;
    let (header, rows) = text.split_once('\n').unwrap_or((&text, ""));
    let header = header.replace(&Cost::Latency.column(""), &cost.column(""));
    write_atomically(path, format!("{header}\n{rows}").as_bytes())
        .with_context(|| format!("can't write {}", path.display()))
}

fn tell(found: &Found, costs: &CostMatrix, cost: Cost, target: f64) {
    let ((least, most), unit) = (costs.range_ms(), cost.unit());
    eprintln!(
        "found {} (most probable: {}): predicted {:.4} {unit} (target {target:.4} {unit}, the space holds {least:.4} to {most:.4} {unit}), \
         expected {cost} of the gates {:.4} {unit}",
        found.architecture, found.most_probable, found.predicted_ms, found.expected_ms
    );
    // What the runtime alone takes of memory can't be saved.
    let (spent, allowed) = (found.predicted_ms - least, target - least);
    if cost == Cost::Latency && found.predicted_ms < 0.9 * target {
        eprintln!(
            "warning: the found network is more than 10 % faster than it had to be: search longer, or raise --alpha-lr"
        );
    } else if cost != Cost::Latency && spent < 0.9 * allowed {
        eprintln!(
            "warning: the found network takes less than 90 % of what the target leaves above the least network: search \
             longer, or raise --alpha-lr"
        );
    }
}
