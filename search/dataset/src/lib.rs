//! Labelled examples: small images in memory, folders of any size streamed, or [`Examples`] of one's own.

mod augmentation;
mod cifar;
mod decoding;
mod examples;
mod folder;
mod idx;
mod images;
mod jpeg;
mod listing;
mod picture;
mod split;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

pub use augmentation::{Augmentation, Jitter};
pub use examples::Examples;
pub use images::Images;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
pub use split::{Corrupt, Split, cores};

/// How many classes a set tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Classes {
    /// The form says so.
    Exactly(usize),
    /// The form doesn't say: as many as the largest label needs. There may be more that no image is of.
    AtLeast(usize),
}

impl Classes {
    /// Whether a network with so many outputs can learn them. A set that doesn't say how many it has may have fewer,
    /// never more.
    pub fn fit(self, outputs: usize) -> bool {
        match self {
            Self::Exactly(classes) => classes == outputs,
            Self::AtLeast(classes) => classes <= outputs,
        }
    }
}

impl fmt::Display for Classes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(classes) => write!(f, "{classes} classes"),
            Self::AtLeast(classes) => write!(f, "at least {classes} classes"),
        }
    }
}

/// Training and test examples. `Dataset { name, train: mine.into(), test: others.into() }` makes one of one's own
/// [`Examples`].
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Its name for reports.
    pub name: String,
    /// What is learned from.
    pub train: Split,
    /// What is judged by.
    pub test: Split,
}

/// The form of a data set's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Form {
    /// IDX files as of MNIST and Fashion-MNIST, plain or gzipped.
    #[serde(rename = "idx")]
    Idx,
    /// CIFAR-10's binary batches, in the folder or in `cifar-10-batches-bin` below it.
    #[serde(rename = "cifar-10")]
    Cifar10,
    /// A folder a class below `train` and `test` (or `val`), PNG or JPEG, decoded when they are needed.
    #[serde(rename = "folders")]
    Folders,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Idx => "idx",
            Self::Cifar10 => "cifar-10",
            Self::Folders => "folders",
        })
    }
}

impl FromStr for Form {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = [Self::Idx, Self::Cifar10, Self::Folders].into_iter().find(|form| form.to_string() == text);
        known.ok_or_else(|| format!("'{text}' is no form of a data set: wanted idx, cifar-10 or folders"))
    }
}

/// Images that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// No form of data set is in the folder.
    #[error(
        "{folder}: no data set is there: wanted train-images-idx3-ubyte or train-images.idx3-ubyte (or either with \
         .gz), data_batch_1.bin, cifar-10-batches-bin/data_batch_1.bin, or train/CLASS/*.png (or .jpg, .jpeg)",
        folder = folder.display()
    )]
    Unknown {
        /// The folder.
        folder: PathBuf,
    },
    /// Nothing was named and nothing is where it is usually installed.
    #[error(
        "no data set: name its folder with --data, set FASHION_MNIST, or install Debian's package dataset-fashion-mnist"
    )]
    Missing,
    /// A file can't be read.
    #[error("{file}: {source}", file = file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file's content is wrong.
    #[error("{file}: {what}", file = file.display())]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// What is wrong and where.
        what: String,
    },
    /// Too much of what was read is corrupt for the rest to be trusted.
    #[error(
        "{corrupt} of {read} images that were read are corrupt, which is too many: mend the data set; the last of them, {last}"
    )]
    TooManyCorrupt {
        /// How many are corrupt.
        corrupt: usize,
        /// How many were read.
        read: usize,
        /// One of them.
        last: Corrupt,
    },
    /// No example that could take a corrupt one's place was found.
    #[error("all or nearly all of {examples} images are corrupt: mend the data set")]
    NothingLeft {
        /// How many there are.
        examples: usize,
    },
    /// A class of which nothing is left.
    #[error("all {examples} images of a class are corrupt: mend or remove it; the last of them, {last}")]
    ClassCorrupt {
        /// How many there are.
        examples: usize,
        /// One of them.
        last: Corrupt,
    },
    /// Images that are held in memory would not fit.
    #[error(
        "{path}: {images} images of {channels} x {height} x {width} bytes take {needed:.1} GB of memory, \
         {available:.1} GB are available: use fewer images, or a folder of image files, which are decoded when they are needed",
        path = path.display(), channels = size.0, height = size.1, width = size.2,
        needed = *needed as f64 / 1e9, available = *available as f64 / 1e9
    )]
    Memory {
        /// The file or folder.
        path: PathBuf,
        /// Number of images.
        images: usize,
        /// Channels, height and width.
        size: (usize, usize, usize),
        /// Bytes that they take.
        needed: u64,
        /// Bytes that are available.
        available: u64,
    },
}

