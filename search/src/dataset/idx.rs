//! IDX files (LeCun's MNIST form): magic number, extents as big-endian u32, bytes.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

use super::{DatasetError, Images};

const IMAGES: u32 = 0x0803;
const LABELS: u32 = 0x0801;
/// No IDX file of images is larger; what claims to be is broken.
const MAX_BYTES: usize = 1 << 32;
const CLASSES: usize = 10;

pub(super) fn is_there(folder: &Path) -> bool {
    path(folder, "train-images-idx3-ubyte").is_some()
}

pub(super) fn load(folder: &Path) -> Result<(Images, Images), DatasetError> {
    Ok((split(folder, "train")?, split(folder, "t10k")?))
}

fn path(folder: &Path, name: &str) -> Option<PathBuf> {
    let zipped = folder.join(format!("{name}.gz"));
    [folder.join(name), zipped].into_iter().find(|path| path.is_file())
}

fn split(folder: &Path, which: &str) -> Result<Images, DatasetError> {
    let (file, extents, pixels) = read(folder, &format!("{which}-images-idx3-ubyte"), IMAGES)?;
    let (labels_file, label_extents, labels) = read(folder, &format!("{which}-labels-idx1-ubyte"), LABELS)?;
    if extents[0] != label_extents[0] {
        let what = format!("{} labels for the {} images of {}", label_extents[0], extents[0], file.display());
        return Err(DatasetError::Corrupt { file: labels_file, what });
    }
    if let Some(index) = labels.iter().position(|&label| usize::from(label) >= CLASSES) {
        let what = format!("label {} of image {index}: wanted 0 to {}", labels[index], CLASSES - 1);
        return Err(DatasetError::Corrupt { file: labels_file, what });
    }
    Ok(Images { channels: 1, height: extents[1], width: extents[2], classes: CLASSES, pixels, labels })
}

/// A file's extents and bytes.
fn read(folder: &Path, name: &str, magic: u32) -> Result<(PathBuf, Vec<usize>, Vec<u8>), DatasetError> {
    let file = path(folder, name).ok_or_else(|| DatasetError::Io {
        file: folder.join(name),
        source: std::io::Error::new(std::io::ErrorKind::NotFound, "neither this file nor its .gz is there"),
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
    let found = word("magic number")?;
    if found != magic {
        return Err(corrupt(format!("magic number {found:#010x}, wanted {magic:#010x}: not an IDX file of this kind")));
    }
    let dimensions = (magic & 0xff) as usize;
    let extents = (0..dimensions).map(|_| word("extents").map(|n| n as usize)).collect::<Result<Vec<usize>, _>>()?;
    let bytes = extents.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent));
    let wanted = bytes.filter(|&bytes| bytes > 0 && bytes <= MAX_BYTES);
    let wanted = wanted.ok_or_else(|| corrupt(format!("extents {extents:?} are no images")))?;
    let mut data = Vec::new();
    let read = stream.take(wanted as u64 + 1).read_to_end(&mut data);
    read.map_err(|error| corrupt(format!("broken after {} bytes of data: {error}", data.len())))?;
    if data.len() != wanted {
        let found = if data.len() > wanted { "more".to_owned() } else { data.len().to_string() };
        return Err(corrupt(format!("{found} bytes of data, the extents {extents:?} say {wanted}")));
    }
    Ok((file, extents, data))
}
