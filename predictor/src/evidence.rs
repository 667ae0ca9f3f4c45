//! What is known of a space's costs before whole networks are measured: a table's rows, other devices' networks.

use std::collections::HashMap;

use fleetfoot_profiler::LatencyTable;
use fleetfoot_space::{OperatorKey, SearchSpace};

use crate::network_model::NetworkModel;
use crate::predictor::{PredictError, Predictor};

/// What each candidate of each decision costs, as a piece of evidence says.
#[derive(Clone, Debug, PartialEq)]
pub struct Costs {
    /// What all networks have in common, in ms.
    pub(crate) constant_ms: f64,
    /// `[decision][candidate]`, in ms.
    pub(crate) rows_ms: Vec<Vec<f64>>,
    /// Standard deviations of the rows, in ms, and which unit each is: equal units are wrong by the same.
    pub(crate) deviations: Option<Deviations>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Deviations {
    pub ms: Vec<Vec<f64>>,
    pub unit: Vec<Vec<usize>>,
    pub units: usize,
}

/// Width of a table's 99 % interval, in standard deviations.
const WIDTH: f64 = 2.0 * 2.576;

impl Costs {
    /// A space's costs as a table has them, or what stands in for units that it hasn't.
    pub fn of_table(
        space: &SearchSpace,
        table: &LatencyTable,
        predictor: &impl Predictor,
    ) -> Result<Self, PredictError> {
        let (batch, precision) = (table.batch(), table.precision());
        let cost = |key: OperatorKey| {
            let estimate = predictor.unit(&key.at(batch, precision))?;
            Ok::<_, PredictError>((estimate.latency.ms(), (estimate.high.ms() - estimate.low.ms()) / WIDTH))
        };
        let mut constant_ms = predictor.overhead().ms();
        for unit in space.front().iter().chain(space.back()) {
            constant_ms += cost(unit.key)?.0;
        }
        let mut known: HashMap<OperatorKey, usize> = HashMap::new();
        let (mut rows_ms, mut ms, mut unit) = (Vec::new(), Vec::new(), Vec::new());
        for decision in space.decisions() {
            let (mut row, mut deviations, mut units) = (Vec::new(), Vec::new(), Vec::new());
            for &candidate in &decision.candidates {
                let key = decision.key(candidate, precision);
                let next = known.len();
                let (latency, deviation) = if decision.is_identity(candidate) { (0.0, 0.0) } else { cost(key)? };
                row.push(latency);
                deviations.push(deviation);
                units.push(*known.entry(key).or_insert(next));
            }
            rows_ms.push(row);
            ms.push(deviations);
            unit.push(units);
        }
        Ok(Self { constant_ms, rows_ms, deviations: Some(Deviations { ms, unit, units: known.len() }) })
    }

    /// What a model of whole networks says, be it of another device.
    pub fn of_model(model: &NetworkModel) -> Self {
        Self { constant_ms: model.constant_ms(), rows_ms: model.rows_ms().to_vec(), deviations: None }
    }
}

/// What is known before the first network is measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    /// The device's own table.
    pub table: Option<Costs>,
    /// Other devices.
    pub others: Vec<Costs>,
}
