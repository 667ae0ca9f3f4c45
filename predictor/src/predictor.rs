//! Latencies of networks from costs of units.

use std::fmt;
use std::path::{Path, PathBuf};

use fleetfoot_profiler::{Conditions, Differences, Latency, LatencyTable, TableError};
use fleetfoot_space::{Network, Operator, OperatorKey, Precision, SearchSpace};

use crate::cost::{CostError, CostMatrix};
use crate::import::lookup_keys;
use crate::regression::{Regression, RegressionError};

/// Where a cost comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A row of the table.
    Measured,
    /// The regression: the unit was never measured.
    Regression,
    /// Nothing is computed, so nothing is paid.
    Nothing,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Measured => "measured",
            Self::Regression => "regression",
            Self::Nothing => "nothing",
        })
    }
}

/// A cost with its 99 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The cost.
    pub latency: Latency,
    /// Lower end of the interval.
    pub low: Latency,
    /// Upper end of the interval.
    pub high: Latency,
    /// Where it comes from.
    pub source: Source,
}

/// A unit's share of a network's latency.
#[derive(Clone, Debug, PartialEq)]
pub struct UnitCost {
    /// The unit's place.
    pub name: String,
    /// The unit.
    pub key: OperatorKey,
    /// Its cost.
    pub estimate: Estimate,
}

/// A network's latency.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// The latency.
    pub latency: Latency,
    /// Lower end of its 99 % interval.
    pub low: Latency,
    /// Upper end of its 99 % interval.
    pub high: Latency,
    /// The empty graph's share.
    pub overhead: Latency,
    /// The units' shares.
    pub units: Vec<UnitCost>,
}

/// A latency that can't be predicted.
#[derive(Debug, thiserror::Error)]
pub enum PredictError {
    /// A unit that was never measured, and no regression is to stand in.
    #[error(
        "no row for {key}{place}{made_for}: measure it with `fleetfoot profile {options} -o NEW.csv`, or pass --estimate to have it estimated by regression"
    )]
    Unknown {
        /// The unit.
        key: Box<OperatorKey>,
        /// Where it stands.
        place: String,
        /// What the table was made for.
        made_for: String,
        /// Options of the command that would measure it.
        options: String,
    },
    /// The regression can't tell.
    #[error(transparent)]
    Regression(#[from] RegressionError),
}

/// Evidence that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// The table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The regression.
    #[error(transparent)]
    Regression(#[from] RegressionError),
    /// Table and model don't belong together.
    #[error("the model {model} was fitted under other conditions than the table's: {differences}", model = model.display())]
    Conditions {
        /// The model's file.
        model: PathBuf,
        /// What differs.
        differences: Differences,
    },
}

/// Predicts what units and networks cost.
pub trait Predictor {
    /// What the call of a network costs whatever it computes.
    fn overhead(&self) -> Latency;

    /// A unit's cost.
    fn unit(&self, key: &OperatorKey) -> Result<Estimate, PredictError>;

    /// A network's latency: the overhead plus its units' costs. Measured rows share the drift of their measurement,
    /// so that their intervals add up; the regression's errors are independent, so that their squares do.
    fn network(&self, network: &Network) -> Result<Prediction, PredictError> {
        let mut units = Vec::with_capacity(network.units().len());
        for unit in network.units() {
            let estimate = self.unit(&unit.key).map_err(|error| match error {
                PredictError::Unknown { key, made_for, options, .. } => {
                    PredictError::Unknown { key, place: format!(" (unit {})", unit.name), made_for, options }
                }
                other => other,
            })?;
            units.push(UnitCost { name: unit.name.clone(), key: unit.key, estimate });
        }
        let overhead = self.overhead();
        let total = overhead.ms() + units.iter().map(|unit| unit.estimate.latency.ms()).sum::<f64>();
        let side = |end: fn(&Estimate) -> f64| {
            let distances = |source: Source| {
                let from = units.iter().filter(move |unit| unit.estimate.source == source);
                from.map(|unit| end(&unit.estimate))
            };
            let regression = distances(Source::Regression).map(|distance| distance * distance).sum::<f64>().sqrt();
            distances(Source::Measured).sum::<f64>() + regression
        };
        let latency = |ms: f64| Latency::from_ms(ms.max(0.0)).unwrap_or_default();
        Ok(Prediction {
            latency: latency(total),
            low: latency(total - side(|e| e.latency.ms() - e.low.ms())),
            high: latency(total + side(|e| e.high.ms() - e.latency.ms())),
            overhead,
            units,
        })
    }
}

