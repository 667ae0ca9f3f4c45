//! What a network may cost, as people type it.

use std::fmt;
use std::str::FromStr;

use crate::cost::Cost;
use crate::latency::Latency;

/// An amount of a cost with its unit: 0.25ms, 250us, 0.02s; 3.5MiB, 900KiB; 12mJ, 300uJ; or a throughput in images a
/// second: 4000/s.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    amount: f64,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Of(Cost),
    Throughput,
}

/// A text that is no budget.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "'{0}' is no budget: wanted a number above 0 with its unit, such as 0.25ms, 250us or 0.02s; 4000/s; 3.5MiB; 12mJ"
)]
pub struct BudgetParseError(String);

/// A budget of something else than a table's cost.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{budget} is {is}, but the table is of {wanted}: give a budget in {unit}", unit = wanted.unit())]
pub struct BudgetError {
    budget: Budget,
    is: String,
    wanted: Cost,
}

/// Units, longer ones in front of those that they end with: what they are of, and how many of the cost's own unit they are.
const UNITS: [(&str, Kind, f64); 12] = [
    ("/s", Kind::Throughput, 1.0),
    ("ms", Kind::Of(Cost::Latency), 1.0),
    ("us", Kind::Of(Cost::Latency), 1e-3),
    ("µs", Kind::Of(Cost::Latency), 1e-3),
    ("s", Kind::Of(Cost::Latency), 1e3),
    ("GiB", Kind::Of(Cost::Memory), 1024.0),
    ("MiB", Kind::Of(Cost::Memory), 1.0),
    ("KiB", Kind::Of(Cost::Memory), 1.0 / 1024.0),
    ("mJ", Kind::Of(Cost::Energy), 1.0),
    ("uJ", Kind::Of(Cost::Energy), 1e-3),
    ("µJ", Kind::Of(Cost::Energy), 1e-3),
    ("J", Kind::Of(Cost::Energy), 1e3),
];

impl Budget {
    /// As an amount of a table's cost, whose networks compute so many images at a time. Of `n` images at a time, `x` images a
    /// second are `1000 n / x` ms.
    pub fn amount(self, cost: Cost, batch: usize) -> Result<Latency, BudgetError> {
        let amount = match (self.kind, cost) {
            (Kind::Throughput, Cost::Latency) => 1000.0 * batch as f64 / self.amount,
            (Kind::Of(own), _) if own == cost => self.amount,
            (Kind::Throughput, _) => return Err(self.misfit("a throughput".to_owned(), cost)),
            (Kind::Of(own), _) => return Err(self.misfit(format!("a {own}"), cost)),
        };
        // A throughput next to nothing is more time than there is.
        Latency::from_ms(amount).map_err(|_| self.misfit("beyond all numbers".to_owned(), cost))
    }

    fn misfit(self, is: String, wanted: Cost) -> BudgetError {
        BudgetError { budget: self, is, wanted }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Of(cost) => write!(f, "{} {}", self.amount, cost.unit()),
            Kind::Throughput => write!(f, "{}/s", self.amount),
        }
    }
}

impl FromStr for Budget {
    type Err = BudgetParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let split = UNITS.iter().find_map(|(unit, kind, scale)| Some((text.strip_suffix(unit)?, *kind, scale)));
        let amount = split.and_then(|(number, kind, scale)| Some((number.trim().parse::<f64>().ok()? * scale, kind)));
        let fits = |amount: f64| amount.is_finite() && amount > 0.0;
        let budget = amount.filter(|(amount, _)| fits(*amount)).map(|(amount, kind)| Self { amount, kind });
        budget.ok_or_else(|| BudgetParseError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_need_a_unit_and_fit_a_table_of_theirs() {
        let amount = |text: &str, cost, batch| text.parse::<Budget>().unwrap().amount(cost, batch).map(Latency::ms);
        for (text, ms) in [("0.25ms", 0.25), ("250us", 0.25), ("250 µs", 0.25), ("0.02s", 20.0)] {
            assert!((amount(text, Cost::Latency, 1).unwrap() - ms).abs() < 1e-12);
        }
        assert_eq!(amount("4000/s", Cost::Latency, 8), Ok(2.0));
        assert_eq!((amount("512KiB", Cost::Memory, 1), amount("0.5 J", Cost::Energy, 1)), (Ok(0.5), Ok(500.0)));
        let error = amount("3ms", Cost::Memory, 1).unwrap_err().to_string();
        assert_eq!(error, "3 ms is a latency, but the table is of memory: give a budget in MiB");
        assert!(amount("10/s", Cost::Energy, 1).is_err());
        for text in ["0.25", "fast", "-1ms", "0ms", "NaNms", "infms", "", "3MB", "/s", "0/s"] {
            assert!(text.parse::<Budget>().is_err(), "{text}");
        }
    }
}
