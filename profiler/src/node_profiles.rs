//! What the runtime's own profile says of whole networks, node by node.

use std::collections::BTreeSet;

use fleetfoot_protocol::{NodeTime, Profiled};
use serde::{Deserialize, Serialize};

use crate::conditions::Provenance;
use crate::pace::{HARMFUL, contended, most_alone};
use crate::statistics::median;

/// The profile of one network in one process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeProfile {
    /// The subject's number.
    pub subject: u32,
    /// The process, from 0: where its memory lies, and what was slow then, is in all of its profiles. A run that was gone on with
    /// has made two of one of them.
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

/// Which of the profiles were taken while somebody else was on the core's units, by the contention in them and in the visits of the
/// same campaign, unless networks took as long as without.
pub(crate) fn shared(profiles: &[NodeProfile], visits: &[f64]) -> Vec<bool> {
    let contention: Vec<f64> = profiles.iter().map(NodeProfile::contention).collect();
    let most = most_alone(&[contention.as_slice(), visits].concat());
    // What isn't known is no reproach.
    let shared: Vec<bool> = contention.iter().map(|contention| *contention > most).collect();
    let plain = |wanted: bool, subject: u32| {
        let of = profiles.iter().zip(&shared).filter(move |(profile, shared)| {
            profile.subject == subject && **shared == wanted && profile.profiled.plain_ns > 0
        });
        median(of.map(|(profile, _)| (profile.profiled.plain_ns as f64).ln()))
    };
    let subjects: BTreeSet<u32> = profiles.iter().map(|profile| profile.subject).collect();
    let slower = subjects.into_iter().filter_map(|subject| Some(plain(true, subject)? - plain(false, subject)?));
    if median(slower).is_some_and(|slower| slower <= HARMFUL) { vec![false; profiles.len()] } else { shared }
}

/// How many node profiles a table rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProfilesCounted {
    /// Profiles.
    pub taken: usize,
    /// Those that don't count, since somebody else was on the core's units.
    pub left_aside: usize,
    /// Networks of which there is no other.
    pub networks_shared: usize,
}

impl ProfilesCounted {
    pub(crate) fn of(profiles: &[NodeProfile], visits: &[f64]) -> Self {
        let shared = shared(profiles, visits);
        let of = |wanted: bool| -> BTreeSet<u32> {
            profiles
                .iter()
                .zip(&shared)
                .filter(|(_, shared)| **shared == wanted)
                .map(|(known, _)| known.subject)
                .collect()
        };
        let networks_shared = of(true).difference(&of(false)).count();
        let left_aside = shared.iter().filter(|shared| **shared).count() - networks_shared;
        Self { taken: profiles.len(), left_aside, networks_shared }
    }

    /// Writes it down.
    pub fn to_provenance(&self, provenance: &mut Provenance) {
        let Self { taken, left_aside, networks_shared } = self;
        let text = format!("{taken}, {left_aside} left aside, {networks_shared} counted though the core was shared");
        provenance.set("node_profiles", text);
    }
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
    /// Of those of a subject's profiles that aren't `shared`, else of the least disturbed one; `None` where there is none.
    pub(crate) fn of(profiles: &[NodeProfile], shared: &[bool], subject: usize) -> Option<Self> {
        let ours = || profiles.iter().zip(shared).filter(|(profile, _)| profile.subject as usize == subject);
        let mut counted: Vec<&NodeProfile> =
            ours().filter(|(_, shared)| !**shared).map(|(profile, _)| profile).collect();
        if counted.is_empty() {
            let least = ours().map(|(profile, _)| profile).min_by(|a, b| a.contention().total_cmp(&b.contention()));
            counted.extend(least);
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
