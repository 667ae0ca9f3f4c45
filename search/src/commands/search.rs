//! `fleetfoot search`.

mod budgets;
mod measured;
mod record;
mod several;
mod trained;

use std::io::{self, Write};
use std::path::Path as FilePath;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use fleetfoot_console::{Progress, count, positive, stop_flag};
use fleetfoot_search::{
    Account, Agreement, Augmentation, Finalist, Found, GateUpdate, LatencyLoss, Learning as _, Limits, Search,
    SearchEvents, SearchSettings, Split, checkpoint_path, difference,
};
use fleetfoot_space::{Architecture, SearchSpace};
use fleetfoot_worklist::{Kind, write_json};

use self::budgets::{BudgetOptions, Budgets};
use self::measured::{Devices, Measured, corrected, meets};
use self::record::{Record, Told, write_curves};
use self::trained::{diagnose, hold_contest};
use super::list::{self, ListOptions};
use super::{DataOptions, FolderOptions, LearningOptions, Naming, Start, corrupt, tell_change, time};

/// Folder of the finalists in a run's folder.
const FINALISTS: &str = "finalists";
/// Folder of the diagnosed networks in a run's folder.
const DIAGNOSED: &str = "diagnosed";
/// Images by which a front's networks are bettered, unless it is said.
const FRONT_IMAGES: usize = 2048;
/// Networks that are derived and measured until one meets its targets.
const TRIES: usize = 5;
/// What a network should take at least of its target, as measured.
const USED: f64 = 0.95;

/// Options of `search`.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Search space: a preset's name or a TOML file
    #[arg(long, value_name = "SPACE")]
    space: String,
    #[command(flatten)]
    budgets: BudgetOptions,
    #[command(flatten)]
    data: DataOptions,
    #[command(flatten)]
    folder: FolderOptions,
    #[command(flatten)]
    list: ListOptions,
    /// How latency enters the gates' loss: add#linear or mul#log
    #[arg(long, default_value_t = LatencyLoss::AddLinear)]
    loss: LatencyLoss,
    /// Fixed weight of latency in add#linear; without it, the weight follows the target
    #[arg(long, value_name = "WEIGHT", value_parser = weight)]
    lambda: Option<f64>,
    /// Leave the target to the loss alone while gates learn, as the paper does: what they expect may end anywhere
    #[arg(long)]
    soft_target: bool,
    /// How gates learn: two-paths, all-gates (each candidate computed, one at a time) or reinforce
    #[arg(long, value_name = "HOW", default_value_t = GateUpdate::TwoPaths)]
    gate_update: GateUpdate,
    /// Cut candidates whose probability stays below this: the supernet shrinks. 0: cut none
    #[arg(long, value_name = "P", default_value_t = 0.01, value_parser = probability)]
    cut_below: f64,
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
    /// are trained as the weights of the warm-up are, as many at a time as there are threads (on a GPU, one at a time). 0: the
    /// gates decide alone
    #[arg(long, value_name = "N", default_value_t = 0)]
    finalists: usize,
    /// Epochs of a finalist's training, and of those that are diagnosed
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count())]
    finalist_epochs: usize,
    /// Measure what is found on this device, and look for a smaller network as long as it takes longer than the target; of
    /// several tables, a device for each
    #[arg(long, value_name = "DEVICE")]
    measure_on: Vec<String>,
    /// Hold the gates against random search and regularised evolution, on the same supernet within the same limits: with as
    /// many evaluations, and in as much time
    #[arg(long)]
    compare: bool,
    /// Give a front of networks, too: at this many amounts of what is limited first, from the one supernet
    #[arg(long, value_name = "N", default_value_t = 0)]
    pareto: usize,
    /// Tell how well the supernet ranks: Kendall's tau between its accuracies and those of this many networks that are trained
    /// from scratch, for as long as finalists are
    #[arg(long, value_name = "N", default_value_t = 0)]
    diagnose: usize,
    /// Learning rate of the gates
    #[arg(long, default_value_t = 1e-3, value_parser = positive)]
    alpha_lr: f64,
    /// Weight steps for one step of the gates
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = count())]
    weight_steps: usize,
    #[command(flatten)]
    learning: LearningOptions,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<()> {
    let targets = options.budgets.targets()?;
    if targets.is_empty() && options.list.is_one() {
        // Several processes hear of it from rank 0, when all are there.
        if options.learning.dist.launch()?.is_none() {
            list::check_alone(&options.folder, Kind::Searches, false)?;
        }
        return search(options, true);
    }
    several::run(options, &targets)
}

