//! What the commands share: data set, run folder, threads.

mod dist;
pub mod export;
mod list;
pub mod search;
pub mod train;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use clap::builder::RangedU64ValueParser;
use fleetfoot_console::count;
use fleetfoot_search::{
    Account, Augmentation, Compute, Corrupt, Dataset, Form, Group, Jitter, Launch, Split, remove_events,
};
use fleetfoot_space::SearchSpace;
use serde::{Deserialize, Serialize};

use self::dist::DistOptions;

/// Where the images are.
#[derive(Clone, Debug, Args)]
pub struct DataOptions {
    /// Folder of the data set: IDX files (MNIST, Fashion-MNIST), CIFAR-10's binary batches, or train/CLASS/*.jpg and
    /// val/CLASS/*.jpg (or .png; ImageNet), which are decoded when they are needed; default: FASHION_MNIST, or where Debian's
    /// package installs it
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Form of the data set, where it isn't to be recognised: idx, cifar-10 or folders
    #[arg(long, value_name = "FORM")]
    dataset: Option<Form>,
}

impl DataOptions {
    /// Reads the images.
    pub fn load(&self, space: &SearchSpace) -> Result<Dataset> {
        let input = space.input();
        Ok(Dataset::load(self.data.as_deref(), self.dataset, (input.c, input.h, input.w))?)
    }

    /// As these, where no folder is named the one of an earlier run, which is still there.
    pub fn or(&self, earlier: &Images) -> Self {
        match &self.data {
            Some(_) => self.clone(),
            None => Self { data: earlier.folder.clone(), dataset: earlier.form.or(self.dataset) },
        }
    }

    /// What a record says of the images with this fingerprint.
    pub fn record(&self, fingerprint: &str) -> Images {
        let folder = self.data.as_ref().map(|folder| folder.canonicalize().unwrap_or_else(|_| folder.clone()));
        Images { folder, form: self.dataset, sha256: fingerprint.to_owned() }
    }
}

/// Which images a run learned from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Images {
    /// Their folder, where one was named.
    folder: Option<PathBuf>,
    /// Their form, where it was named.
    form: Option<Form>,
    /// What tells them from others.
    pub sha256: String,
}

/// A folder for everything one run makes.
#[derive(Clone, Debug, Args)]
pub struct FolderOptions {
    /// Folder of the run
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Go on from the folder's checkpoint, or start if there is none
    #[arg(long, conflicts_with = "force")]
    resume: bool,
    /// Start anew in a folder that holds a run
    #[arg(long)]
    force: bool,
}

/// What to do in a run folder.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Start {
    /// Nothing is there.
    Anew,
    /// A checkpoint is there, to be gone on from.
    Checkpoint,
    /// The result is there, and that was asked for.
    Done,
}

impl FolderOptions {
    /// The folder.
    pub fn path(&self) -> &Path {
        &self.output
    }

    /// The same, gone on with by itself unless it is to be started anew: schedulers repeat a shard's command as it is.
    pub fn going_on(&self) -> Self {
        Self { output: self.output.clone(), resume: !self.force, force: self.force }
    }

    /// Whether what is there is to be replaced.
    pub fn is_forced(&self) -> bool {
        self.force
    }

    /// A folder within, for which the same is asked.
    pub fn below(&self, name: &str) -> Self {
        Self { output: self.output.join(name), resume: self.resume, force: self.force }
    }

    /// Makes the folder and decides where to start, on rank 0 and for all; nothing that exists is overwritten without being
    /// asked. What was started again by whatever starts processes goes on by itself.
    pub fn open(&self, group: &Group, result: &str, checkpoint: &Path) -> Result<Start> {
        group.led(|| {
            let (resume, force) = match group.restarted() {
                true => (true, false),
                false => (self.resume, self.force),
            };
            Self { output: self.output.clone(), resume, force }.opened(result, checkpoint)
        })
    }

