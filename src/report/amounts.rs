//! Amounts of what a search limits: what they are of, how they are shown, and how much of it a network needs.

use fleetfoot_predictor::CostMatrix;
use fleetfoot_profiler::Cost;
use fleetfoot_space::{Architecture, SearchSpace};
use serde::{Deserialize, Serialize};

use super::facts::Format;

/// What amounts are of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantity {
    /// Such as `latency`, `latency on pixel1`, `multiply-accumulates`, `weighted mean of latency over target`.
    pub name: String,
    /// `ms`, `MiB`, `mJ`, `MACs`, `params`, `of target`; may be empty.
    pub unit: String,
}

impl Quantity {
    /// Of a table of this cost.
    pub fn of_cost(cost: Cost) -> Self {
        Self { name: cost.to_string(), unit: cost.unit().to_owned() }
    }

    /// Whether amounts are latencies, of whatever device.
    pub fn is_latency(&self) -> bool {
        self.unit == Cost::Latency.unit()
    }

    /// Whether amounts are counted from the network, rather than predicted by a table.
    pub fn is_counted(&self) -> bool {
        matches!(self.unit.as_str(), "MACs" | "params") || self.name == "memory of weights and activations"
    }

    /// Whether the unit behind an amount doesn't tell what it is of, or on which device.
    pub fn needs_a_name(&self) -> bool {
        let costs = [Cost::Latency, Cost::Memory, Cost::Energy].map(|cost| cost.to_string());
        !matches!(self.unit.as_str(), "MACs" | "params") && !costs.contains(&self.name)
    }

    /// What amounts are divided by where they are shown, and the unit of what comes out.
    fn shown(&self) -> (f64, &str) {
        match self.unit.as_str() {
            "MACs" => (1e6, "M MACs"),
            "params" => (1e3, "k parameters"),
            // It has no unit; the name says it.
            "of target" => (1.0, ""),
            unit => (1.0, unit),
        }
    }

    /// The name with the unit, for axes and heads of columns.
    pub fn label(&self) -> String {
        match self.shown() {
            (_, "") => self.name.clone(),
            (_, "M MACs") => format!("{} (M)", self.name),
            (_, "k parameters") => format!("{} (k)", self.name),
            (_, unit) => format!("{} ({unit})", self.name),
        }
    }

    /// What stands behind an amount in a sentence: the unit with a space in front.
    pub fn behind(&self) -> String {
        match self.shown() {
            (_, "") => String::new(),
            (_, unit) => format!(" {unit}"),
        }
    }

    /// How an amount is shown, with at least so many significant digits.
    pub fn format(&self, digits: usize) -> Format {
        let (by, _) = self.shown();
        if by > 1.0 { Format::Scaled { by, digits } } else { Format::Significant(digits) }
    }

    /// An amount as it is drawn along an axis with this label.
    pub fn drawn(&self, amount: f64) -> f64 {
        amount / self.shown().0
    }
}

/// What every network of a space needs of something.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Demand {
    /// A constant and one amount a decision, which add up.
    Sum(CostMatrix),
    /// Weights add up; of the units' working memory, the largest counts.
    Memory {
        /// Weights.
        weights: CostMatrix,
        /// Working memory.
        working: CostMatrix,
    },
}

impl Demand {
    /// Whether there is an amount for each candidate of each decision.
    pub fn fits(&self, space: &SearchSpace) -> bool {
        let fits = |costs: &CostMatrix| {
            let sizes = costs.rows.iter().map(Vec::len);
            sizes.eq(space.decisions().iter().map(|decision| decision.candidates.len()))
        };
        match self {
            Self::Sum(costs) => fits(costs),
            Self::Memory { weights, working } => fits(weights) && fits(working),
        }
    }

    /// What a network of a space that it [fits](Self::fits) needs.
    pub fn of(&self, architecture: &Architecture) -> f64 {
        let chosen = |costs: &CostMatrix, join: fn(f64, f64) -> f64| {
            let amounts = costs.rows.iter().zip(architecture.choices()).map(|(row, choice)| row[choice]);
            amounts.fold(costs.constant_ms, join)
        };
        match self {
            Self::Sum(costs) => chosen(costs, |a, b| a + b),
            Self::Memory { weights, working } => chosen(weights, |a, b| a + b) + chosen(working, f64::max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantity(name: &str, unit: &str) -> Quantity {
        Quantity { name: name.to_owned(), unit: unit.to_owned() }
    }

    #[test]
    fn counts_are_shown_in_millions_and_thousands_and_ratios_without_a_unit() {
        let macs = quantity("multiply-accumulates", "MACs");
        assert_eq!((macs.label().as_str(), macs.behind().as_str()), ("multiply-accumulates (M)", " M MACs"));
        assert_eq!(macs.drawn(4.5e6), 4.5);
        assert_eq!(quantity("parameters", "params").label(), "parameters (k)");
        assert_eq!(quantity("latency on pixel1", "ms").label(), "latency on pixel1 (ms)");
        let mean = quantity("weighted mean of latency over target", "of target");
        assert_eq!((mean.label().as_str(), mean.behind().as_str()), ("weighted mean of latency over target", ""));
    }

    #[test]
    fn weights_add_up_and_of_the_working_memory_the_largest_counts() {
        let costs = |constant_ms, rows| CostMatrix { constant_ms, rows };
        let weights = costs(5.0, vec![vec![1.0, 4.0], vec![2.0, 3.0]]);
        let working = costs(10.0, vec![vec![30.0, 8.0], vec![11.0, 25.0]]);
        let network = Architecture::new(vec![1, 0]).unwrap();
        assert_eq!(Demand::Sum(weights.clone()).of(&network), 11.0);
        assert_eq!(Demand::Memory { weights, working }.of(&network), 11.0 + 11.0);
    }
}
