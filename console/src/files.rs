//! What may be written where.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// Makes sure, before any work is done, that a result may be written: nothing that exists is overwritten without
/// `force`, and the folder is made. What is no file (a pipe, `/dev/null`) may always be written to. `remedy` ends the
/// sentence "… exists: choose another file, ".
pub fn claim(path: &Path, force: bool, remedy: &str) -> Result<()> {
    if path.is_dir() {
        bail!("{} is a folder: name a file", path.display());
    }
    if !force && path.is_file() {
        bail!("{} exists: choose another file, {remedy}", path.display());
    }
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => {
            fs::create_dir_all(folder).with_context(|| format!("can't make the folder {}", folder.display()))
        }
        None => Ok(()),
    }
}

/// As [`claim`], for a result that is known already: a file that holds the same is nothing to be asked about.
pub fn claim_equal(path: &Path, bytes: &[u8], force: bool, remedy: &str) -> Result<()> {
    let same = path.is_file() && fs::read(path).is_ok_and(|there| there == bytes);
    claim(path, force || same, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_overwritten_without_being_asked() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("new/file");
        claim(&file, false, "").unwrap();
        fs::write(&file, "old").unwrap();
        let error = claim(&file, false, "or --force it").unwrap_err().to_string();
        assert!(error.ends_with("file exists: choose another file, or --force it"), "{error}");
        claim(&file, true, "").unwrap();
        claim_equal(&file, b"old", false, "").unwrap();
        assert!(claim_equal(&file, b"new", false, "").is_err());
        assert!(claim(folder.path(), true, "").unwrap_err().to_string().contains("is a folder"));
        claim(Path::new("/dev/null"), false, "").unwrap();
    }
}