    fn opened(&self, result: &str, checkpoint: &Path) -> Result<Start> {
        let folder = &self.output;
        fs::create_dir_all(folder).with_context(|| format!("can't make the folder {}", folder.display()))?;
        let (result, checkpoint_exists) = (folder.join(result), checkpoint.exists());
        if self.force {
            for file in [result.as_path(), checkpoint] {
                if file.exists() {
                    fs::remove_file(file).with_context(|| format!("can't replace {}", file.display()))?;
                }
            }
            remove_events(folder)?;
            return Ok(Start::Anew);
        }
        match (self.resume, result.exists(), checkpoint_exists) {
            (_, false, false) => Ok(Start::Anew),
            (true, true, _) => Ok(Start::Done),
            (true, false, true) => Ok(Start::Checkpoint),
            (false, ..) => {
                bail!("{} holds a run already: go on with --resume, or start anew with --force", folder.display())
            }
        }
    }
}

/// No image is larger.
const MAX_SHIFT: u64 = 1 << 15;
/// No machine has more cores.
const MAX_THREADS: u64 = 1 << 12;

/// How to learn, whatever is learned.
#[derive(Clone, Debug, Args)]
pub struct LearningOptions {
    /// Cut a random part out of each training image, of at least this share of its area and of width over height 3:4 to 4:3,
    /// and scale it (random-resized crop); 1: take images whole; default: 0.08 for folders of images and a space of 64 pixels
    /// and more, else 1
    #[arg(long, value_name = "SHARE", value_parser = share)]
    min_crop: Option<f64>,
    /// Change the brightness, contrast and saturation of training images by factors from 1 - x to 1 + x:
    /// BRIGHTNESS,CONTRAST,SATURATION, or none; default: 0.1255,0,0.5 where --min-crop's default is 0.08, else none
    #[arg(long, value_name = "B,C,S")]
    jitter: Option<Jitter>,
    /// Largest shift of training images, in pixels; default: 2, or 0 where they are cut at random
    #[arg(long, value_name = "PIXELS", value_parser = RangedU64ValueParser::<usize>::new().range(..=MAX_SHIFT))]
    shift: Option<usize>,
    /// Never mirror training images
    #[arg(long)]
    no_flip: bool,
    /// Seed of everything random
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Threads; default: all cores, or one where several processes learn together
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=MAX_THREADS))]
    threads: Option<usize>,
    /// Keep tensors in NCHW order (slower on CPUs)
    #[arg(long)]
    pub nchw: bool,
    /// What computes: cpu, cuda (its first GPU) or cuda:N; CUDA needs a libtorch that was built for it (docs/cuda.md)
    #[arg(long, value_name = "WHAT", default_value_t = Compute::Cpu)]
    compute: Compute,
    /// Learn in mixed precision: activations, convolutions and the linear layer in bfloat16, all else in 32-bit floats
    #[arg(long)]
    pub amp: bool,
    /// Compute a step's images in this many parts, one after the other: less memory. Batch normalisation sees one part at a time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count())]
    pub accumulate: usize,
    /// Compute each block a second time instead of keeping what its backward pass needs: much less memory, some more time, the
    /// same result. May be switched at --resume
    #[arg(long)]
    pub recompute: bool,
    /// Seconds between checkpoints; 0: one behind every step
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(..=86_400))]
    checkpoint_every: u64,
    #[command(flatten)]
    pub dist: DistOptions,
}

/// Streamed images of at least this extent are cut and coloured at random, as ImageNet's are.
const PHOTOGRAPH: usize = 64;
/// Least share of an image's area that is cut out then (mit-han-lab/proxylessnas, search/data_providers/imagenet.py).
const MIN_CROP: f64 = 0.08;

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share: &f64| *share > 0.0 && *share <= 1.0);
    share.ok_or_else(|| "wanted a share of the area, above 0 and at most 1".to_owned())
}

