//! What the runtime's own profile says of whole networks, node by node, and the file that keeps it.

use std::io;
use std::path::{Path, PathBuf};

use fleetfoot_protocol::{NodeTime, Profiled};
use serde::{Deserialize, Serialize};

use crate::atomic_file::write_json;
use crate::conditions::Conditions;

/// Version of the file's form.
const FORMAT: u32 = 2;

/// The profile of one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeProfile {
    /// The subject's name in the journal.
    pub subject: String,
    /// Its nodes, in the order in which they ran, over all processes together.
    pub nodes: Vec<NodeTime>,
    /// What a run took in each process when it wasn't profiled, in ns.
    pub plain_ns: Vec<u64>,
}

impl NodeProfile {
    /// Of one process.
    pub fn new(subject: String, profiled: Profiled) -> Self {
        Self { subject, nodes: profiled.nodes, plain_ns: vec![profiled.plain_ns] }
    }

    /// What a run took when it wasn't profiled, in ms.
    pub fn plain_ms(&self) -> f64 {
        self.plain_ns.iter().sum::<u64>() as f64 / 1e6 / self.plain_ns.len().max(1) as f64
    }

    /// Adds what the same network's nodes took in another process. A node that the runtime made in one of them only is kept.
    pub fn add(&mut self, profiled: Profiled) {
        self.plain_ns.push(profiled.plain_ns);
        for node in profiled.nodes {
            match self.nodes.iter_mut().find(|known| known.name == node.name) {
                Some(known) => {
                    known.calls += node.calls;
                    known.kernel_us += node.kernel_us;
                    known.span_us += node.span_us;
                }
                None => self.nodes.push(node),
            }
        }
    }
}

/// The profiles of a campaign's networks, as they are kept beside the latency table that rests on them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeProfiles {
    fleetfoot_nodes: u32,
    /// What was profiled: SHA-256 over the models, as in the journal.
    pub models: String,
    /// Under which conditions.
    pub conditions: Conditions,
    /// Processes in which each network was profiled.
    pub processes: u32,
    /// One entry a network.
    pub networks: Vec<NodeProfile>,
}

/// Profiles that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum NodeProfilesError {
    /// The file can't be read or written.
    #[error("node profiles {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file isn't what it should be.
    #[error("node profiles {path}: {what}; measure anew with `fleetfoot profile --force`")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

impl NodeProfiles {
    /// Profiles of the models with this digest.
    pub fn new(models: String, conditions: Conditions, processes: u32, networks: Vec<NodeProfile>) -> Self {
        Self { fleetfoot_nodes: FORMAT, models, conditions, processes, networks }
    }

    /// Writes them, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<(), NodeProfilesError> {
        write_json(path, self).map_err(|source| NodeProfilesError::Io { path: path.to_path_buf(), source })
    }

    /// Reads the profiles of the models with this digest, taken under these conditions (whatever the statistic, the cost and
    /// the soak, which are none of profiles).
    pub fn read(path: &Path, models: &str, conditions: &Conditions) -> Result<Self, NodeProfilesError> {
        let text = std::fs::read(path).map_err(|source| NodeProfilesError::Io { path: path.to_path_buf(), source })?;
        let unusable = |what: String| NodeProfilesError::Unusable { path: path.to_path_buf(), what };
        let profiles: Self = serde_json::from_slice(&text).map_err(|error| unusable(error.to_string()))?;
        if profiles.fleetfoot_nodes != FORMAT || profiles.models != models {
            return Err(unusable("they are of other models or another version".to_owned()));
        }
        let Conditions { statistic, cost, soak_seconds, .. } = profiles.conditions;
        let alike = Conditions { statistic, cost, soak_seconds, ..conditions.clone() };
        profiles.conditions.compatible(&alike).map_err(|differences| unusable(differences.to_string()))?;
        Ok(profiles)
    }
}
