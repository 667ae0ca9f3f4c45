//! CIFAR-10's binary version: records of a label and 3 x 32 x 32 bytes, 10,000 a file.

use std::path::Path;

use super::{DatasetError, Images};

const SIDE: usize = 32;
const RECORD: usize = 1 + 3 * SIDE * SIDE;
const CLASSES: usize = 10;

pub(super) fn load(folder: &Path) -> Result<(Images, Images), DatasetError> {
    let mut train = empty();
    for batch in 1..=5 {
        append(&mut train, &folder.join(format!("data_batch_{batch}.bin")))?;
    }
    let mut test = empty();
    append(&mut test, &folder.join("test_batch.bin"))?;
    Ok((train, test))
}

fn empty() -> Images {
    Images { channels: 3, height: SIDE, width: SIDE, classes: CLASSES, pixels: Vec::new(), labels: Vec::new() }
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
        images.labels.push(record[0]);
        images.pixels.extend_from_slice(&record[1..]);
    }
    Ok(())
}