impl LearningOptions {
    /// What is done to these training images at random.
    pub fn augmentation(&self, train: &Split) -> Augmentation {
        let (_, height, width) = train.size();
        let photographs = train.streamed() && height.min(width) >= PHOTOGRAPH;
        let crop = self.min_crop.unwrap_or(if photographs { MIN_CROP } else { 1.0 });
        let crop = Some(crop).filter(|&share| share < 1.0);
        let jitter = self.jitter.unwrap_or(if photographs { Jitter::PROXYLESS } else { Jitter::NONE });
        Augmentation {
            shift: self.shift.unwrap_or(if crop.is_some() { 0 } else { 2 }),
            flip: !self.no_flip,
            crop,
            jitter,
        }
    }

    /// What computes, made ready; an error where it isn't there. Processes of one machine take one GPU each, from the one that
    /// is named on.
    pub fn compute(&self, launch: Option<&Launch>) -> Result<Compute> {
        let compute = match (self.compute, launch) {
            (Compute::Cuda(first), Some(launch)) => Compute::Cuda(first + launch.local_rank),
            (compute, _) => compute,
        };
        compute.prepare()?;
        Ok(compute)
    }

    /// Time between checkpoints.
    pub fn checkpoints_apart(&self) -> Duration {
        Duration::from_secs(self.checkpoint_every)
    }

    /// Sets libtorch's threads: as many as asked for, else as there are cores; one where several processes learn together.
    pub fn set_threads(&self, launch: Option<&Launch>) -> usize {
        let cores = || match launch {
            Some(_) => 1,
            None => std::thread::available_parallelism().map_or(1, usize::from),
        };
        let threads = self.threads.unwrap_or_else(cores);
        tch::set_num_threads(threads as i32);
        threads
    }
}

/// Names corrupt images, each once.
pub struct Naming {
    images: Split,
    named: usize,
}

impl Naming {
    /// Names those of these images that aren't known yet.
    pub fn new(images: &Split) -> Self {
        Self { images: images.clone(), named: 0 }
    }

    /// Names those of these images that will be found from now on; how many were found earlier is told.
    pub fn after_resuming(images: &Split) -> Self {
        let named = images.corrupt().len();
        if named > 0 {
            eprintln!("{named} corrupt images are known already");
        }
        Self { images: images.clone(), named }
    }

    /// Names those that were found since.
    pub fn name(&mut self, say: impl Fn(&str)) {
        for corrupt in self.images.corrupt_since(self.named) {
            say(&format!("corrupt, left out: {corrupt}"));
            self.named += 1;
        }
    }
}

/// How many processes learned in records that don't say it.
pub fn alone() -> Vec<usize> {
    vec![1]
}

/// Whether one process learned, of which records say nothing.
pub fn is_alone(ranks: &[usize]) -> bool {
    ranks == [1]
}

/// Corrupt images as records list them, in the order of their files.
pub fn corrupt(images: &[&Split]) -> Vec<Corrupt> {
    let mut all: Vec<Corrupt> = images.iter().flat_map(|images| images.corrupt()).collect();
    all.sort_by(|a, b| a.file.cmp(&b.file));
    all
}

/// Says so where something else goes on with a run than what computed so far.
pub fn tell_change(account: &Account) {
    if let [.., before, now] = account.ranks[..] {
        eprintln!(
            "note: {before} processes learned together so far, {now} go on: batch normalisation sees other shares of a batch from now on"
        );
    }
    if let [.., before, now] = account.computed_on[..] {
        eprintln!(
            "note: {before} computed so far, {now} goes on: the result differs, in the last bits at least, from what either \
             alone would give"
        );
    }
}

/// How long a run took, and how much of what learning took it waited for images.
pub fn time(seconds: f64, learning: &Account) -> String {
    let share = 100.0 * learning.waited_seconds / learning.seconds.max(f64::MIN_POSITIVE);
    format!("{seconds:.0} s; learning took {:.0} s, {share:.1} % of them waiting for images", learning.seconds)
}
