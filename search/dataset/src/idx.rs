//! IDX files (LeCun's MNIST form): magic number, extents as big-endian u32, bytes.
//!
//! The form doesn't say how many classes there are: as many are taken as the largest label of both files of labels
//! needs.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

use super::{Classes, DatasetError, Images, check_memory};

/// One of the two kinds of files.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    dimensions: usize,
}

const IMAGES: Kind = Kind { name: "images", dimensions: 3 };
const LABELS: Kind = Kind { name: "labels", dimensions: 1 };

/// An IDX file's content.
struct Content {
    file: PathBuf,
    extents: Vec<usize>,
    data: Vec<u8>,
}

impl Kind {
    /// Bytes, in so many dimensions.
    fn magic(self) -> u32 {
        0x0800 + self.dimensions as u32
    }

    /// A file's name, with `-` as published or with `.` as some downloads have it.
    fn file_name(self, split: &str, separator: char) -> String {
        format!("{split}-{}{separator}idx{}-ubyte", self.name, self.dimensions)
    }

    fn find(self, folder: &Path, split: &str) -> Option<PathBuf> {
        let names = ['-', '.'].map(|separator| self.file_name(split, separator));
        let paths = names.into_iter().flat_map(|name| [folder.join(&name), folder.join(format!("{name}.gz"))]);
        paths.into_iter().find(|path| path.is_file())
    }
}

pub(super) fn is_there(folder: &Path) -> bool {
    IMAGES.find(folder, "train").is_some()
}

pub(super) fn load(folder: &Path) -> Result<(Images, Images), DatasetError> {
    let (mut train, mut test) = (split(folder, "train")?, split(folder, "t10k")?);
    let largest = train.labels.iter().chain(&test.labels).max();
    let classes = Classes::AtLeast(largest.map_or(0, |&label| usize::from(label) + 1));
    (train.classes, test.classes) = (classes, classes);
    Ok((train, test))
}

fn split(folder: &Path, which: &str) -> Result<Images, DatasetError> {
    let images = read(folder, which, IMAGES)?;
    let labels = read(folder, which, LABELS)?;
    let (count, label_count) = (images.extents[0], labels.extents[0]);
    if count != label_count {
        let what = format!("{label_count} labels for the {count} images of {}", images.file.display());
        return Err(DatasetError::Corrupt { file: labels.file, what });
    }
    Ok(Images {
        channels: 1,
        height: images.extents[1],
        width: images.extents[2],
        classes: Classes::AtLeast(0),
        pixels: images.data,
        labels: labels.data.into_iter().map(u16::from).collect(),
    })
}

fn read(folder: &Path, split: &str, kind: Kind) -> Result<Content, DatasetError> {
    let file = kind.find(folder, split).ok_or_else(|| {
        let what = format!("isn't there, nor {}, nor a .gz of either", kind.file_name(split, '.'));
        let source = std::io::Error::new(std::io::ErrorKind::NotFound, what);
        DatasetError::Io { file: folder.join(kind.file_name(split, '-')), source }
    })?;
    let corrupt = |what: String| DatasetError::Corrupt { file: file.clone(), what };
    let raw = File::open(&file).map_err(|source| DatasetError::Io { file: file.clone(), source })?;
    let zipped = file.extension().is_some_and(|extension| extension == "gz");
    let mut stream: Box<dyn Read> = if zipped { Box::new(GzDecoder::new(raw)) } else { Box::new(raw) };
    let mut word = |what: &str| {
        let mut bytes = [0; 4];
        let read = stream.read_exact(&mut bytes);
        read.map(|()| u32::from_be_bytes(bytes)).map_err(|error| corrupt(format!("no {what}: {error}")))
    };
    let (found, wanted) = (word("magic number")?, kind.magic());
    if found != wanted {
        return Err(corrupt(format!(
            "magic number {found:#010x}, wanted {wanted:#010x}: not an IDX file of this kind"
        )));
    }
    let extents: Result<Vec<usize>, _> = (0..kind.dimensions).map(|_| word("extents").map(|n| n as usize)).collect();
    let extents = extents?;
    let bytes = extents.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent));
    let wanted = bytes.filter(|&bytes| bytes > 0 && bytes < usize::MAX);
    let wanted = wanted.ok_or_else(|| corrupt(format!("extents {extents:?} are no {}", kind.name)))?;
    if let [count, height, width] = extents[..] {
        check_memory(&file, count, (1, height, width))?;
    }
    // Grows with what is there, whatever the extents claim.
    let mut data = Vec::new();
    let read = stream.take(wanted as u64 + 1).read_to_end(&mut data);
    read.map_err(|error| corrupt(format!("broken after {} bytes of data: {error}", data.len())))?;
    if data.len() != wanted {
        let found = if data.len() > wanted { "more".to_owned() } else { data.len().to_string() };
        return Err(corrupt(format!("{found} bytes of data, the extents {extents:?} say {wanted}")));
    }
    Ok(Content { file, extents, data })
}
