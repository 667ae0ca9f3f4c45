//! What Linux and Android tell in files. Whatever can't be read is absent.

use std::fs;
use std::path::{Path, PathBuf};

/// A file's text, without the space around it.
pub fn text(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// A file's number.
pub fn number(path: &Path) -> Option<u64> {
    text(path)?.parse().ok()
}

/// A folder's entries in the order of their names.
pub fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// Files below a root, and folders above them.
#[cfg(test)]
pub fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}
