//! What the runtime's own profile says of whole networks, node by node, and the file that keeps it.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use fleetfoot_protocol::{NodeTime, Profiled};
use serde::{Deserialize, Serialize};

use crate::atomic_file::write_json;
use crate::conditions::Conditions;
use crate::pace::{contended, most_alone};

/// Version of the file's form.
const FORMAT: u32 = 3;

/// The profiles of one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeProfile {
    /// The subject's name in the journal.
    pub subject: String,
    /// One a process.
    pub processes: Vec<Profiled>,
}

/// A network's nodes in all processes that count.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NetworkNodes {
    /// In the order in which they ran, over these processes together.
    pub nodes: Vec<NodeTime>,
    /// What a run took when it wasn't profiled, in ms.
    pub plain_ms: f64,
}

impl NetworkNodes {
    /// Sums up. A node that the runtime made in one process only is kept.
    fn of(processes: &[&Profiled]) -> Self {
        let mut nodes: Vec<NodeTime> = processes.first().map_or_else(Vec::new, |first| first.nodes.clone());
        for node in processes.iter().skip(1).flat_map(|profiled| &profiled.nodes) {
            match nodes.iter_mut().find(|known| known.name == node.name) {
                Some(known) => {
                    known.calls += node.calls;
                    known.kernel_us += node.kernel_us;
                    known.span_us += node.span_us;
                }
                None => nodes.push(node.clone()),
            }
        }
        let plain_ns: u64 = processes.iter().map(|profiled| profiled.plain_ns).sum();
        Self { nodes, plain_ms: plain_ns as f64 / 1e6 / processes.len().max(1) as f64 }
    }
}

/// By how much others slowed the units of the core down during a profile.
fn contention_of(profiled: &Profiled) -> f64 {
    contended(profiled.paces[0]).max(contended(profiled.paces[1]))
}

/// The profiles of a campaign's networks, as they are kept beside the latency table that rests on them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeProfiles {
    fleetfoot_nodes: u32,
    /// What was profiled: SHA-256 over the models, as in the journal.
    pub models: String,
    /// Under which conditions.
    pub conditions: Conditions,
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

/// Those of a network's profiles during which nobody else was on the core's units.
pub(crate) fn alone(networks: &[NodeProfile]) -> Vec<Vec<&Profiled>> {
    let all: Vec<f64> = networks.iter().flat_map(|network| &network.processes).map(contention_of).collect();
    let most = most_alone(&all);
    // What isn't known is no reproach.
    let shared = |profiled: &&Profiled| contention_of(profiled) > most;
    networks.iter().map(|network| network.processes.iter().filter(|profiled| !shared(profiled)).collect()).collect()
}

impl NodeProfiles {
    /// The networks' nodes by name, of the profiles that were taken while nobody else was on the core's units; the least disturbed
    /// one where there is none.
    pub(crate) fn nodes(&self) -> HashMap<&str, NetworkNodes> {
        let nodes = |(network, mut counted): (&'_ NodeProfile, Vec<&'_ Profiled>)| {
            if counted.is_empty() {
                let by_contention = |a: &&Profiled, b: &&Profiled| contention_of(a).total_cmp(&contention_of(b));
                counted.extend(network.processes.iter().min_by(by_contention));
            }
            NetworkNodes::of(&counted)
        };
        let all = self.networks.iter().zip(alone(&self.networks));
        all.map(|(network, counted)| (network.subject.as_str(), nodes((network, counted)))).collect()
    }

    /// Profiles of the models with this digest.
    pub fn new(models: String, conditions: Conditions, networks: Vec<NodeProfile>) -> Self {
        Self { fleetfoot_nodes: FORMAT, models, conditions, networks }
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
