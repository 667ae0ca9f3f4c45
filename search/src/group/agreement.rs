//! What all ranks must have alike before they learn together.

use fleetfoot_profiler::sha256;
use serde::{Deserialize, Serialize};

use super::Group;
use crate::error::SearchError;

/// Names of things with their hashes, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreement {
    entries: Vec<(String, String)>,
}

impl Agreement {
    /// Adds something that is told as it is: a version.
    pub fn told(mut self, what: &str, value: impl Into<String>) -> Self {
        self.entries.push((what.to_owned(), value.into()));
        self
    }

    /// Adds something that is told by its hash.
    pub fn hashed(self, what: &str, value: &impl Serialize) -> Self {
        let bytes = serde_json::to_vec(value).unwrap_or_default();
        self.told(what, sha256(&bytes))
    }

    /// These, and then others.
    pub fn with(mut self, others: Self) -> Self {
        self.entries.extend(others.entries);
        self
    }

    /// The names with what is told of them.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(what, value)| (what.as_str(), value.as_str()))
    }
}

/// So much of a hash is told.
const SHORT: usize = 12;

impl Group {
    /// Makes sure that all ranks have the same.
    pub fn agree(&self, own: &Agreement) -> Result<(), SearchError> {
        if self.size() == 1 {
            return Ok(());
        }
        let all = self.gather(own)?;
        let Some(first) = all.first() else { return Ok(()) };
        for (rank, other) in all.iter().enumerate() {
            let pairs = first.entries.iter().zip(&other.entries);
            if let Some(((what, here), (_, there))) = pairs.into_iter().find(|(here, there)| here != there) {
                let [here, there] = [here, there].map(|value| value.chars().take(SHORT).collect::<String>());
                return Err(SearchError::Disagree { what: what.clone(), rank, there, here });
            }
        }
        Ok(())
    }
}
