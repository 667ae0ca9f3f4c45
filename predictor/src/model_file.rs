//! Models as files: JSON, written whole or not at all.

use std::path::{Path, PathBuf};

use fleetfoot_profiler::write_json;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A model's file that can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ModelFileError {
    /// It can't be read or written.
    #[error("model {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no model.
    #[error("model {path}: {what}; make it with `{command}`")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
        /// The command that makes one.
        command: &'static str,
    },
}

impl ModelFileError {
    pub(crate) fn format(path: &Path, what: String, command: &'static str) -> Self {
        Self::Format { path: path.to_path_buf(), what, command }
    }
}

/// Writes a model.
pub(crate) fn write(path: &Path, model: &impl Serialize) -> Result<(), ModelFileError> {
    write_json(path, model).map_err(|source| ModelFileError::Io { path: path.to_path_buf(), source })
}

/// Reads a model of a kind, where its kind has a name, which `command` makes.
pub(crate) fn read<T: DeserializeOwned>(
    path: &Path,
    command: &'static str,
    kind: Option<&str>,
) -> Result<T, ModelFileError> {
    let bytes = std::fs::read(path).map_err(|source| ModelFileError::Io { path: path.to_path_buf(), source })?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let model: Option<serde_json::Map<String, serde_json::Value>> = serde_json::from_slice(&bytes).ok();
        let own = model.as_ref().map(|model| model.get("kind").and_then(|kind| kind.as_str()));
        let what = match own {
            Some(own) if own != kind => {
                format!("it is a model of {}", own.unwrap_or("units, for --estimate beside --table"))
            }
            _ => error.to_string(),
        };
        ModelFileError::format(path, what, command)
    })
}
