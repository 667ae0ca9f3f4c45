//! Image folders: `train/CLASS/*.png|jpg`, and `test` or `val` likewise. Classes are numbered by name.

use std::fs;
use std::path::{Path, PathBuf};

use image::imageops::FilterType;

use super::{DatasetError, Images};

/// Labels are bytes.
const MAX_CLASSES: usize = 256;

pub(super) fn load(folder: &Path, size: (usize, usize, usize)) -> Result<(Images, Images), DatasetError> {
    let train = folder.join("train");
    let test = [folder.join("test"), folder.join("val")].into_iter().find(|path| path.is_dir());
    let test = test.ok_or_else(|| corrupt(folder, "has neither a folder 'test' nor 'val' beside 'train'"))?;
    let classes = entries(&train)?.into_iter().filter(|path| path.is_dir());
    let classes: Vec<String> = classes.map(|path| name(&path)).collect();
    if classes.is_empty() || classes.len() > MAX_CLASSES {
        return Err(corrupt(&train, &format!("{} folders of classes: wanted 1 to {MAX_CLASSES}", classes.len())));
    }
    for path in entries(&test)?.into_iter().filter(|path| path.is_dir()) {
        if !classes.contains(&name(&path)) {
            return Err(corrupt(&path, "the training images have no such class"));
        }
    }
    Ok((split(&train, &classes, size)?, split(&test, &classes, size)?))
}

fn split(
    folder: &Path,
    classes: &[String],
    (channels, height, width): (usize, usize, usize),
) -> Result<Images, DatasetError> {
    let classes_count = classes.len();
    let mut images = Images { channels, height, width, classes: classes_count, pixels: Vec::new(), labels: Vec::new() };
    for (label, class) in classes.iter().enumerate() {
        let folder = folder.join(class);
        if !folder.is_dir() {
            continue;
        }
        for file in entries(&folder)?.into_iter().filter(|path| is_image(path)) {
            let picture = image::open(&file).map_err(|error| corrupt(&file, &error.to_string()))?;
            let picture = picture.resize_exact(width as u32, height as u32, FilterType::Triangle);
            match channels {
                1 => images.pixels.extend_from_slice(picture.to_luma8().as_raw()),
                3 => {
                    let interleaved = picture.to_rgb8().into_raw();
                    images.pixels.extend((0..3).flat_map(|c| interleaved.iter().skip(c).step_by(3)));
                }
                other => return Err(corrupt(&file, &format!("images have 1 or 3 channels, the space wants {other}"))),
            }
            images.labels.push(label as u8);
        }
    }
    if images.is_empty() {
        return Err(corrupt(folder, "holds no image (.png, .jpg, .jpeg)"));
    }
    Ok(images)
}

fn corrupt(path: &Path, what: &str) -> DatasetError {
    DatasetError::Corrupt { file: path.to_path_buf(), what: what.to_owned() }
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    ["png", "jpg", "jpeg"].iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// A folder's entries in the order of their names.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, DatasetError> {
    let io = |source| DatasetError::Io { file: folder.to_path_buf(), source };
    let entries = fs::read_dir(folder).map_err(io)?;
    let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>().map_err(io)?;
    paths.sort();
    Ok(paths)
}
