//! Image folders: `train/CLASS/*.png|jpg`, and `test` or else `val` likewise. Classes are numbered by name.
//!
//! Names that begin with a dot are skipped, links are followed. Files beside the folders of classes belong to no class
//! and aren't read; in a class's folder, what is no image is an error.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Classes, DatasetError, Images, check_memory, picture};

/// Labels are 16 bits wide.
const MAX_CLASSES: usize = 1 << 16;

/// A split's files, none decoded yet.
struct Split {
    folder: PathBuf,
    classes: Vec<OsString>,
    files: Vec<(u16, PathBuf)>,
}

pub(super) fn load(folder: &Path, size: (usize, usize, usize)) -> Result<(Images, Images), DatasetError> {
    if ![1, 3].contains(&size.0) {
        return Err(corrupt(folder, format!("images have 1 or 3 channels, the space wants {}", size.0)));
    }
    let test = ["test", "val"].map(|name| folder.join(name)).into_iter().find(|path| path.is_dir());
    let test =
        test.ok_or_else(|| corrupt(folder, "has neither a folder 'test' nor 'val' beside 'train'".to_owned()))?;
    let (train, test) = (Split::list(folder.join("train"))?, Split::list(test)?);
    for (one, other) in [(&train, &test), (&test, &train)] {
        if let Some(class) = one.classes.iter().find(|class| other.classes.binary_search(class).is_err()) {
            let what = format!("no such class is in {}: both need the same", other.folder.display());
            return Err(corrupt(&one.folder.join(class), what));
        }
    }
    check_memory(folder, train.files.len() + test.files.len(), size)?;
    Ok((train.decode(size)?, test.decode(size)?))
}

impl Split {
    fn list(folder: PathBuf) -> Result<Self, DatasetError> {
        let classes: Vec<OsString> =
            entries(&folder)?.into_iter().filter(|(_, is_folder)| *is_folder).map(|(name, _)| name).collect();
        if classes.is_empty() || classes.len() > MAX_CLASSES {
            let what = format!("{} folders of classes: wanted 1 to {MAX_CLASSES}", classes.len());
            return Err(corrupt(&folder, what));
        }
        let mut files = Vec::new();
        for (class, label) in classes.iter().zip(0u16..=u16::MAX) {
            let (class, before) = (folder.join(class), files.len());
            for (name, is_folder) in entries(&class)? {
                let file = class.join(name);
                if is_folder || !is_image(&file) {
                    let what = "is no image (.png, .jpg, .jpeg): move it out of the class's folder";
                    return Err(corrupt(&file, what.to_owned()));
                }
                files.push((label, file));
            }
            if files.len() == before {
                return Err(corrupt(&class, "holds no image (.png, .jpg, .jpeg)".to_owned()));
            }
        }
        Ok(Self { folder, classes, files })
    }

    fn decode(&self, size: (usize, usize, usize)) -> Result<Images, DatasetError> {
        let (channels, height, width) = size;
        let mut pixels = Vec::with_capacity(self.files.len() * channels * height * width);
        for (_, file) in &self.files {
            pixels.extend_from_slice(&picture::read(file, size)?);
        }
        let labels = self.files.iter().map(|&(label, _)| label).collect();
        Ok(Images { channels, height, width, classes: Classes::Exactly(self.classes.len()), pixels, labels })
    }
}

fn corrupt(path: &Path, what: String) -> DatasetError {
    DatasetError::Corrupt { file: path.to_path_buf(), what }
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    ["png", "jpg", "jpeg"].iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// A folder's entries in the order of their names, and whether each is a folder or a link to one. What is hidden is
/// left out.
fn entries(folder: &Path) -> Result<Vec<(OsString, bool)>, DatasetError> {
    let io = |file: &Path| {
        let file = file.to_path_buf();
        |source| DatasetError::Io { file, source }
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(io(folder))? {
        let name = entry.map_err(io(folder))?.file_name();
        if !name.as_encoded_bytes().starts_with(b".") {
            let path = folder.join(&name);
            let is_folder = fs::metadata(&path).map_err(io(&path))?.is_dir();
            found.push((name, is_folder));
        }
    }
    found.sort();
    Ok(found)
}
