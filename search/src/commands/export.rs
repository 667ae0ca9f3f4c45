//! `fleetfoot export`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use fleetfoot_console::{claim_equal, count, usage};
use fleetfoot_profiler::{DeviceConfig, write_atomically};
use fleetfoot_search::{
    AgentRuntime, Check, Dataset, Layout, Module, Numbers, Observer, Reduced, Runtime, Source, Split, accuracy_percent,
    calibrate, check_images, compare, learned_from, to_onnx_in,
};
use fleetfoot_space::{Architecture, Precision, SearchSpace, Weights};

use super::train::{RECORD, Record, WEIGHTS, read};
use fleetfoot_worklist::write_json;

use super::{DataOptions, Naming};

/// Options of `export`.
#[derive(Debug, Args)]
pub struct Options {
    /// Folder of a finished training; with --weights, an architecture of --space
    #[arg(value_name = "DIR|ARCHITECTURE")]
    what: PathBuf,
    /// Export weights that weren't trained here: a safetensors file with the names that `train` gives its tensors
    #[arg(long, value_name = "FILE", requires_all = ["space", "output"])]
    weights: Option<PathBuf>,
    /// Search space of the architecture whose --weights are exported: a preset's name or a TOML file
    #[arg(long, value_name = "SPACE", requires = "weights")]
    space: Option<String>,
    /// The model to write; default: DIR/model.onnx, DIR/model.int8.onnx, DIR/model.fp16.onnx
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    data: DataOptions,
    /// What the model computes with: fp32, fp16 or int8 (QDQ, its activations' ranges from training images)
    #[arg(long, default_value_t = Precision::Fp32)]
    precision: Precision,
    /// Training images that int8's ranges are of; default: 512
    #[arg(long, value_name = "N", value_parser = count())]
    calibration_images: Option<usize>,
    /// How int8's ranges are chosen from an activation's values: mse (default), minmax, or percentile:P
    #[arg(long, value_name = "HOW")]
    observer: Option<Observer>,
    /// Test images on which ONNX Runtime's outputs are compared with libtorch's
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = count())]
    images: usize,
    /// Test images for the accuracies of fp32 and of fewer bits in ONNX Runtime; default: all
    #[arg(long, value_name = "N", value_parser = count())]
    test_images: Option<usize>,
    /// Device whose runtime the comparison uses
    #[arg(long, value_name = "DEVICE", default_value = "local-cpu")]
    device: String,
    /// Replace an existing model that is another one
    #[arg(long)]
    force: bool,
}

/// Training images that ranges are of where nobody says how many.
const CALIBRATION_IMAGES: usize = 512;

/// What is exported.
struct Trained {
    space: SearchSpace,
    architecture: Architecture,
    weights: Weights,
    dataset: Dataset,
    statistics: Vec<(f32, f32)>,
    /// The training images that were learned from, in the order in which calibration takes them.
    learned_from: Split,
    /// Where there was a training.
    record: Option<Record>,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<()> {
    options.check()?;
    let mut trained = match &options.weights {
        None => Trained::here(&options.what, options)?,
        Some(weights) => Trained::elsewhere(weights, options)?,
    };
    let record = trained.record.take();
    let done = export(options, &trained, record);
    for images in [&trained.dataset.train, &trained.dataset.test] {
        Naming::new(images).name(|line| eprintln!("{line}"));
    }
    done
}

fn export(options: &Options, trained: &Trained, mut record: Option<Record>) -> Result<()> {
    let device = DeviceConfig::load(&options.device)?;
    let exact = trained.onnx(&Numbers::Fp32)?;
    let mut runtime = AgentRuntime::new(&device, &exact)?;
    let check = trained.check(options, &mut runtime)?;
    let path = options.path();
    if options.precision == Precision::Fp32 {
        write(options, &path, &exact)?;
        let Check { file, images, max_abs_difference, runtime: name } = &check;
        eprintln!("{file}: {name} differs from libtorch by at most {max_abs_difference:.1e} on {images} test images");
        match &mut record {
            Some(record) => record.onnx = Some(check),
            // Nobody has said how accurate it is.
            None => {
                let test = trained.test(options.test_images);
                let accuracy = accuracy_percent(&test, &mut runtime)?;
                let images = readable(&test.images, "judged on", "--test-images")?;
                eprintln!("{}: accuracy {accuracy:.2} % on {images} test images", path.display());
            }
        }
    } else {
        let (numbers, calibration_images) = trained.numbers(options)?;
        let onnx = trained.onnx(&numbers)?;
        let reduced =
            trained.judge(options, check, calibration_images, &mut runtime, &mut AgentRuntime::new(&device, &onnx)?)?;
        write(options, &path, &onnx)?;
        let Reduced { file, accuracy_percent, fp32_accuracy_percent, images, runtime: name, .. } = &reduced;
        eprintln!(
            "{file}: accuracy {accuracy_percent:.2} % in {}, {fp32_accuracy_percent:.2} % in fp32 on {images} test images, by {name}",
            options.precision
        );
        if let Some(record) = &mut record {
            let place = if options.precision == Precision::Int8 { &mut record.int8 } else { &mut record.fp16 };
            *place = Some(reduced);
        }
    }
    record.map_or(Ok(()), |record| write_json(&options.what.join(RECORD), &record))
}

impl Options {
    /// Options that would be passed over are wrong usage.
    fn check(&self) -> Result<()> {
        let calibrated = self.calibration_images.is_some() || self.observer.is_some();
        if calibrated && self.precision != Precision::Int8 {
            return Err(usage("--calibration-images and --observer are for --precision int8"));
        }
        if self.test_images.is_some() && self.precision == Precision::Fp32 && self.weights.is_none() {
            return Err(usage("--test-images is for --precision int8 or fp16: train.json has the accuracy in fp32"));
        }
        Ok(())
    }

