//! `fleetfoot train`.

use std::path::Path;

use anyhow::{Result, bail};
use clap::Args;
use fleetfoot_console::{Progress, count, positive, stop_flag, usage};
use fleetfoot_profiler::write_atomically;
use fleetfoot_search::{
    Account, Augmentation, Check, Corrupt, Dataset, Evaluation, Learning as _, Recipe, Training, TrainingEvents,
    TrainingPoint, checkpoint_path, difference,
};
use fleetfoot_space::{Architecture, SearchSpace};
use serde::{Deserialize, Serialize};

use super::{DataOptions, FolderOptions, Images, LearningOptions, Naming, Start, corrupt, time, write_json};

/// Name of the trained weights in a run folder.
pub const WEIGHTS: &str = "weights.safetensors";
/// Name of the record in a run folder.
pub const RECORD: &str = "train.json";

/// Options of `train`.
#[derive(Debug, Args)]
pub struct Options {
    /// Search space: a preset's name or a TOML file
    #[arg(long, value_name = "SPACE")]
    space: String,
    /// The architecture: digits, or a name that the space's file gives
    architecture: String,
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
    learning: LearningOptions,
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
    /// As it was named on the command line: digits, or a name.
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
    pub seconds: f64,
    /// How long of that learning waited for batches.
    #[serde(default)]
    pub waited_seconds: f64,
    pub accuracy_percent: f64,
    pub test_loss: f64,
    pub recipe: Recipe,
    pub curve: Vec<TrainingPoint>,
    /// Images, of training and of testing, that were left out.
    #[serde(default)]
    pub corrupt: Vec<Corrupt>,
    pub onnx: Option<Check>,
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
    let folder = options.folder.path();
    let given = SearchSpace::load(&options.space)?;
    let (space, architecture) = given.resolve(&options.architecture)?;
    let dataset = options.data.load(&space)?;
    let recipe = recipe(options, options.learning.augmentation(&dataset.train), dataset.train.len())?;
    let mut training = Training::new(&space, &architecture, &dataset, recipe.clone())?;
    let images = options.data.record(training.fingerprint());
    let mut naming = Naming::new(&dataset.train);
    match options.folder.open(RECORD, &checkpoint_path(folder))? {
        Start::Done => return check_finished(folder, &training, &space, &recipe, &images.sha256),
        Start::Checkpoint => {
            training.restore(folder)?;
            naming = Naming::after_resuming(&dataset.train);
        }
        Start::Anew => {}
    }
    let threads = options.learning.set_threads();
    let (account, evaluation) = learn(&mut training, &dataset, folder, naming)?;
    let network = space.network(&architecture)?;
    let weights = training.weights()?.to_safetensors([("architecture".to_owned(), architecture.to_string())].into())?;
    let path = folder.join(WEIGHTS);
    write_atomically(&path, &weights).map_err(|error| anyhow::anyhow!("can't write {}: {error}", path.display()))?;
    let record = Record {
        format: 1,
        space: space.name().to_owned(),
        space_toml: given.text().to_owned(),
        architecture: architecture.to_string(),
        named: options.architecture.clone(),
        macs: network.macs(),
        params: network.params(),
        seed: recipe.seed,
        dataset: dataset.name.clone(),
        images,
        normalisation: training.statistics().to_vec(),
        epochs: recipe.epochs,
        train_images: recipe.train_images,
        test_images: evaluation.images,
        batch: recipe.batch,
        lr: recipe.lr,
        threads,
        seconds: training.seconds(),
        waited_seconds: account.waited_seconds,
        accuracy_percent: evaluation.accuracy_percent,
        test_loss: evaluation.cross_entropy,
        recipe,
        curve: training.curve().to_vec(),
        corrupt: corrupt(&[&dataset.train, &dataset.test]),
        onnx: None,
    };
    write_json(&folder.join(RECORD), &record)?;
    tell(&record, dataset.test.len(), &account);
    Ok(())
}

/// Whether the finished training in the folder is the one that is asked for.
fn check_finished(
    folder: &Path,
    training: &Training,
    space: &SearchSpace,
    recipe: &Recipe,
    fingerprint: &str,
) -> Result<()> {
    let record = read(folder)?;
    let (trained_in, trained) = record.resolve(folder)?;
    let differing = [
        ("another recipe", record.recipe != *recipe),
        ("another space", trained_in.signature() != space.signature()),
        ("another architecture", trained != *training.architecture()),
        ("another data set", record.images.sha256 != fingerprint),
    ];
    if let Some(difference) = difference(&differing) {
        bail!("{} is of {difference}", folder.join(RECORD).display());
    }
    eprintln!("{} is there already", folder.join(RECORD).display());
    Ok(())
}

/// Trains to the end and evaluates; names corrupt images as they are found.
fn learn(
    training: &mut Training,
    dataset: &Dataset,
    folder: &Path,
    mut naming: Naming,
) -> Result<(Account, Evaluation)> {
    let bar = Progress::new(training.total_steps(), training.step(), "steps")?;
    let mut events = TrainingEvents::open(folder, training)?;
    let untold = |error| format!("warning: {error}: nothing more is told to TensorBoard");
    let mut watch = |training: &Training| {
        if let Err(error) = events.watch(training) {
            bar.say(&untold(error));
        }
        bar.set_message(format!("{}: loss {:.3}", training.architecture(), training.loss()));
        naming.name(|line| bar.say(line));
        bar.set(training.step());
    };
    let done = training.run(folder, &*stop_flag()?, &mut watch);
    bar.finish();
    naming.name(|line| eprintln!("{line}"));
    done?;
    let (account, evaluation) = (training.account(), training.evaluate());
    Naming::new(&dataset.test).name(|line| eprintln!("{line}"));
    let evaluation = evaluation?;
    events.tested(training, &evaluation).unwrap_or_else(|error| eprintln!("{}", untold(error)));
    Ok((account, evaluation))
}

fn tell(record: &Record, test_images: usize, account: &Account) {
    let Record { architecture, accuracy_percent, test_loss, test_images: read, corrupt, seconds, .. } = record;
    if !corrupt.is_empty() {
        eprintln!("{} corrupt images were left out: {RECORD} names them", corrupt.len());
    }
    let of = if *read < test_images { format!(" of the {read} test images that could be read") } else { String::new() };
    eprintln!(
        "{architecture}: test accuracy {accuracy_percent:.2} %{of}, loss {test_loss:.4}, {}",
        time(*seconds, account)
    );
}

fn recipe(options: &Options, augmentation: Augmentation, available: usize) -> Result<Recipe> {
    let Augmentation { shift, flip, crop, jitter } = augmentation;
    if !(0.0..=options.epochs as f64).contains(&options.rise_epochs) {
        return Err(usage(format!("--rise-epochs {}: wanted 0 to {}", options.rise_epochs, options.epochs)));
    }
    Ok(Recipe {
        epochs: options.epochs,
        rise_epochs: options.rise_epochs,
        batch: options.batch,
        train_images: options.train_images.unwrap_or(available),
        lr: options.lr,
        smoothing: 0.1,
        shift,
        flip,
        crop,
        jitter,
        seed: options.learning.seed,
        channels_last: !options.learning.nchw,
    })
}

/// The record of a finished training.
pub fn read(folder: &Path) -> Result<Record> {
    let path = folder.join(RECORD);
    let text = std::fs::read(&path).map_err(|error| {
        anyhow::anyhow!("can't read {}: {error}; run `fleetfoot train … -o {}` first", path.display(), folder.display())
    })?;
    serde_json::from_slice(&text).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))
}
