//! How much of what is measured really runs on the device's execution provider.

use std::collections::BTreeSet;

use fleetfoot_protocol::{Fallback, Placement};

use crate::agent::{Agent, AgentError};
use crate::conditions::Provenance;
use crate::subject::Subject;

/// What ran on the provider, of several models together and of the one that did so least.
#[derive(Clone, Debug, PartialEq)]
pub struct ProviderShare {
    nodes: Share,
    time: Share,
    /// What ran elsewhere, such as `Add on CPUExecutionProvider`.
    elsewhere: BTreeSet<String>,
}

/// In percent.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Share {
    mean: f64,
    least: f64,
}

/// Models that don't run where they should.
#[derive(Debug, thiserror::Error)]
pub enum PlacementError {
    /// The agent can't tell.
    #[error("{subject}: {source}")]
    Agent {
        /// The model.
        subject: String,
        /// Why.
        source: AgentError,
    },
    /// Some of it runs elsewhere, and that isn't allowed.
    #[error(
        "device '{device}': of {subject}, {placement}. Leave such models out, or allow it with fallback = \"allow\" in the \
         device configuration: then it is measured as it runs, and recorded"
    )]
    Elsewhere {
        /// The device.
        device: String,
        /// The model.
        subject: String,
        /// Where it runs.
        placement: Placement,
    },
    /// All of it runs elsewhere.
    #[error("device '{device}': nothing runs on the provider {wanted}: measure on a device that has another one")]
    Nothing {
        /// The device.
        device: String,
        /// The provider.
        wanted: String,
    },
}

impl ProviderShare {
    /// Asks an agent where its subjects run. `None` for the CPU provider, which is where everything runs that doesn't run
    /// elsewhere. An error where the device's configuration doesn't allow what the answer is.
    pub fn of(agent: &mut Agent, subjects: &[Subject]) -> Result<Option<Self>, PlacementError> {
        if agent.device().provider == "cpu" {
            return Ok(None);
        }
        let (device, fallback) = (agent.device().name.clone(), agent.device().fallback);
        let mut placements = Vec::with_capacity(subjects.len());
        for Subject { name, onnx, .. } in subjects {
            let placement = agent.place(onnx);
            let placement = placement.map_err(|source| PlacementError::Agent { subject: name.clone(), source })?;
            if fallback == Fallback::Forbid && placement.elsewhere().next().is_some() {
                return Err(PlacementError::Elsewhere { device, subject: name.clone(), placement });
            }
            placements.push(placement);
        }
        match placements.first() {
            Some(Placement { wanted, .. }) if placements.iter().all(|placement| placement.nodes_percent() == 0.0) => {
                Err(PlacementError::Nothing { device, wanted: wanted.clone() })
            }
            None => Ok(None),
            Some(_) => Ok(Some(Self::of_placements(&placements))),
        }
    }

    fn of_placements(placements: &[Placement]) -> Self {
        let share = |percent: fn(&Placement) -> f64| {
            let percents = placements.iter().map(percent);
            let mean = percents.clone().sum::<f64>() / placements.len().max(1) as f64;
            Share { mean, least: percents.fold(100.0, f64::min) }
        };
        let elsewhere = placements.iter().flat_map(Placement::elsewhere);
        Self {
            nodes: share(Placement::nodes_percent),
            time: share(Placement::time_percent),
            elsewhere: elsewhere.map(|placed| format!("{} on {}", placed.operator, placed.provider)).collect(),
        }
    }

    /// As lines of a file's head.
    pub fn to_provenance(&self, provenance: &mut Provenance) {
        for (name, Share { mean, least }) in
            [("provider_nodes_percent", self.nodes), ("provider_time_percent", self.time)]
        {
            provenance.set(name, format!("{mean:.1}"));
            provenance.set(&format!("{name}_least"), format!("{least:.1}"));
        }
        if !self.elsewhere.is_empty() {
            let elsewhere: Vec<&str> = self.elsewhere.iter().map(String::as_str).collect();
            provenance.set("elsewhere", elsewhere.join(", "));
        }
    }
}

#[cfg(test)]
mod tests {
    use fleetfoot_protocol::Placed;

    use super::*;

    #[test]
    fn shares_are_means_over_models_and_what_ran_elsewhere_is_named() {
        let placed = |provider: &str, operator: &str, nodes, time_us| Placed {
            provider: provider.to_owned(),
            operator: operator.to_owned(),
            nodes,
            time_us,
        };
        let placement = |placed| Placement { wanted: "X".to_owned(), placed };
        let share = ProviderShare::of_placements(&[
            placement(vec![placed("X", "Conv", 3, 90), placed("CPU", "Add", 1, 10)]),
            placement(vec![placed("X", "Conv", 1, 5)]),
        ]);
        let mut provenance = Provenance::default();
        share.to_provenance(&mut provenance);
        let wanted = "# provider_nodes_percent: 87.5\n# provider_nodes_percent_least: 75.0\n\
                      # provider_time_percent: 95.0\n# provider_time_percent_least: 90.0\n# elsewhere: Add on CPU\n";
        assert_eq!(provenance.to_head(), wanted);
    }
}