/// Looks units up in a table; a regression may stand in for those that it hasn't.
#[derive(Clone, Debug)]
pub struct TablePredictor {
    table: LatencyTable,
    regression: Option<Regression>,
    space: Option<String>,
}

impl TablePredictor {
    /// Without a regression an unknown unit is an error.
    pub fn new(table: LatencyTable, regression: Option<Regression>) -> Self {
        Self { table, regression, space: None }
    }

    /// Names the space that is asked about, a preset's name or a file, in the command that an error tells.
    pub fn for_space(mut self, space: &str) -> Self {
        self.space = Some(space.to_owned());
        self
    }

    /// The units of a space that the table hasn't.
    pub fn unmeasured(&self, space: &SearchSpace) -> Vec<OperatorKey> {
        let units = space.distinct_units(self.table.batch(), self.table.precision()).into_iter();
        units.filter(|key| self.table.get(key).is_none()).collect()
    }

    /// Reads a table and, where estimates are wanted, a regression: the one in the file `model`, else one that is
    /// fitted to the table on the spot. Warnings are for people.
    pub fn read(table: &Path, model: Option<&Path>, estimate: bool) -> Result<(Self, Vec<String>), EvidenceError> {
        let (table, warnings) = LatencyTable::read(table)?;
        let regression = match model {
            Some(path) => {
                let model = Regression::read(path)?;
                if let (Some(ours), Some(theirs)) =
                    (table.conditions(), Conditions::from_provenance(model.provenance()))
                {
                    ours.compatible(&theirs)
                        .map_err(|differences| EvidenceError::Conditions { model: path.to_path_buf(), differences })?;
                }
                Some(model)
            }
            None if estimate => Some(Regression::fit(&table, 0)?),
            None => None,
        };
        Ok((Self::new(table, regression), warnings))
    }

    /// The table.
    pub fn table(&self) -> &LatencyTable {
        &self.table
    }

    /// The regression.
    pub fn regression(&self) -> Option<&Regression> {
        self.regression.as_ref()
    }
}

impl Predictor for TablePredictor {
    fn overhead(&self) -> Latency {
        self.table.overhead()
    }

    fn unit(&self, key: &OperatorKey) -> Result<Estimate, PredictError> {
        if key.operator == Operator::Zero {
            let none = Latency::ZERO;
            return Ok(Estimate { latency: none, low: none, high: none, source: Source::Nothing });
        }
        if let Some(row) = self.table.get(key) {
            return Ok(Estimate { latency: row.latency, low: row.low, high: row.high, source: Source::Measured });
        }
        let Some(regression) = &self.regression else {
            let space = self.table.provenance.get("space");
            let made_for = space.map(|space| format!(" in the table, which was made for space {space}"));
            let mut made_for = made_for.unwrap_or_else(|| " in the table".to_owned());
            if let Some(origin) = self.table.provenance.get("imported_from") {
                let keys = lookup_keys(key);
                let named =
                    if keys.is_empty() { String::new() } else { format!(": it has no {}", keys.join(" and no ")) };
                made_for = format!(" in the table, which was imported from {origin}{named}");
            }
            let device = self.table.provenance.get("device").unwrap_or("DEVICE");
            let batch = if key.input.n == 1 { String::new() } else { format!(" --batch {}", key.input.n) };
            let options = format!("--space {} --device {device}{batch}", self.space.as_deref().unwrap_or("SPACE"));
            return Err(PredictError::Unknown { key: Box::new(*key), place: String::new(), made_for, options });
        };
        let (latency, low, high) = regression.predict(key)?;
        Ok(Estimate { latency, low, high, source: Source::Regression })
    }
}

/// A cost matrix that can't be made.
#[derive(Debug, thiserror::Error)]
pub enum CostModelError {
    /// A unit's cost isn't known.
    #[error(transparent)]
    Predict(#[from] PredictError),
    /// A cost is no cost.
    #[error(transparent)]
    Cost(#[from] CostError),
}

/// The cost matrix of a space at a batch size in a precision: constant part, and one cost per decision and candidate.
pub fn cost_matrix(
    space: &SearchSpace,
    predictor: &impl Predictor,
    batch: usize,
    precision: Precision,
) -> Result<CostMatrix, CostModelError> {
    CostMatrix::of_units(space, (batch, precision), predictor.overhead().ms(), |key| {
        Ok(predictor.unit(key).map(|estimate| estimate.latency.ms())?)
    })
}
