//! `fleetfoot train`.

use std::path::Path;

use anyhow::{Result, bail};
use clap::Args;
use fleetfoot_console::{Progress, count, fraction, not_negative, positive, stop_flag, usage};
use fleetfoot_profiler::write_atomically;
use fleetfoot_search::{
    Check, Learning as _, Recipe, Reduced, Sgd, Training, TrainingPoint, checkpoint_path, difference,
};
use fleetfoot_space::{Architecture, SearchSpace};
use serde::{Deserialize, Serialize};

use super::{DataOptions, FolderOptions, Images, LearningOptions, Start, write_json};

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
    /// The architecture: digits, or a name that the space's file gives; with a width multiplier, too (k3e6@0.75)
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
    pub test_images: usize,
    pub batch: usize,
    pub lr: f64,
    pub threads: usize,
    pub seconds: f64,
    pub accuracy_percent: f64,
    pub test_loss: f64,
    /// There where `accuracy_percent` and `test_loss` are of the weights' moving average.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without_ema: Option<LastStep>,
    pub recipe: Recipe,
    pub curve: Vec<TrainingPoint>,
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
    let folder = options.folder.path();
    let given = SearchSpace::load(&options.space)?;
    let (space, architecture) = given.resolve(&options.architecture)?;
    let dataset = options.data.load(&space)?;
    let recipe = recipe(options, dataset.train.len())?;
    let mut training = Training::new(&space, &architecture, &dataset, recipe.clone())?;
    let images = options.data.record(training.fingerprint());
    match options.folder.open(RECORD, &checkpoint_path(folder))? {
        Start::Done => {
            let record = read(folder)?;
            let (trained_in, trained) = record.resolve(folder)?;
            let differing = [
                ("another recipe", record.recipe != recipe),
                ("another space", trained_in.signature() != space.signature()),
                ("another architecture", trained != architecture),
                ("another data set", record.images.sha256 != images.sha256),
            ];
            if let Some(difference) = difference(&differing) {
                bail!("{} is of {difference}", folder.join(RECORD).display());
            }
            eprintln!("{} is there already", folder.join(RECORD).display());
            return Ok(());
        }
        Start::Checkpoint => training.restore(folder)?,
        Start::Anew => {}
    }
    let threads = options.learning.set_threads();
    let bar = Progress::new(training.total_steps(), training.step(), "steps")?;
    let mut watch = |training: &Training| {
        bar.set_message(format!("{architecture}: loss {:.3}", training.loss()));
        bar.set(training.step());
    };
    training.run(folder, &*stop_flag()?, &mut watch)?;
    bar.finish();
    let (accuracy_percent, test_loss) = training.evaluate()?;
    let without_ema = training.evaluate_without_average()?;
    let without_ema = without_ema.map(|(accuracy_percent, test_loss)| LastStep { accuracy_percent, test_loss });
    let network = space.network(&architecture)?;
    let weights = training.weights()?.to_safetensors([("architecture".to_owned(), architecture.to_string())].into())?;
    let path = folder.join(WEIGHTS);
    write_atomically(&path, &weights).map_err(|error| anyhow::anyhow!("can't write {}: {error}", path.display()))?;
    let record = Record {
        format: 1,
        space: space.name().to_owned(),
        space_toml: given.text().to_owned(),
        architecture: architecture.to_string(),
        named: given.canonical(&options.architecture)?,
        macs: network.macs(),
        params: network.params(),
        seed: recipe.seed,
        dataset: dataset.name.clone(),
        images,
        normalisation: training.statistics().to_vec(),
        epochs: recipe.epochs,
        train_images: recipe.train_images,
        test_images: dataset.test.len(),
        batch: recipe.batch,
        lr: recipe.lr,
        threads,
        seconds: training.seconds(),
        accuracy_percent,
        test_loss,
        without_ema,
        recipe,
        curve: training.curve().to_vec(),
        onnx: None,
        fp16: None,
        int8: None,
    };
    write_json(&folder.join(RECORD), &record)?;
    eprintln!("{architecture}: test accuracy {accuracy_percent:.2} %, loss {test_loss:.4}, {:.0} s", record.seconds);
    Ok(())
}

fn recipe(options: &Options, available: usize) -> Result<Recipe> {
    if !(0.0..=options.epochs as f64).contains(&options.rise_epochs) {
        return Err(usage(format!("--rise-epochs {}: wanted 0 to {}", options.rise_epochs, options.epochs)));
    }
    Ok(Recipe {
        epochs: options.epochs,
        rise_epochs: options.rise_epochs,
        batch: options.batch,
        train_images: options.train_images.unwrap_or(available),
        lr: options.lr,
        smoothing: options.smoothing,
        decay: options.weight_decay,
        decay_bn: !options.no_decay_bn,
        ema: options.ema,
        mixup: options.mixup,
        cutmix: options.cutmix,
        shift: options.learning.shift,
        flip: !options.learning.no_flip,
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
