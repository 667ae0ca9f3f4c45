//! `fleetfoot train`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use fleetfoot_console::{Progress, count, fraction, not_negative, positive, stop_flag, usage};
use fleetfoot_profiler::{Configuration, sha256, write_atomically};
use fleetfoot_search::{
    Account, Agreement, Augmentation, CLASSIFIER, Check, Compute, Corrupt, Dataset, Evaluation, Group, Learning as _,
    Recipe, Reduced, SearchError, Sgd, Split, Training, TrainingEvents, TrainingPoint, checkpoint_path, difference,
};
use fleetfoot_space::{Architecture, SearchSpace, Weights, WeightsError};
pub use fleetfoot_worklist::TRAIN as RECORD;
use fleetfoot_worklist::{ArchitectureOptions, Kind, write_json};
use serde::{Deserialize, Serialize};

use super::list::{self, ListOptions};
use super::{
    DataOptions, FolderOptions, Images, LearningOptions, Naming, Start, alone, corrupt, is_alone, tell_change, time,
};

/// Name of the trained weights in a run folder.
pub const WEIGHTS: &str = "weights.safetensors";

/// Options of `train`.
#[derive(Debug, Args)]
pub struct Options {
    /// Search space: a preset's name or a TOML file
    #[arg(long, value_name = "SPACE")]
    space: String,
    #[command(flatten)]
    architectures: ArchitectureOptions,
    #[command(flatten)]
    data: DataOptions,
    #[command(flatten)]
    folder: FolderOptions,
    /// Epochs
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = count())]
    epochs: usize,
    /// Epochs of them in which the learning rate rises
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    rise_epochs: f64,
    /// Images of a step
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = count())]
    batch: usize,
    /// Images of the training set that are used; default: all
    #[arg(long, value_name = "N", value_parser = count())]
    train_images: Option<usize>,
    /// Peak learning rate
    #[arg(long, default_value_t = 0.1, value_parser = positive)]
    lr: f64,
    #[command(flatten)]
    list: ListOptions,
    /// Start from these weights: a safetensors file with the names that training gives its tensors
    #[arg(long, value_name = "FILE")]
    init: Option<PathBuf>,
    /// Start the classifier at random all the same: for another number of classes
    #[arg(long, requires = "init")]
    new_classifier: bool,
    /// Label smoothing
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, value_parser = fraction)]
    smoothing: f64,
    /// Weight decay
    #[arg(long, value_name = "DECAY", default_value_t = Sgd::default().decay, value_parser = not_negative)]
    weight_decay: f64,
    /// Leave batch normalisation's weights and biases out of the weight decay
    #[arg(long)]
    no_decay_bn: bool,
    /// Keep a moving average of the weights with this decay, such as 0.999: it is what is judged and exported
    #[arg(long, value_name = "DECAY", value_parser = fraction)]
    ema: Option<f64>,
    /// Blend images in pairs, labels too, by shares drawn from Beta(ALPHA, ALPHA), such as 0.2
    #[arg(long, value_name = "ALPHA", value_parser = positive)]
    mixup: Option<f64>,
    /// Paste rectangles of one image into another, labels too, by shares drawn from Beta(ALPHA, ALPHA), such as 1
    #[arg(long, value_name = "ALPHA", value_parser = positive)]
    cutmix: Option<f64>,
    #[command(flatten)]
    learning: LearningOptions,
}

/// How the weights of the last step did on the test images, where their moving average came out.
#[derive(Debug, Serialize, Deserialize)]
pub struct LastStep {
    pub accuracy_percent: f64,
    pub test_loss: f64,
}