    fn observer(&self) -> Observer {
        self.observer.unwrap_or(Observer::MeanSquaredError)
    }

    fn path(&self) -> PathBuf {
        let name = match self.precision {
            Precision::Fp32 => "model.onnx",
            Precision::Fp16 => "model.fp16.onnx",
            Precision::Int8 => "model.int8.onnx",
        };
        self.output.clone().unwrap_or_else(|| self.what.join(name))
    }
}

/// How many of these images could be read, which were to be used; none is an error.
fn readable(images: &Split, used: &str, option: &str) -> Result<usize> {
    match images.readable() {
        0 => bail!("none of the images that were to be {used} could be read: take more, with {option}"),
        readable => Ok(readable),
    }
}

fn write(options: &Options, path: &Path, onnx: &[u8]) -> Result<()> {
    claim_equal(path, onnx, options.force, "or replace it with --force")?;
    write_atomically(path, onnx).with_context(|| format!("can't write {}", path.display()))
}

impl Trained {
    /// Of a folder that `train` made.
    fn here(folder: &Path, options: &Options) -> Result<Self> {
        let record = read(folder)?;
        let (space, architecture) = record.resolve(folder)?;
        let weights = Weights::read(&folder.join(WEIGHTS))?;
        let dataset = options.data.or(&record.images).load(&space)?;
        if dataset.fingerprint() != record.images.sha256 {
            bail!(
                "the data set isn't the one ({}) that {} was trained on: name that one's folder with --data",
                record.dataset,
                folder.display()
            );
        }
        let statistics = record.normalisation.clone();
        let learned_from = learned_from(&dataset.train, record.recipe.seed, record.recipe.train_images);
        Ok(Self { space, architecture, weights, dataset, statistics, learned_from, record: Some(record) })
    }

    /// Weights that somebody else trained, on images that --data is of.
    fn elsewhere(file: &Path, options: &Options) -> Result<Self> {
        let name = options.space.as_deref().ok_or_else(|| usage("--weights needs --space"))?;
        let text = options.what.to_str().ok_or_else(|| usage("an architecture is UTF-8 text"))?;
        let (space, architecture) = SearchSpace::load(name)?.resolve(text)?;
        let weights = Weights::read(file)?;
        let fits = Module::new(space.network(&architecture)?, &weights, Layout::ChannelsLast);
        fits.with_context(|| format!("{} doesn't fit {text} of space {}", file.display(), space.name()))?;
        let dataset = options.data.load(&space)?;
        check_images(&space, &dataset)?;
        let statistics = dataset.train.channel_statistics()?;
        let list: Vec<String> = statistics.iter().map(|(mean, std)| format!("{mean:.4} ± {std:.4}")).collect();
        eprintln!(
            "inputs are normalised by the training images of {}, channel by channel: {}",
            dataset.name,
            list.join(", ")
        );
        let learned_from = learned_from(&dataset.train, 0, dataset.train.len());
        Ok(Self { space, architecture, weights, dataset, statistics, learned_from, record: None })
    }

    fn onnx(&self, numbers: &Numbers) -> Result<Vec<u8>> {
        Ok(to_onnx_in(numbers, &self.space, &self.architecture, &self.weights, &self.statistics)?)
    }

    /// The first test images.
    fn test(&self, most: Option<usize>) -> Source {
        let all = self.dataset.test.len();
        self.images(self.dataset.test.subset(0..most.unwrap_or(all).min(all)))
    }

    fn images(&self, images: Split) -> Source {
        Source { images, statistics: self.statistics.clone(), placement: Layout::ChannelsLast.into() }
    }

    /// Whether the fp32 model computes what libtorch does.
    fn check(&self, options: &Options, runtime: &mut AgentRuntime) -> Result<Check> {
        let images = self.test(Some(options.images));
        let max_abs_difference = compare(&self.space, &self.architecture, &self.weights, &images, runtime)?;
        let (file, images) = (options.path().display().to_string(), readable(&images.images, "compared", "--images")?);
        Ok(Check { file, images, max_abs_difference, runtime: runtime.name() })
    }

    /// How accurate the model of fewer bits is, beside the one of fp32 that was checked.
    fn judge(
        &self,
        options: &Options,
        check: Check,
        calibration_images: Option<usize>,
        exact: &mut AgentRuntime,
        reduced: &mut AgentRuntime,
    ) -> Result<Reduced> {
        let test = self.test(options.test_images);
        Ok(Reduced {
            file: check.file,
            accuracy_percent: accuracy_percent(&test, reduced)?,
            fp32_accuracy_percent: accuracy_percent(&test, exact)?,
            images: readable(&test.images, "judged on", "--test-images")?,
            calibration_images,
            observer: calibration_images.map(|_| options.observer().to_string()),
            runtime: check.runtime,
        })
    }

    /// What the model computes with, and how many images that is calibrated on.
    fn numbers(&self, options: &Options) -> Result<(Numbers, Option<usize>)> {
        match options.precision {
            Precision::Fp32 => Ok((Numbers::Fp32, None)),
            Precision::Fp16 => Ok((Numbers::Fp16, None)),
            Precision::Int8 => {
                let most = options.calibration_images.unwrap_or(CALIBRATION_IMAGES).min(self.learned_from.len());
                let images = self.images(self.learned_from.subset(0..most));
                let module = Module::new(self.space.network(&self.architecture)?, &self.weights, Layout::ChannelsLast)?;
                let ranges = calibrate(&module, &self.weights, &images, options.observer())?;
                let images = readable(&images.images, "calibrated on", "--calibration-images")?;
                Ok((Numbers::Int8(ranges), Some(images)))
            }
        }
    }
}