/// Where Debian's package dataset-fashion-mnist puts its files.
const INSTALLED: &str = "/usr/share/datasets/fashion-mnist";

impl Dataset {
    /// Reads the data set of a folder; `form` forces how it is read. `height` and `width` are what the images of
    /// folders are cut and scaled to, `channels` what they are converted to; the other forms have a size of their own.
    pub fn load(
        folder: Option<&Path>,
        form: Option<Form>,
        (channels, height, width): (usize, usize, usize),
    ) -> Result<Self, DatasetError> {
        let folder = match folder {
            Some(folder) => folder.to_path_buf(),
            None => Self::installed().ok_or(DatasetError::Missing)?,
        };
        let form = match form {
            Some(form) => form,
            None => Self::recognise(&folder).ok_or_else(|| DatasetError::Unknown { folder: folder.clone() })?,
        };
        let in_memory = |(train, test): (Images, Images)| (train.into(), test.into());
        let (train, test): (Split, Split) = match form {
            Form::Idx => in_memory(idx::load(&folder)?),
            Form::Cifar10 => in_memory(cifar::load(&folder)?),
            Form::Folders => folder::load(&folder, (channels, height, width))?,
        };
        let name = folder.file_name().map_or_else(|| form.to_string(), |name| name.to_string_lossy().into_owned());
        Ok(Self { name, train, test })
    }

    /// SHA-256 in hexadecimal: a run goes on only with the images that it began with. Over all pixels and labels where they
    /// are in memory; of folders over the paths and lengths of the files, since reading 150 GB at each start isn't
    /// reasonable: a file that was changed without its length or name isn't noticed.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for split in [&self.train, &self.test] {
            split.identify(&mut |bytes| hash.update(bytes));
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn installed() -> Option<PathBuf> {
        let named = std::env::var_os("FASHION_MNIST").map(PathBuf::from);
        named.or_else(|| Some(PathBuf::from(INSTALLED)).filter(|folder| folder.is_dir()))
    }

    fn recognise(folder: &Path) -> Option<Form> {
        if idx::is_there(folder) {
            Some(Form::Idx)
        } else if cifar::find(folder).is_some() {
            Some(Form::Cifar10)
        } else {
            folder.join("train").is_dir().then_some(Form::Folders)
        }
    }
}

/// Refuses images that would not fit into memory, before they are read. Where the system doesn't say how much there is,
/// nothing is refused.
fn check_memory(path: &Path, images: usize, size: (usize, usize, usize)) -> Result<(), DatasetError> {
    let extents = [size.0, size.1, size.2];
    let needed = extents.iter().fold(images as u64, |product, &extent| product.saturating_mul(extent as u64));
    match available_memory() {
        Some(available) if needed > available => {
            Err(DatasetError::Memory { path: path.to_path_buf(), images, size, needed, available })
        }
        _ => Ok(()),
    }
}

/// Bytes that can be had without swapping, on Linux.
fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.saturating_mul(1024))
}

/// Sums of a channel's values and of their squares.
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    count: f64,
    sum: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, value: f64) {
        self.join(&Self { count: 1.0, sum: value, squares: value * value });
    }

    fn join(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.squares += other.squares;
    }

    fn mean_and_deviation(&self) -> (f32, f32) {
        let mean = self.sum / self.count;
        // A channel of one value has no spread; it stays as it is.
        let std = (self.squares / self.count - mean * mean).max(0.0).sqrt();
        (mean as f32, if std > 1e-6 { std as f32 } else { 1.0 })
    }
}
