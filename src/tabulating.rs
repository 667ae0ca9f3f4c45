//! What a latency table is made from in each context: units alone, or whole networks and their node profiles.

use anyhow::{Result, bail};
use fleetfoot_console::say;
use fleetfoot_profiler::{
    Attribution, Context, Cost, Latency, LatencyTable, Measurement, NetworkCampaign, NodeProfile, Plan, Provenance,
    Row, Subject, UnitCampaign,
};
use fleetfoot_space::{Precision, SearchSpace};

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

    /// The plan by which it is measured. A unit's cost rests on a dozen networks: each of them may be known half as well, as
    /// --half-width says.
    pub fn planned(&self, plan: Plan) -> Plan {
        match self {
            Self::Alone(_) => plan,
            Self::Networks(..) => Plan { half_width: 2.0 * plan.half_width, ..plan },
        }
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
    pub fn profiled(&self) -> Option<&NetworkCampaign> {
        match self {
            Self::Networks(networks, Cost::Latency | Cost::Energy) => Some(networks),
            Self::Networks(_, Cost::Memory) | Self::Alone(_) => None,
        }
    }

    /// The empty graph's time and the units' rows. Networks take their node profiles, and the contention of the visits
    /// ([`Campaign::contention`](fleetfoot_profiler::Campaign::contention)); how many of the profiles count is written down.
    pub fn rows(
        &self,
        measured: &[Measurement],
        (profiles, contention): (&[NodeProfile], &[f64]),
        provenance: &mut Provenance,
    ) -> Result<(Latency, Vec<Row>)> {
        let (networks, attribution) = match self {
            Self::Alone(units) => return Ok(units.rows(measured)),
            Self::Networks(networks, Cost::Memory) => (networks, Attribution::Weights),
            Self::Networks(networks, Cost::Energy) => (networks, Attribution::Energy(profiles)),
            Self::Networks(networks, Cost::Latency) => (networks, Attribution::Time(profiles, contention)),
        };
        if let Some(counted) = attribution.counted() {
            counted.to_provenance(provenance);
            if counted.networks_shared > 0 {
                say(format!(
                    "of {} networks there is no node profile from a time when the core was alone: how their time is divided \
                     is less certain than the rows' intervals say",
                    counted.networks_shared
                ));
            }
        }
        Ok(networks.rows(measured, attribution)?)
    }
}