/// train.json.
#[derive(Debug, Serialize, Deserialize)]
pub struct Record {
    pub format: u32,
    /// The space's name.
    pub space: String,
    /// The space itself, as its file stood then.
    pub space_toml: String,
    pub architecture: String,
    /// As it was named on the command line: digits, or a name, and the width multiplier.
    pub named: String,
    pub macs: u64,
    pub params: u64,
    pub seed: u64,
    pub dataset: String,
    pub images: Images,
    /// Mean and standard deviation of each channel of the training images, of values in 0..1, by which inputs are
    /// normalised.
    pub normalisation: Vec<(f32, f32)>,
    pub epochs: usize,
    pub train_images: usize,
    /// Images that the accuracy is of: all test images that could be read.
    pub test_images: usize,
    pub batch: usize,
    pub lr: f64,
    pub threads: usize,
    /// What computed, one after the other where it wasn't one thing throughout.
    #[serde(default)]
    pub computed_on: Vec<Compute>,
    /// How many processes learned together, one number after the other where it wasn't the same throughout.
    #[serde(default = "alone", skip_serializing_if = "is_alone")]
    pub ranks: Vec<usize>,
    pub seconds: f64,
    /// How long of that learning waited for batches.
    #[serde(default)]
    pub waited_seconds: f64,
    pub accuracy_percent: f64,
    pub test_loss: f64,
    /// There where `accuracy_percent` and `test_loss` are of the weights' moving average.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without_ema: Option<LastStep>,
    pub recipe: Recipe,
    pub curve: Vec<TrainingPoint>,
    /// Images, of training and of testing, that were left out.
    #[serde(default)]
    pub corrupt: Vec<Corrupt>,
    pub onnx: Option<Check>,
    /// The exported models of fewer bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fp16: Option<Reduced>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub int8: Option<Reduced>,
}

impl Record {
    /// The space in the architecture's widths, and the architecture.
    pub fn resolve(&self, folder: &Path) -> Result<(SearchSpace, Architecture)> {
        let origin = folder.join(RECORD).display().to_string();
        Ok(SearchSpace::from_toml(&self.space_toml, &origin)?.resolve(&self.named)?)
    }
}

/// Runs the command.
pub fn run(options: &Options) -> Result<()> {
    if !(0.0..=options.epochs as f64).contains(&options.rise_epochs) {
        return Err(usage(format!("--rise-epochs {}: wanted 0 to {}", options.rise_epochs, options.epochs)));
    }
    let launch = options.learning.dist.launch()?;
    options.list.check_launch(launch.as_ref())?;
    let compute = options.learning.compute(launch.as_ref())?;
    let given = SearchSpace::load(&options.space)?;
    let init = options.init.as_deref().map(Weights::read).transpose()?;
    let threads = options.learning.set_threads(launch.as_ref());
    let mut works: Vec<Work<'_>> = Vec::new();
    options.architectures.each_text(|text| {
        works.push(Work::new(options, &given, text, (init.as_ref(), compute, threads))?);
        Ok(())
    })?;
    let (folder, seed) = (&options.folder, options.learning.seed);
    let Some(first) = works.first() else {
        return Err(usage("no architecture: name one, or several, or a file of them with --architectures"));
    };
    let alike = launch.as_ref().map(|_| first.alike(&works)).transpose()?.unwrap_or_default();
    let Some(group) = options.learning.dist.join(launch.as_ref(), (compute, threads), alike)? else { return Ok(()) };
    works.iter_mut().for_each(|work| work.group = Arc::clone(&group));
    match works.as_slice() {
        [work] if options.list.is_one() => {
            group.led(|| list::check_alone(folder, Kind::Trainings, false))?;
            work.train(folder, seed).map(drop)
        }
        works => {
            let named: Vec<(String, String)> =
                works.iter().map(|work| (work.named.clone(), work.named.clone())).collect();
            let configuration = || configuration(options, &given, &works[0]);
            let list = (Kind::Trainings, &named[..]);
            list::run(&options.list, &group, (folder, seed), list, configuration, |job, folder| {
                let work = works.iter().find(|work| work.named == job.of);
                work.map_or(Ok(()), |work| work.train(folder, job.seed).map(drop))
            })
        }
    }
}

