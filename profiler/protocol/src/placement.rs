//! On which execution providers a model's nodes really ran.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Nodes of one kind that ran on one provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// The provider, as the runtime names it.
    pub provider: String,
    /// The kind of node; what a provider compiles into one has a name that the provider made up.
    pub operator: String,
    /// Number of such nodes.
    pub nodes: u64,
    /// What one run of all of them takes, in microseconds as the runtime's profiler counts them: whole ones, and where a
    /// provider queues its work (GPUs), those of the queueing.
    pub time_us: u64,
}

/// Where a model's nodes ran, as the runtime's profiler tells it: the graph as the runtime rewrote it, in which all that
/// a provider compiled together is one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The provider that was asked for, as the runtime names it.
    pub wanted: String,
    /// All nodes.
    pub placed: Vec<Placed>,
}

impl Placement {
    /// Share of the nodes that ran on the provider, in percent; 100 where there are none.
    pub fn nodes_percent(&self) -> f64 {
        self.percent(|placed| placed.nodes)
    }

    /// Share of the time that was spent on the provider, in percent; that of the nodes where all were too short to be
    /// timed.
    pub fn time_percent(&self) -> f64 {
        let timed = self.placed.iter().any(|placed| placed.time_us > 0);
        if timed { self.percent(|placed| placed.time_us) } else { self.nodes_percent() }
    }

    /// Nodes that ran on another provider.
    pub fn elsewhere(&self) -> impl Iterator<Item = &Placed> {
        self.placed.iter().filter(|placed| placed.provider != self.wanted)
    }

    fn percent(&self, of: impl Fn(&Placed) -> u64) -> f64 {
        let sum = |placed: &mut dyn Iterator<Item = &Placed>| placed.map(|placed| of(placed) as f64).sum::<f64>();
        let (all, elsewhere) = (sum(&mut self.placed.iter()), sum(&mut self.elsewhere()));
        if all > 0.0 { 100.0 * (all - elsewhere) / all } else { 100.0 }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (nodes, time) = (self.nodes_percent(), self.time_percent());
        write!(f, "{nodes:.1} % of the nodes and {time:.1} % of the time on {}", self.wanted)?;
        for (index, Placed { provider, operator, nodes, .. }) in self.elsewhere().enumerate() {
            write!(f, "{}{nodes} {operator} on {provider}", if index == 0 { "; elsewhere: " } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(provider: &str, operator: &str, nodes: u64, time_us: u64) -> Placed {
        Placed { provider: provider.to_owned(), operator: operator.to_owned(), nodes, time_us }
    }

    fn placement(placed: Vec<Placed>) -> Placement {
        Placement { wanted: "GPU".to_owned(), placed }
    }

    #[test]
    fn shares_are_of_all_nodes_and_of_all_time() {
        let mixed = placement(vec![placed("GPU", "Conv", 3, 90), placed("CPU", "Add", 1, 30)]);
        assert_eq!((mixed.nodes_percent(), mixed.time_percent()), (75.0, 75.0));
        let mixed =
            placement(vec![placed("GPU", "Conv", 1, 10), placed("CPU", "Add", 1, 0), placed("CPU", "Det", 2, 30)]);
        assert_eq!((mixed.nodes_percent(), mixed.time_percent()), (25.0, 25.0));
        assert_eq!(mixed.elsewhere().count(), 2);
        assert_eq!(
            mixed.to_string(),
            "25.0 % of the nodes and 25.0 % of the time on GPU; elsewhere: 1 Add on CPU, 2 Det on CPU"
        );
    }

    #[test]
    fn nodes_too_short_to_be_timed_count_as_nodes() {
        let short = placement(vec![placed("GPU", "Identity", 1, 0), placed("CPU", "Identity", 1, 0)]);
        assert_eq!((short.nodes_percent(), short.time_percent()), (50.0, 50.0));
        assert_eq!(placement(Vec::new()).nodes_percent(), 100.0);
    }
}
