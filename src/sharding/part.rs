//! What one of several measured, and what all of them together did.

use anyhow::{Context as _, Result};
use fleetfoot_profiler::{Conditions, Measurement, NodeProfile, Provenance};
use serde::{Deserialize, Serialize};

use super::alike::check_alike;
use super::heads;
use crate::measuring::{DISTURBED, Disturbed, WARMUP_RUNS, range};

/// Name of how far what several measured differs.
pub const REFERENCES_APART: &str = "references_apart_percent";

/// What to do with shards that aren't of identical devices.
pub const REMEDY: &str = "measure all shards again on devices that are";

/// What one device, or one shard, has measured of a whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Whose it is, for people.
    #[serde(skip)]
    pub name: String,
    /// Positions of its subjects among all.
    pub positions: Vec<usize>,
    /// Under which conditions.
    pub conditions: Conditions,
    /// What would stand in the head of its file.
    pub head: Provenance,
    /// Of its subjects.
    pub measured: Vec<Measurement>,
    /// Untimed runs in front of every visit, the fewest and the most.
    pub leads: (u32, u32),
    /// What disturbances did.
    pub disturbed: Disturbed,
    /// Its networks' node profiles, by their positions among all subjects.
    pub profiles: Vec<NodeProfile>,
    /// How much contention there was at every visit.
    pub contention: Vec<f64>,
}

/// What several measured together.
#[derive(Clone, Debug)]
pub struct Whole {
    /// Of every subject.
    pub measured: Vec<Measurement>,
    /// The head of the file.
    pub head: Provenance,
    /// Node profiles.
    pub profiles: Vec<NodeProfile>,
    /// Contention at every visit.
    pub contention: Vec<f64>,
    /// By how much what all of them measured differs, the most, as a share.
    pub apart: f64,
    /// Whether anything in their heads differs.
    pub differ: bool,
}

impl Part {
    /// What it says of the subject at this position among all.
    pub fn of(&self, position: usize) -> Option<&Measurement> {
        let own = self.positions.iter().position(|known| *known == position)?;
        self.measured.get(own)
    }
}

impl Whole {
    /// Of parts that belong together; `names` are those of all subjects. What several of them measured counts once, from the first of
    /// them. `remedy` ends the sentence "… aren't identical: …".
    pub fn of(parts: &[Part], names: &[&str], common: usize, remedy: &str) -> Result<Self> {
        let apart = check_alike(parts, names, common, remedy)?;
        // For each subject the first part that has it.
        let owners = names.iter().enumerate().map(|(position, name)| {
            let owner = parts.iter().position(|part| part.of(position).is_some());
            owner.with_context(|| format!("nobody measured {name}"))
        });
        let owners = owners.collect::<Result<Vec<usize>>>()?;
        let measured: Vec<Measurement> =
            owners.iter().enumerate().filter_map(|(position, owner)| parts[*owner].of(position)).copied().collect();
        let own = |(index, part): (usize, &Part)| {
            let is_own = |profile: &&NodeProfile| owners.get(profile.subject as usize) == Some(&index);
            part.profiles.iter().filter(is_own).cloned().collect::<Vec<_>>()
        };
        let mut profiles: Vec<NodeProfile> = parts.iter().enumerate().flat_map(own).collect();
        // In the order in which one device would have taken them.
        profiles.sort_by_key(|profile| (profile.process, profile.subject));
        let (mut head, differ) = heads::together(&parts.iter().map(|part| &part.head).collect::<Vec<_>>());
        if head.get(WARMUP_RUNS).is_some() {
            let leads = parts.iter().map(|part| part.leads);
            let leads = leads.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).unwrap_or_default();
            head.set(WARMUP_RUNS, range(leads));
        }
        if head.get(DISTURBED[0]).is_some() {
            let windows = parts.iter().map(|part| part.disturbed.windows).sum();
            let never_quiet = parts.iter().map(|part| part.disturbed.never_quiet).sum::<usize>().min(names.len());
            Disturbed { windows, never_quiet }.to_provenance(&measured, &mut head);
        }
        let contention = parts.iter().flat_map(|part| part.contention.iter().copied()).collect();
        Ok(Self { measured, head, profiles, contention, apart, differ })
    }

    /// Says of how many shards it is, where any of these tells itself from the others.
    pub fn tell_shards(&mut self, shards: usize) {
        if self.differ || self.apart > 0.0 {
            self.head.set("shards", shards);
            self.head.set(REFERENCES_APART, format!("{:.2}", 100.0 * self.apart));
        }
    }
}
