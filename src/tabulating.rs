//! What a latency table is made from in each context: units alone, or whole networks and their node profiles.

use std::path::Path;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result, bail};
use fleetfoot_console::{Progress, stop_flag};
use fleetfoot_profiler::{
    Agent, Attribution, Conditions, Context, Cost, Latency, LatencyTable, Measurement, NetworkCampaign, NodeProfiles,
    Plan, Row, Subject, UnitCampaign,
};
use fleetfoot_space::{Precision, SearchSpace};

use crate::measuring::nodes_of;

/// What has to be measured, and what becomes of it.
pub enum Work {
    /// Every unit alone.
    Alone(UnitCampaign),
    /// The networks of a design, for their cost.
    Networks(NetworkCampaign, Cost),
}

impl Work {
    /// For the table of a space in a context.
    pub fn new(space: &SearchSpace, batch: usize, precision: Precision, context: Context, cost: Cost) -> Result<Self> {
        Ok(match (context, cost) {
            (Context::Network, _) => Self::Networks(NetworkCampaign::new(space, batch, precision)?, cost),
            (_, Cost::Latency) => Self::Alone(UnitCampaign::new(space, batch, precision, context)?),
            (_, Cost::Memory | Cost::Energy) => {
                bail!("{cost} is one of whole networks: its table is measured in context network, not {context}")
            }
        })
    }

    /// What has to be measured.
    pub fn subjects(&self) -> &[Subject] {
        match self {
            Self::Alone(units) => units.subjects(),
            Self::Networks(networks, _) => networks.subjects(),
        }
    }

    /// Number of units.
    pub fn units(&self) -> usize {
        match self {
            Self::Alone(units) => units.units(),
            Self::Networks(networks, _) => networks.units(),
        }
    }

    /// Multiply-accumulate operations and evicted bytes of every subject.
    pub fn sizes(&self) -> Vec<(u64, u64)> {
        match self {
            Self::Alone(units) => units.sizes(),
            Self::Networks(networks, _) => networks.sizes(),
        }
    }

    /// Subjects that tell the speed at which a table in this context was measured.
    pub fn references(&self, table: &LatencyTable, count: usize) -> Vec<Subject> {
        match self {
            Self::Alone(units) => units.references(table, count),
            Self::Networks(networks, _) => networks.references(table, count),
        }
    }

    /// The networks, where node profiles say how their cost is divided.
    fn profiled(&self) -> Option<&NetworkCampaign> {
        match self {
            Self::Networks(networks, Cost::Latency | Cost::Energy) => Some(networks),
            Self::Networks(_, Cost::Memory) | Self::Alone(_) => None,
        }
    }

    /// The node profiles that networks need, kept beside the table before anything else is measured. Those of an earlier run
    /// are used again by `resume` and replaced by `force`.
    pub fn profiles(&self, agent: &mut Agent, table: &Path, resume: bool, force: bool) -> Result<Option<NodeProfiles>> {
        let Some(networks) = self.profiled() else { return Ok(None) };
        let path = nodes_of(table);
        if path.exists() && !force {
            if !resume {
                bail!("{} exists: go on with it by --resume, or measure anew with --force", path.display());
            }
            let conditions = agent.conditions(Context::Network, &Plan::default());
            let models = Subject::digest(networks.subjects());
            return Ok(Some(NodeProfiles::read(&path, &models, &conditions)?));
        }
        let stop = stop_flag()?;
        let bar = Progress::new(0, 0, "profiles")?;
        bar.set_message("node profiles".to_owned());
        let profiles = networks.profile(agent, |done, all| {
            bar.set_total(all);
            bar.set(done);
            !stop.load(Ordering::Relaxed)
        })?;
        bar.finish();
        let profiles = profiles.context("interrupted; nothing is measured yet")?;
        profiles.write(&path)?;
        Ok(Some(profiles))
    }

    /// The node profiles that lie beside a table, where it rests on some.
    pub fn kept_profiles(&self, table: &Path, models: &str, conditions: &Conditions) -> Result<Option<NodeProfiles>> {
        let read = |_| NodeProfiles::read(&nodes_of(table), models, conditions);
        Ok(self.profiled().map(read).transpose()?)
    }

    /// The empty graph's time and the units' rows.
    pub fn rows(&self, measured: &[Measurement], profiles: Option<&NodeProfiles>) -> Result<(Latency, Vec<Row>)> {
        match (self, profiles) {
            (Self::Alone(units), _) => Ok(units.rows(measured)),
            (Self::Networks(networks, Cost::Memory), _) => Ok(networks.rows(measured, Attribution::Weights)?),
            (Self::Networks(networks, _), Some(profiles)) => Ok(networks.rows(measured, Attribution::Time(profiles))?),
            (Self::Networks(..), None) => bail!("whole networks without their node profiles make no table"),
        }
    }
}