/// One search, in the options' folder, which is that of no list if this is no job of one.
fn search(options: &Options, is_alone: bool) -> Result<()> {
    let folder = options.folder.path();
    let launch = options.learning.dist.launch()?;
    let compute = options.learning.compute(launch.as_ref())?;
    let space = SearchSpace::load(&options.space)?;
    let budgets = options.budgets.read(&space, &options.space)?;
    budgets.check_devices(&options.measure_on)?;
    let dataset = options.data.load(&space)?;
    let settings = settings(options, &dataset.train);
    let search = Search::on(compute, &space, budgets.limits.clone(), &dataset, settings.clone())?;
    let threads = options.learning.set_threads(launch.as_ref());
    let alike = Agreement::default()
        .hashed("space", &space.signature())
        .hashed("table and targets", search.limits())
        .hashed("settings", search.settings())
        .told("images", search.fingerprint());
    let Some(group) = options.learning.dist.join(launch.as_ref(), (compute, threads), alike)? else { return Ok(()) };
    let mut search = search.recomputing(options.learning.recompute).among(Arc::clone(&group))?;
    let images = options.data.record(search.fingerprint());
    let result = folder.join("search.json");
    let mut naming = Naming::new(&dataset.train);
    let stop = stop_flag()?;
    if is_alone {
        group.led(|| list::check_alone(&options.folder, Kind::Searches, false))?;
    }
    match options.folder.open(&group, "search.json", &checkpoint_path(folder))? {
        // Rank 0 alone knows what else there is to do.
        Start::Done if !group.leads() => return Ok(()),
        Start::Done => {
            let mut record = Record::read(&result)?;
            let searched = SearchSpace::from_toml(&record.space_toml, &result.display().to_string())?;
            let differing = [
                ("other settings", record.settings != settings || !record.is_derived_by(options)),
                ("another space", searched.signature() != space.signature()),
                ("another data set", record.images.sha256 != images.sha256),
                ("another table or target", record.limits != budgets.limits),
            ];
            if let Some(difference) = difference(&differing) {
                bail!("{} is of {difference}", result.display());
            }
            if record.tells_less(options) {
                // The others have ended.
                search = search.among(Arc::default())?;
                search.restore(folder)?;
                add_told(options, &search, &space, &mut record, (threads, &stop))?;
            } else {
                eprintln!("{} is there already", result.display());
            }
            return Ok(writeln!(io::stdout(), "{}", record.architecture)?);
        }
        Start::Checkpoint => {
            search.restore(folder)?;
            if group.leads() {
                tell_change(&search.account());
                naming = Naming::after_resuming(&dataset.train);
            }
        }
        Start::Anew if !group.leads() => {}
        Start::Anew => {
            [FINALISTS, DIAGNOSED, measured::FOLDER].into_iter().try_for_each(|name| remove(&folder.join(name)))?;
        }
    }
    let apart = options.learning.checkpoints_apart();
    if !group.leads() {
        return Ok(search.run_saving(folder, (&stop, apart), &mut |_| {})?);
    }
    learn(&mut search, folder, (&stop, apart), &budgets.limits, &mut naming)?;
    let learning = search.account();
    let devices = devices(options, &budgets);
    let (mut found, within, mut measured) = derive(options, &search, devices.as_ref())?;
    let derived = found.architecture.to_string();
    let finalists = hold_contest(options, &search, &space, (&found.architecture, &within), (threads, &stop))?;
    naming.name(|line| eprintln!("{line}"));
    if let Some(best) = pick(&finalists, &space, devices.as_ref(), &mut measured)? {
        found.replace(&search, best);
    }
    let account = Account { corrupt: corrupt(&[&dataset.train]), ..search.account() };
    let mut record = Record::of(&found, &space, &budgets, settings);
    record.derived = derived;
    record.finalists = finalists;
    record.measured = measured;
    record.within = within.amounts();
    (record.images, record.dataset) = (images, dataset.name.clone());
    record.took(threads, &account);
    record.derived_by(options);
    write_curves(folder, &found, &budgets)?;
    write_json(&result, &record.named()?)?;
    // What was found is safe before more is asked of it.
    if record.tells_less(options) {
        add_told(options, &search, &space, &mut record, (threads, &stop))?;
    }
    tell(&found, &budgets, &record.measured);
    if !account.corrupt.is_empty() {
        eprintln!("{} corrupt images were left out: {} names them", account.corrupt.len(), result.display());
    }
    eprintln!("the search took {}", time(account.seconds, &learning));
    writeln!(io::stdout(), "{}", found.architecture)?;
    Ok(())
}

/// Where what is found is to be measured, if anywhere.
fn devices<'a>(options: &'a Options, budgets: &'a Budgets) -> Option<Devices<'a>> {
    (!options.measure_on.is_empty()).then(|| Devices {
        names: &options.measure_on,
        space: &options.space,
        batch: budgets.batch,
        folder: options.folder.path(),
        limits: &budgets.limits,
    })
}

