//! What the commands share: data set, run folder, threads.

pub mod export;
pub mod search;
mod seeds;
pub mod train;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use clap::builder::RangedU64ValueParser;
use fleetfoot_search::{Dataset, Form};
use fleetfoot_space::SearchSpace;
use serde::{Deserialize, Serialize};

/// Where the images are.
#[derive(Clone, Debug, Args)]
pub struct DataOptions {
    /// Folder of the data set: IDX files (MNIST, Fashion-MNIST), CIFAR-10's binary batches, or train/CLASS/*.png;
    /// default: FASHION_MNIST, or where Debian's package installs it
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Images {
    /// Their folder, where one was named.
    folder: Option<PathBuf>,
    /// Their form, where it was named.
    form: Option<Form>,
    /// What tells them from others.
    pub sha256: String,
}

/// A folder for everything one run makes.
#[derive(Debug, Args)]
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
#[derive(Debug, PartialEq, Eq)]
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

    /// A folder within, for which the same is asked.
    pub fn below(&self, name: &str) -> Self {
        Self { output: self.output.join(name), resume: self.resume, force: self.force }
    }

    /// Makes the folder and decides where to start; nothing that exists is overwritten without being asked.
    pub fn open(&self, result: &str, checkpoint: &Path) -> Result<Start> {
        let folder = &self.output;
        fs::create_dir_all(folder).with_context(|| format!("can't make the folder {}", folder.display()))?;
        let (result, checkpoint_exists) = (folder.join(result), checkpoint.exists());
        if self.force {
            for file in [result.as_path(), checkpoint] {
                if file.exists() {
                    fs::remove_file(file).with_context(|| format!("can't replace {}", file.display()))?;
                }
            }
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
#[derive(Debug, Args)]
pub struct LearningOptions {
    /// Largest shift of training images, in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 2, value_parser = RangedU64ValueParser::<usize>::new().range(..=MAX_SHIFT))]
    pub shift: usize,
    /// Never mirror training images
    #[arg(long)]
    pub no_flip: bool,
    /// Seed of everything random
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Threads; default: all cores
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=MAX_THREADS))]
    threads: Option<usize>,
    /// Keep tensors in NCHW order (slower on CPUs)
    #[arg(long)]
    pub nchw: bool,
}

impl LearningOptions {
    /// Sets libtorch's threads: as many as asked for, else as there are cores.
    pub fn set_threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = self.threads.unwrap_or_else(cores);
        tch::set_num_threads(threads as i32);
        threads
    }
}

/// Writes a record as JSON, whole or not at all.
pub fn write_json(path: &Path, record: &impl Serialize) -> Result<()> {
    fleetfoot_profiler::write_json(path, record).with_context(|| format!("can't write {}", path.display()))
}
