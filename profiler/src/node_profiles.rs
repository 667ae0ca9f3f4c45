//! What the runtime's own profile says of whole networks, node by node.

use fleetfoot_protocol::{NodeTime, Profiled};
use serde::{Deserialize, Serialize};

use crate::pace::{contended, most_alone};

/// The profile of one network in one process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeProfile {
    /// The subject's number.
    pub subject: u32,
    /// The process, from 0: where its memory lies, and what was slow then, is in all of its profiles.
    pub process: u32,
    /// What it says.
    #[serde(flatten)]
    pub profiled: Profiled,
}

impl NodeProfile {
    /// By how much others slowed the units of the core down meanwhile.
    fn contention(&self) -> f64 {
        contended(self.profiled.paces[0]).max(contended(self.profiled.paces[1]))
    }
}

/// Those of the profiles during which nobody else was on the core's units.
pub(crate) fn alone(profiles: &[NodeProfile]) -> impl Iterator<Item = &NodeProfile> {
    let most = most_alone(&profiles.iter().map(NodeProfile::contention).collect::<Vec<_>>());
    // What isn't known is no reproach.
    let shared = move |profile: &NodeProfile| profile.contention() > most;
    profiles.iter().filter(move |profile| !shared(profile))
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
    /// Of those of a subject's profiles that were taken while nobody else was on the core's units, else of the least disturbed one;
    /// `None` where there is none.
    pub(crate) fn of(profiles: &[NodeProfile], subject: usize) -> Option<Self> {
        let ours = |profile: &&NodeProfile| profile.subject as usize == subject;
        let mut counted: Vec<&NodeProfile> = alone(profiles).filter(ours).collect();
        if counted.is_empty() {
            let by_contention = |a: &&NodeProfile, b: &&NodeProfile| a.contention().total_cmp(&b.contention());
            counted.extend(profiles.iter().filter(ours).min_by(by_contention));
        }
        let mut nodes = counted.first()?.profiled.nodes.clone();
        // A node that the runtime made in one process only is kept.
        for node in counted[1..].iter().flat_map(|profile| &profile.profiled.nodes) {
            match nodes.iter_mut().find(|known| known.name == node.name) {
                Some(known) => {
                    known.calls += node.calls;
                    known.kernel_us += node.kernel_us;
                    known.span_us += node.span_us;
                }
                None => nodes.push(node.clone()),
            }
        }
        let plain_ns: u64 = counted.iter().map(|profile| profile.profiled.plain_ns).sum();
        Some(Self { nodes, plain_ms: plain_ns as f64 / 1e6 / counted.len() as f64 })
    }
}