/// The network that the gates led to; where it is measured, the first of at most [`TRIES`] that meets the targets so.
/// Besides, the limits that it was derived within, and all that was measured.
fn derive(options: &Options, search: &Search, devices: Option<&Devices<'_>>) -> Result<(Found, Limits, Vec<Measured>)> {
    let mut within = search.limits().clone();
    let mut measured: Vec<Measured> = Vec::new();
    let mut tried: Vec<(Found, Limits)> = Vec::new();
    for attempt in 0..TRIES {
        let found = search.refined_within(&within, options.refine_images, &mut |exchange| eprintln!("{exchange}"))?;
        let Some(devices) = devices else { return Ok((found, within, measured)) };
        if tried.iter().any(|(known, _)| known.architecture == found.architecture) {
            break;
        }
        let new = devices.measure(&format!("derived{attempt}"), std::slice::from_ref(&found.architecture))?;
        new.iter().for_each(|measured| eprintln!("{}", measured.told()));
        let used = new.iter().map(|measured| measured.measured_ms / measured.target_ms).fold(0.0, f64::max);
        measured.extend(new);
        tried.push((found, within.clone()));
        if (USED..=1.0).contains(&used) {
            break;
        }
        match search.limits().at(&corrected(search.limits(), devices.names, &measured)) {
            Ok(next) => within = next,
            Err(error) => {
                eprintln!("warning: the targets can't be met as measured: {error}");
                break;
            }
        }
    }
    // Of those that meet the targets, the one that uses most; if none does, the smallest.
    let share = |(found, _): &(Found, Limits)| search.limits().share(&found.architecture);
    let by_share = |a: &(Found, Limits), b: &(Found, Limits)| share(a).total_cmp(&share(b));
    let met = tried.iter().filter(|(found, _)| meets(&measured, &found.architecture)).max_by(|a, b| by_share(a, b));
    let best = met.or_else(|| tried.iter().min_by(|a, b| by_share(a, b)));
    let (found, within) = best.cloned().context("nothing was derived")?;
    Ok((found, within, measured))
}

/// The best finalist; where they are measured, the best of those that meet the targets so.
fn pick(
    finalists: &[Finalist],
    space: &SearchSpace,
    devices: Option<&Devices<'_>>,
    measured: &mut Vec<Measured>,
) -> Result<Option<Architecture>> {
    let networks = finalists.iter().map(|finalist| Ok(space.parse_architecture(&finalist.architecture)?));
    let networks = networks.collect::<Result<Vec<Architecture>>>()?;
    let Some(devices) = devices.filter(|_| !networks.is_empty()) else { return Ok(networks.into_iter().next()) };
    let new = devices.measure("finalists", &networks)?;
    let best = networks.into_iter().find(|network| meets(&new, network));
    if best.is_none() {
        eprintln!("no finalist meets the targets as measured: the network that the gates led to is taken");
    }
    measured.extend(new);
    Ok(best)
}

/// Runs all steps that are left, with a bar.
fn learn(
    search: &mut Search,
    folder: &FilePath,
    saving: (&AtomicBool, Duration),
    limits: &Limits,
    naming: &mut Naming,
) -> Result<()> {
    let bar = Progress::new(search.total_steps(), search.step(), "steps")?;
    let mut cuts = search.cuts().len();
    let mut events = SearchEvents::open(folder, search)?;
    let mut watch = |search: &Search| {
        if let Some(point) = search.curve().last() {
            bar.set_message(format!(
                "{}: loss {:.3}, accuracy {:.1} %, expected {}, entropy {:.2}, {} candidates",
                point.phase,
                point.loss,
                point.accuracy_percent,
                limits.first().show(point.expected_ms),
                point.entropy,
                point.candidates
            ));
        }
        if search.cuts().len() > cuts {
            cuts = search.cuts().len();
            let left = search.gates().live().iter().flatten().filter(|live| **live).count();
            bar.say(&format!("step {}: {cuts} candidates are cut, {left} are left", search.step()));
        }
        if let Err(error) = events.watch(search) {
            bar.say(&format!("warning: {error}: nothing more is told to TensorBoard"));
        }
        naming.name(|line| bar.say(line));
        bar.set(search.step());
    };
    let done = search.run_saving(folder, saving, &mut watch);
    bar.finish();
    naming.name(|line| eprintln!("{line}"));
    Ok(done?)
}

