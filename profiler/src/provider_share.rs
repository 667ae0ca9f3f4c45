//! How much of what is measured really runs on the device's execution provider.

use std::collections::BTreeSet;

use fleetfoot_protocol::{Fallback, Placement};

use crate::agent::{Agent, AgentError};
use crate::conditions::Provenance;
use crate::device::DeviceConfig;
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
        let placements = subjects.iter().map(|Subject { name, onnx, .. }| {
            let placement = agent.place(onnx);
            let placement = placement.map_err(|source| PlacementError::Agent { subject: name.clone(), source })?;
            Ok((name.as_str(), placement))
        });
        let placements = placements.collect::<Result<Vec<_>, PlacementError>>()?;
        Self::permitted(agent.device(), &placements)
    }

    /// What placements of models, by name, are together; an error where the device's configuration doesn't allow them.
    pub fn permitted(device: &DeviceConfig, placed: &[(&str, Placement)]) -> Result<Option<Self>, PlacementError> {
        let name = || device.name.clone();
        let elsewhere = placed.iter().find(|(_, placement)| placement.elsewhere().next().is_some());
        if let (Fallback::Forbid, Some((subject, placement))) = (device.fallback, elsewhere) {
            let (subject, placement) = ((*subject).to_owned(), placement.clone());
            return Err(PlacementError::Elsewhere { device: name(), subject, placement });
        }
        let placements: Vec<&Placement> = placed.iter().map(|(_, placement)| placement).collect();
        match placements.first() {
            Some(Placement { wanted, .. }) if placements.iter().all(|placement| placement.nodes_percent() == 0.0) => {
                Err(PlacementError::Nothing { device: name(), wanted: wanted.clone() })
            }
            None => Ok(None),
            Some(_) => Ok(Some(Self::of_placements(&placements))),
        }
    }

    fn of_placements(placements: &[&Placement]) -> Self {
        let share = |percent: fn(&Placement) -> f64| {
            let percents = placements.iter().map(|placement| percent(placement));
            let mean = percents.clone().sum::<f64>() / placements.len().max(1) as f64;
            Share { mean, least: percents.fold(100.0, f64::min) }
        };
        let elsewhere = placements.iter().flat_map(|placement| placement.elsewhere());
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

    fn placement(placed: &[(&str, &str, u64, u64)]) -> Placement {
        let placed = placed.iter().map(|&(provider, operator, nodes, time_us)| Placed {
            provider: provider.to_owned(),
            operator: operator.to_owned(),
            nodes,
            time_us,
        });
        Placement { wanted: "X".to_owned(), placed: placed.collect() }
    }

    fn permitted(fallback: Fallback, placed: &[Placement]) -> Result<Option<ProviderShare>, PlacementError> {
        let device = DeviceConfig { fallback, ..DeviceConfig::load("mock").unwrap() };
        let placed: Vec<(&str, Placement)> = placed.iter().map(|placement| ("unit", placement.clone())).collect();
        ProviderShare::permitted(&device, &placed)
    }

    #[test]
    fn shares_are_means_over_models_and_what_ran_elsewhere_is_named() {
        let placed = [placement(&[("X", "Conv", 3, 90), ("CPU", "Add", 1, 10)]), placement(&[("X", "Conv", 1, 5)])];
        let mut provenance = Provenance::default();
        permitted(Fallback::Allow, &placed).unwrap().unwrap().to_provenance(&mut provenance);
        let wanted = "# provider_nodes_percent: 87.5\n# provider_nodes_percent_least: 75.0\n\
                      # provider_time_percent: 95.0\n# provider_time_percent_least: 90.0\n# elsewhere: Add on CPU\n";
        assert_eq!(provenance.to_head(), wanted);
    }

    #[test]
    fn a_single_node_elsewhere_is_refused_unless_it_is_allowed() {
        let placed = [placement(&[("X", "Conv", 1, 5)]), placement(&[("X", "Conv", 3, 90), ("CPU", "Add", 1, 10)])];
        let refusal = permitted(Fallback::Forbid, &placed).unwrap_err().to_string();
        assert!(
            refusal.contains("75.0 %") && refusal.contains("1 Add on CPU") && refusal.contains("fallback"),
            "{refusal}"
        );
        assert!(permitted(Fallback::Forbid, &placed[..1]).is_ok());
    }

    #[test]
    fn where_nothing_runs_on_the_provider_nothing_is_measured() {
        let placed = [placement(&[("CPU", "Conv", 3, 90)]), placement(&[("CPU", "Add", 1, 5)])];
        let refusal = permitted(Fallback::Allow, &placed).unwrap_err().to_string();
        assert!(refusal.contains("nothing runs on the provider X"), "{refusal}");
    }
}
