//! CIFAR-10's binary version: records of a label and 3 x 32 x 32 bytes, 10,000 a file.

use std::path::{Path, PathBuf};

use super::{Classes, DatasetError, Images};

/// The folder that the published archive unpacks to.
const UNPACKED: &str = "cifar-10-batches-bin";
const SIDE: usize = 32;
const RECORD: usize = 1 + 3 * SIDE * SIDE;
const CLASSES: usize = 10;

/// Where the batches are: in the folder itself, or below it in the one that the archive unpacks to.
pub(super) fn find(folder: &Path) -> Option<PathBuf> {
    let folders = [folder.to_path_buf(), folder.join(UNPACKED)];
    folders.into_iter().find(|folder| folder.join("data_batch_1.bin").exists())
}

pub(super) fn load(folder: &Path) -> Result<(Images, Images), DatasetError> {
    let folder = find(folder).unwrap_or_else(|| folder.to_path_buf());
    let mut train = empty();
    for batch in 1..=5 {
        append(&mut train, &folder.join(format!("data_batch_{batch}.bin")))?;
    }
    let mut test = empty();
    append(&mut test, &folder.join("test_batch.bin"))?;
    Ok((train, test))
}

fn empty() -> Images {
    let classes = Classes::Exactly(CLASSES);
    Images { channels: 3, height: SIDE, width: SIDE, classes, pixels: Vec::new(), labels: Vec::new() }
}

fn append(images: &mut Images, file: &Path) -> Result<(), DatasetError> {
    let bytes = std::fs::read(file).map_err(|source| DatasetError::Io { file: file.to_path_buf(), source })?;
    let corrupt = |what: String| DatasetError::Corrupt { file: file.to_path_buf(), what };
    if bytes.is_empty() || !bytes.len().is_multiple_of(RECORD) {
        return Err(corrupt(format!("{} bytes are no whole number of records of {RECORD} bytes", bytes.len())));
    }
    for (index, record) in bytes.chunks_exact(RECORD).enumerate() {
        if usize::from(record[0]) >= CLASSES {
            let offset = index * RECORD;
            return Err(corrupt(format!("byte {offset}: label {}, wanted 0 to {}", record[0], CLASSES - 1)));
        }
        images.labels.push(u16::from(record[0]));
        images.pixels.extend_from_slice(&record[1..]);
    }
    Ok(())
}