/// Adds to the record, and to the run's `search.json`, what the options ask for besides the network.
fn add_told(
    options: &Options,
    search: &Search,
    space: &SearchSpace,
    record: &mut Record,
    control: (usize, &AtomicBool),
) -> Result<()> {
    // Records of earlier builds don't know what their networks were derived within.
    let within = if record.within.is_empty() { search.limits().clone() } else { search.limits().at(&record.within)? };
    let found = space.parse_architecture(&record.architecture)?;
    let told = tell_more(options, search, space, (&found, &within), control)?;
    record.told(options, told);
    write_json(&options.folder.path().join("search.json"), &record.named()?)
}

/// What the options ask for besides the network.
fn tell_more(
    options: &Options,
    search: &Search,
    space: &SearchSpace,
    (found, within): (&Architecture, &Limits),
    (threads, stop): (usize, &AtomicBool),
) -> Result<Told> {
    let first = search.limits().first();
    let mut told = Told::default();
    if options.compare {
        told.rivals = search.rivals(within, found, &mut |rival| {
            eprintln!(
                "{}{}: {} needs {}, cross entropy {:.4}, accuracy {:.2} % by the supernet; {} evaluations, {:.1} s",
                rival.method,
                if rival.budget.is_empty() { String::new() } else { format!(" (equal {})", rival.budget) },
                rival.architecture,
                first.show(rival.predicted),
                rival.cross_entropy,
                rival.accuracy_percent,
                rival.evaluations,
                rival.seconds
            );
        })?;
    }
    if options.pareto > 0 {
        let images = if options.refine_images > 0 { options.refine_images } else { FRONT_IMAGES };
        told.pareto = search.front(options.pareto, images, &mut |point| {
            eprintln!(
                "front: {} needs {}, cross entropy {:.4}, accuracy {:.2} % by the supernet",
                point.architecture,
                first.show(point.needs[0]),
                point.cross_entropy,
                point.accuracy_percent
            );
        })?;
    }
    if options.diagnose > 0 {
        told.diagnosis = Some(diagnose(options, search, space, (threads, stop))?);
    }
    Ok(told)
}

/// A search that starts anew has no use for what the last one left.
fn remove(folder: &FilePath) -> Result<()> {
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

fn probability(text: &str) -> Result<f64, String> {
    let p = text.parse().ok().filter(|p: &f64| (0.0..1.0).contains(p));
    p.ok_or_else(|| "wanted a probability, at least 0 and below 1".to_owned())
}

fn settings(options: &Options, train: &Split) -> SearchSettings {
    let (available, augmentation) = (train.len(), options.learning.augmentation(train));
    let Augmentation { shift, flip, crop, jitter } = augmentation;
    let validation_images = options.validation_images.unwrap_or(available / 10);
    let train_images = options.train_images.unwrap_or(available.saturating_sub(validation_images));
    SearchSettings {
        warmup_epochs: options.warmup_epochs,
        search_epochs: options.search_epochs,
        inherit_after: options.inherit_after,
        batch: options.batch,
        accumulate: options.learning.accumulate,
        gate_batch: options.gate_batch.unwrap_or(options.batch),
        train_images,
        validation_images,
        warmup_lr: options.warmup_lr,
        search_lr: options.lr,
        alpha_lr: options.alpha_lr,
        weight_steps: options.weight_steps,
        gate_update: options.gate_update,
        loss: options.loss,
        lambda: options.lambda,
        // A fixed weight is a wish for a trade-off, not for a target.
        soft: options.soft_target || options.lambda.is_some(),
        cut_below: options.cut_below,
        smoothing: 0.1,
        shift,
        flip,
        crop,
        jitter,
        seed: options.learning.seed,
        channels_last: !options.learning.nchw,
        amp: options.learning.amp,
    }
}

fn tell(found: &Found, budgets: &Budgets, measured: &[Measured]) {
    eprintln!("found {} (most probable: {})", found.architecture, found.most_probable);
    for (limit, reached) in budgets.limits.iter().zip(&found.limits) {
        let (least, most) = limit.demand.range(&limit.demand.everything());
        eprintln!(
            "{}: predicted {} (target {}, the space holds {} to {}), expected of the gates {}",
            limit.name,
            limit.show(reached.predicted),
            limit.show(limit.at_most),
            limit.show(least),
            limit.show(most),
            limit.show(reached.expected)
        );
    }
    let own = |measured: &&Measured| measured.architecture == found.architecture.to_string();
    for measured in measured.iter().filter(own) {
        eprintln!("{}", measured.told());
        if measured.measured_ms > measured.target_ms {
            eprintln!("warning: that is more than the target: no network was found that takes less");
        }
    }
    if budgets.limits.share(&found.architecture) < 0.9 && measured.is_empty() {
        eprintln!(
            "the found network needs less than 90 % of what it may: no single exchange for more raised the supernet's accuracy"
        );
    }
}
