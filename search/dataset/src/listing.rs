//! The files of a split's classes: names, packed, and nothing of what is in them.
//!
//! A name takes its bytes and four more: 1.3 million files of ImageNet are 31 MB. Names that begin with a dot are skipped,
//! links are followed. Files beside the folders of classes belong to no class and aren't read; in a class's folder, what is
//! no image is an error.

use std::fs::{self, DirEntry};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use sha2::{Digest, Sha256};

use super::{DatasetError, cores};

/// Labels are 16 bits wide.
const MAX_CLASSES: usize = 1 << 16;
/// Threads that list folders, at least: they wait for the disk or the network most of the time.
const LISTING_THREADS: usize = 8;

/// A split's files, in the order of their classes' names and of their own.
#[derive(Debug)]
pub(super) struct Listing {
    pub folder: PathBuf,
    pub classes: Vec<Class>,
    /// Number of files in front of each class, and in all.
    starts: Vec<usize>,
}

/// A class's folder.
#[derive(Debug)]
pub(super) struct Class {
    pub name: String,
    /// All files' names, one behind the other.
    names: String,
    /// Where each name ends.
    ends: Vec<u32>,
    /// SHA-256 over names and lengths.
    digest: [u8; 32],
}

impl Listing {
    pub fn read(folder: PathBuf) -> Result<Self, DatasetError> {
        let names: Vec<String> =
            entries(&folder)?.into_iter().filter(|entry| entry.is_folder).map(|entry| entry.name).collect();
        if names.is_empty() || names.len() > MAX_CLASSES {
            let what = format!("{} folders of classes: wanted 1 to {MAX_CLASSES}", names.len());
            return Err(corrupt(&folder, what));
        }
        let classes = each(&names, |name| Class::read(&folder, name))?;
        let mut starts = vec![0];
        for class in &classes {
            starts.push(starts.last().copied().unwrap_or(0) + class.ends.len());
        }
        if starts.last().is_some_and(|&files| files > u32::MAX as usize) {
            return Err(corrupt(&folder, format!("holds more than {} files", u32::MAX)));
        }
        Ok(Self { folder, classes, starts })
    }

    pub fn len(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }

    /// The number of a file's class.
    pub fn class(&self, index: usize) -> usize {
        self.starts.partition_point(|&start| start <= index) - 1
    }

    pub fn path(&self, index: usize) -> PathBuf {
        let class = self.class(index);
        let (start, class) = (self.starts[class], &self.classes[class]);
        self.folder.join(&class.name).join(class.file(index - start))
    }

    pub fn identify(&self, add: &mut dyn FnMut(&[u8])) {
        for class in &self.classes {
            add(class.name.as_bytes());
            add(&class.digest);
        }
    }
}

impl Class {
    fn read(split: &Path, name: &str) -> Result<Self, DatasetError> {
        let folder = split.join(name);
        let mut class = Self { name: name.to_owned(), names: String::new(), ends: Vec::new(), digest: [0; 32] };
        let mut hash = Sha256::new();
        for entry in entries(&folder)? {
            if entry.is_folder || !is_image(Path::new(&entry.name)) {
                let what = "is no image (.png, .jpg, .jpeg): move it out of the class's folder";
                return Err(corrupt(&folder.join(entry.name), what.to_owned()));
            }
            hash.update(entry.name.as_bytes());
            hash.update([0]);
            hash.update(entry.length.to_le_bytes());
            class.names.push_str(&entry.name);
            let end = u32::try_from(class.names.len());
            class.ends.push(end.map_err(|_| corrupt(&folder, "holds too many files".to_owned()))?);
        }
        if class.ends.is_empty() {
            return Err(corrupt(&folder, "holds no image (.png, .jpg, .jpeg)".to_owned()));
        }
        class.names.shrink_to_fit();
        class.ends.shrink_to_fit();
        class.digest = hash.finalize().into();
        Ok(class)
    }

    fn file(&self, index: usize) -> &str {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        &self.names[start..self.ends[index] as usize]
    }
}

pub(super) fn corrupt(path: &Path, what: String) -> DatasetError {
    DatasetError::Corrupt { file: path.to_path_buf(), what }
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    ["png", "jpg", "jpeg"].iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// What is made of each name, by several threads; the error of the first name in order that has one.
fn each<T: Send>(
    names: &[String],
    make: impl Fn(&str) -> Result<T, DatasetError> + Sync,
) -> Result<Vec<T>, DatasetError> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut made = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(name) = names.get(index) else { return made };
            made.push((index, make(name)));
        }
    };
    let mut made: Vec<(usize, Result<T, DatasetError>)> = thread::scope(|scope| {
        let threads = cores().max(LISTING_THREADS).min(names.len());
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    });
    made.sort_by_key(|(index, _)| *index);
    made.into_iter().map(|(_, result)| result).collect()
}

/// What is in a folder.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    name: String,
    /// Or a link to one.
    is_folder: bool,
    length: u64,
}

/// A folder's entries in the order of their names. What is hidden is left out.
fn entries(folder: &Path) -> Result<Vec<Entry>, DatasetError> {
    let io = |file: &Path| {
        let file = file.to_path_buf();
        |source| DatasetError::Io { file, source }
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(io(folder))? {
        let entry = entry.map_err(io(folder))?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        let metadata = metadata(&entry).map_err(io(&path))?;
        let name = entry.file_name().into_string();
        let name = name.map_err(|_| corrupt(&path, "has a name that isn't UTF-8: rename it".to_owned()))?;
        found.push(Entry { name, is_folder: metadata.is_dir(), length: metadata.len() });
    }
    found.sort();
    Ok(found)
}

/// Of the entry, or of what it links to.
fn metadata(entry: &DirEntry) -> std::io::Result<fs::Metadata> {
    let metadata = entry.metadata()?;
    if metadata.is_symlink() { fs::metadata(entry.path()) } else { Ok(metadata) }
}