/// What decides the results of a list of trainings, besides architectures and seeds.
fn configuration(options: &Options, given: &SearchSpace, first: &Work<'_>) -> Result<Configuration> {
    let mut configuration = list::of_space(given);
    let dataset = options.data.load(&first.space)?;
    list::add_settings(&mut configuration, &recipe(options, &dataset.train, 0))?;
    if let Some(init) = &options.init {
        let bytes = std::fs::read(init).with_context(|| format!("can't read {}", init.display()))?;
        configuration.set("initial weights", sha256(&bytes));
    }
    Ok(configuration)
}

/// What is to be trained, on what, how.
struct Work<'a> {
    options: &'a Options,
    given: &'a SearchSpace,
    space: SearchSpace,
    architecture: Architecture,
    /// As it was named on the command line.
    named: String,
    /// Its digits, or its name where it has widths of its own.
    label: String,
    /// Where weights don't start at random.
    init: Option<&'a Weights>,
    threads: usize,
    compute: Compute,
    /// Who trains together.
    group: Arc<Group>,
}

/// What a training came to.
struct Outcome {
    account: Account,
    /// How well the network that comes out does.
    result: Evaluation,
    /// How well the last step's weights do, where their average comes out.
    last_step: Option<Evaluation>,
}

impl<'a> Work<'a> {
    fn new(
        options: &'a Options,
        given: &'a SearchSpace,
        text: &str,
        (init, compute, threads): (Option<&'a Weights>, Compute, usize),
    ) -> Result<Self> {
        let (space, architecture) = given.resolve(text)?;
        let named = given.canonical(text)?;
        let label = if space.is_as_wide_as(given) { architecture.to_string() } else { named.clone() };
        let group = Arc::default();
        Ok(Self { options, given, space, architecture, named, label, init, threads, compute, group })
    }

    /// What all processes must have alike that train this and others together.
    fn alike(&self, all: &[Work<'_>]) -> Result<Agreement> {
        let dataset = self.options.data.load(&self.space)?;
        let training = self.start(&dataset, self.options.learning.seed)?;
        let named: Vec<&str> = all.iter().map(|work| work.named.as_str()).collect();
        Ok(Agreement::default()
            .hashed("space", &self.space.signature())
            .told("architectures", named.join(" "))
            .hashed("recipe", training.recipe())
            .hashed("seeds", &self.options.list.seeds)
            .told("images", training.fingerprint()))
    }

    /// Trains by a seed in a folder, or finds that it is done. Rank 0 alone has a record of it.
    fn train(&self, options: &FolderOptions, seed: u64) -> Result<Option<Record>> {
        let folder = options.path();
        // Each seed reads the images anew: which of them are corrupt is then what its own training found, as if it were alone.
        let dataset = self.options.data.load(&self.space)?;
        let mut training = self.start(&dataset, seed)?.among(Arc::clone(&self.group))?;
        let leads = self.group.leads();
        let images = self.options.data.record(training.fingerprint());
        let mut naming = Naming::new(&dataset.train);
        match options.open(&self.group, RECORD, &checkpoint_path(folder))? {
            Start::Done => {
                let done = self.group.leads().then(|| self.done(folder, &training, &images)).transpose();
                // Whether it is done is rank 0's to say.
                self.group.led(|| done.as_ref().map(drop).map_err(|error| anyhow::anyhow!("{error}")))?;
                return done;
            }
            Start::Checkpoint => {
                training.restore(folder)?;
                if leads {
                    tell_change(&training.account());
                    naming = Naming::after_resuming(&dataset.train);
                }
            }
            Start::Anew => {}
        }
        if !leads {
            let saving = (&*stop_flag()?, self.options.learning.checkpoints_apart());
            training.run_saving(folder, saving, &mut |_| {})?;
            self.evaluated(&training)?;
            return Ok(None);
        }
        let outcome = self.learn(&mut training, &dataset, folder, naming)?;
        let record = self.record(&training, &dataset, images, &outcome)?;
        let weights = training.weights()?.to_safetensors(metadata(&record))?;
        let path = folder.join(WEIGHTS);
        write_atomically(&path, &weights)
            .map_err(|error| anyhow::anyhow!("can't write {}: {error}", path.display()))?;
        write_json(&folder.join(RECORD), &record)?;
        self.tell(&record, dataset.test.len(), &outcome.account);
        Ok(Some(record))
    }

    /// How well the network does, and what it does without an average where there is one; all ranks find it together.
    fn evaluated(&self, training: &Training) -> Result<(Evaluation, Option<Evaluation>)> {
        Ok((training.evaluate()?, training.evaluate_without_average()?))
    }

    fn start(&self, dataset: &Dataset, seed: u64) -> Result<Training> {
        let recipe = recipe(self.options, &dataset.train, seed);
        let training = Training::on(self.compute, &self.space, &self.architecture, dataset, recipe)?;
        let mut training = training.recomputing(self.options.learning.recompute);
        let (Some(weights), Some(file)) = (self.init, &self.options.init) else { return Ok(training) };
        let unused = training.start_from(weights, self.options.new_classifier).map_err(|error| {
            let of = |name: &str| name.starts_with(CLASSIFIER) && !self.options.new_classifier;
            let remedy = match &error {
                SearchError::Weights(WeightsError::Missing(name) | WeightsError::Extents { name, .. }) if of(name) => {
                    "; --new-classifier leaves the classifier at its initial values"
                }
                _ => "",
            };
            let what = format!("--init {} doesn't fit {}: {error}{remedy}", file.display(), self.named);
            anyhow::anyhow!(what)
        })?;
        if let Some(name) = unused.first() {
            eprintln!("warning: {} tensors of {} aren't used, such as {name}", unused.len(), file.display());
        }
        Ok(training)
    }

    /// Trains to the end and evaluates; names corrupt images as they are found.
    fn learn(&self, training: &mut Training, dataset: &Dataset, folder: &Path, mut naming: Naming) -> Result<Outcome> {
        let bar = Progress::new(training.total_steps(), training.step(), "steps")?;
        let mut events = TrainingEvents::open(folder, training)?;
        let untold = |error| format!("warning: {error}: nothing more is told to TensorBoard");
        let mut watch = |training: &Training| {
            if let Err(error) = events.watch(training) {
                bar.say(&untold(error));
            }
            bar.set_message(format!("{}: loss {:.3}", self.label, training.loss()));
            naming.name(|line| bar.say(line));
            bar.set(training.step());
        };
        let saving = (&*stop_flag()?, self.options.learning.checkpoints_apart());
        let done = training.run_saving(folder, saving, &mut watch);
        bar.finish();
        naming.name(|line| eprintln!("{line}"));
        done?;
        let (account, evaluated) = (training.account(), self.evaluated(training));
        Naming::new(&dataset.test).name(|line| eprintln!("{line}"));
        let (result, last_step) = evaluated?;
        events.tested(training, &result).unwrap_or_else(|error| eprintln!("{}", untold(error)));
        Ok(Outcome { account, result, last_step })
    }

    /// The record that is there already, if it is of this very training.
    fn done(&self, folder: &Path, training: &Training, images: &Images) -> Result<Record> {
        let record = read(folder)?;
        let (trained_in, trained) = record.resolve(folder)?;
        let differing = [
            ("another recipe", record.recipe != *training.recipe()),
            ("another space", trained_in.signature() != self.space.signature()),
            ("another architecture", trained != self.architecture),
            ("another data set", record.images.sha256 != images.sha256),
        ];
        if let Some(difference) = difference(&differing) {
            bail!("{} is of {difference}", folder.join(RECORD).display());
        }
        eprintln!("{} is there already", folder.join(RECORD).display());
        Ok(record)
    }

    fn record(&self, training: &Training, dataset: &Dataset, images: Images, outcome: &Outcome) -> Result<Record> {
        let network = self.space.network(&self.architecture)?;
        let recipe = training.recipe().clone();
        let Outcome { account, result, last_step } = outcome;
        Ok(Record {
            format: 1,
            space: self.space.name().to_owned(),
            space_toml: self.given.text().to_owned(),
            architecture: self.architecture.to_string(),
            named: self.named.clone(),
            macs: network.macs(),
            params: network.params(),
            seed: recipe.seed,
            dataset: dataset.name.clone(),
            images,
            normalisation: training.statistics().to_vec(),
            epochs: recipe.epochs,
            train_images: recipe.train_images,
            test_images: result.images,
            batch: recipe.batch,
            lr: recipe.lr,
            threads: self.threads,
            computed_on: account.computed_on.clone(),
            ranks: account.ranks.clone(),
            seconds: training.seconds(),
            waited_seconds: account.waited_seconds,
            accuracy_percent: result.accuracy_percent,
            test_loss: result.loss,
            without_ema: last_step
                .map(|last| LastStep { accuracy_percent: last.accuracy_percent, test_loss: last.loss }),
            recipe,
            curve: training.curve().to_vec(),
            corrupt: corrupt(&[&dataset.train, &dataset.test]),
            onnx: None,
            fp16: None,
            int8: None,
        })
    }

    fn tell(&self, record: &Record, test_images: usize, account: &Account) {
        let Record { accuracy_percent, test_loss, test_images: read, corrupt, seconds, without_ema, .. } = record;
        if !corrupt.is_empty() {
            eprintln!("{} corrupt images were left out: {RECORD} names them", corrupt.len());
        }
        let of =
            if *read < test_images { format!(" of the {read} test images that could be read") } else { String::new() };
        let last = without_ema.as_ref();
        let last =
            last.map(|last| format!(" (last step's weights {:.2} %)", last.accuracy_percent)).unwrap_or_default();
        eprintln!(
            "{}: test accuracy {accuracy_percent:.2} %{of}{last}, loss {test_loss:.4}, {}",
            self.label,
            time(*seconds, account)
        );
    }
}

/// What weights.safetensors says of itself: texts, as its form wants them. `format` is what readers of PyTorch's weights
/// look for; the tensors are in PyTorch's order of dimensions.
fn metadata(record: &Record) -> BTreeMap<String, String> {
    let list = |pick: fn(&(f32, f32)) -> f32| {
        let values: Vec<String> = record.normalisation.iter().map(|pair| pick(pair).to_string()).collect();
        values.join(",")
    };
    [
        ("format", "pt".to_owned()),
        ("space", record.space.clone()),
        ("architecture", record.architecture.clone()),
        ("named", record.named.clone()),
        ("input_mean", list(|pair| pair.0)),
        ("input_std", list(|pair| pair.1)),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

fn recipe(options: &Options, train: &Split, seed: u64) -> Recipe {
    let Augmentation { shift, flip, crop, jitter } = options.learning.augmentation(train);
    Recipe {
        epochs: options.epochs,
        rise_epochs: options.rise_epochs,
        batch: options.batch,
        accumulate: options.learning.accumulate,
        train_images: options.train_images.unwrap_or(train.len()),
        lr: options.lr,
        smoothing: options.smoothing,
        decay: options.weight_decay,
        decay_bn: !options.no_decay_bn,
        ema: options.ema,
        mixup: options.mixup,
        cutmix: options.cutmix,
        init: None,
        shift,
        flip,
        crop,
        jitter,
        seed,
        channels_last: !options.learning.nchw,
        amp: options.learning.amp,
    }
}

/// The record of a finished training.
pub fn read(folder: &Path) -> Result<Record> {
    let path = folder.join(RECORD);
    if let (false, Some(first)) = (path.exists(), list::first_of(folder)) {
        bail!("{} holds several trainings: name one of them, such as {}", folder.display(), first.display());
    }
    let text = std::fs::read(&path).map_err(|error| {
        anyhow::anyhow!("can't read {}: {error}; run `fleetfoot train … -o {}` first", path.display(), folder.display())
    })?;
    serde_json::from_slice(&text).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))
}
