//! Images with labels, in memory as bytes.

mod cifar;
mod fingerprint;
mod folder;
mod idx;
mod jpeg;
mod picture;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

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

/// Labelled images of one size: N x C x H x W bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// Channels.
    pub channels: usize,
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
    /// Number of classes.
    pub classes: Classes,
    /// The images one behind the other, each C x H x W.
    pub pixels: Vec<u8>,
    /// One label an image, below the number of classes.
    pub labels: Vec<u16>,
}

impl Images {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Bytes of an image.
    pub fn image_len(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// These images, in this order.
    pub fn subset(&self, indices: &[usize]) -> Self {
        let pixels = indices.iter().flat_map(|&index| self.image(index)).copied().collect();
        let labels = indices.iter().map(|&index| self.labels[index]).collect();
        Self { pixels, labels, ..*self }
    }

    /// An image's bytes, C x H x W.
    pub fn image(&self, index: usize) -> &[u8] {
        &self.pixels[index * self.image_len()..][..self.image_len()]
    }
}

/// Training and test images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// Its name for reports.
    pub name: String,
    /// What is learned from.
    pub train: Arc<Images>,
    /// What is judged by.
    pub test: Arc<Images>,
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
    /// A folder a class below `train` and `test` (or `val`), PNG or JPEG. The middle of each image is scaled; alpha is
    /// dropped.
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
    /// The images, which are all held in memory, would not fit.
    #[error(
        "{path}: {images} images of {channels} x {height} x {width} bytes take {needed:.1} GB of memory, \
         {available:.1} GB are available: use fewer images, or a space of smaller ones",
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
        let (train, test) = match form {
            Form::Idx => idx::load(&folder)?,
            Form::Cifar10 => cifar::load(&folder)?,
            Form::Folders => folder::load(&folder, (channels, height, width))?,
        };
        let name = folder.file_name().map_or_else(|| form.to_string(), |name| name.to_string_lossy().into_owned());
        Ok(Self { name, train: Arc::new(train), test: Arc::new(test) })
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

/// Mean and standard deviation of each channel over all images, of pixel values in 0..1.
pub fn channel_statistics(images: &Images) -> Vec<(f32, f32)> {
    let plane = images.height * images.width;
    let mut sums = vec![(0.0f64, 0.0f64); images.channels];
    for image in images.pixels.chunks_exact(images.image_len().max(1)) {
        for (channel, values) in image.chunks_exact(plane).enumerate() {
            for &value in values {
                let value = f64::from(value) / 255.0;
                sums[channel].0 += value;
                sums[channel].1 += value * value;
            }
        }
    }
    let count = (images.len() * plane) as f64;
    let statistics = sums.into_iter().map(|(sum, squares)| {
        let mean = sum / count;
        // A channel of one value has no spread; it stays as it is.
        let std = (squares / count - mean * mean).max(0.0).sqrt();
        (mean as f32, if std > 1e-6 { std as f32 } else { 1.0 })
    });
    statistics.collect()
}
