//! What is known of a space's costs before whole networks are measured: a table's rows, other devices' networks.

use std::collections::HashMap;

use fleetfoot_profiler::{LatencyTable, median};
use fleetfoot_space::{Architecture, OperatorKey, SearchSpace};

use crate::import::resolution;
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

    /// Whether other evidence says the same to the last digit.
    pub fn is_copy_of(&self, other: &Self) -> bool {
        self.constant_ms == other.constant_ms && self.rows_ms == other.rows_ms
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

/// How another device's latencies are no evidence of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeated {
    /// They are the device's own, to the last digit: so many networks that both have.
    Same(usize),
    /// They are, too, but so coarse that another device of its kind may have them.
    Alike(usize),
    /// They are the device's own times one number, as in another unit or rounded.
    Scaled(usize),
}

/// Fewest networks that tell either.
const FEW_TO_BE_SAME: usize = 3;
const FEW_TO_BE_SCALED: usize = 5;
/// Ratios that differ by less are one; by so much more where values are rounded, but never by so much.
const ONE_RATIO: f64 = 1e-4;
const ROUNDED: f64 = 0.6;
const MOST_ROUNDED: f64 = 1e-3;
/// Values that are rounded by a larger share may be the same by chance.
const COARSE: f64 = 1e-3;

/// Whether what other networks are said to take is what these were measured as, as far as both lists have the same networks. One in ten may be
/// otherwise: somebody mended it.
pub fn repeats<'a, 'b>(
    own: impl Iterator<Item = (&'a Architecture, f64)>,
    other: impl Iterator<Item = (&'b Architecture, f64)>,
) -> Option<Repeated> {
    let mut measured: HashMap<&Architecture, Vec<f64>> = HashMap::new();
    own.for_each(|(architecture, ms)| measured.entry(architecture).or_default().push(ms));
    measured.values_mut().for_each(|values| values.sort_by(f64::total_cmp));
    // Of what was measured more than once, the nearest counts.
    let pair = |(architecture, ms): (&Architecture, f64)| {
        let values = measured.get(architecture)?;
        let above = values.partition_point(|own| *own < ms);
        let around = &values[above.saturating_sub(1)..values.len().min(above + 1)];
        Some((*around.iter().min_by(|a, b| (*a - ms).abs().total_cmp(&(*b - ms).abs()))?, ms))
    };
    let (own, other): (Vec<f64>, Vec<f64>) = other.filter_map(pair).unzip();
    let coarseness = |values: &[f64]| Some(resolution(values) / median(values.iter().copied())?);
    let coarseness = coarseness(&own)?.max(coarseness(&other)?);
    let shared = own.len();
    let ratios: Vec<f64> = other.iter().zip(&own).map(|(other, own)| other / own).collect();
    let are_all = |is: &dyn Fn(f64) -> bool| 10 * ratios.iter().filter(|ratio| is(**ratio)).count() >= 9 * shared;
    let middle = median(ratios.iter().copied())?;
    let most = (ROUNDED * coarseness).clamp(ONE_RATIO, MOST_ROUNDED);
    if shared >= FEW_TO_BE_SAME && are_all(&|ratio| ratio == 1.0) {
        return Some(if coarseness > COARSE { Repeated::Alike(shared) } else { Repeated::Same(shared) });
    }
    let is_scaled = shared >= FEW_TO_BE_SCALED && are_all(&|ratio| (ratio / middle - 1.0).abs() < most);
    is_scaled.then_some(Repeated::Scaled(shared))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_told_from_other_devices() {
        let architectures: Vec<Architecture> = (0..20).map(|index| format!("{index:04}").parse().unwrap()).collect();
        let own: Vec<f64> = (0..20).map(|index| 1.0 + 0.371_93 * (index * index % 7) as f64).collect();
        let judged = |count: usize, of: &dyn Fn(usize) -> f64| {
            let own = architectures.iter().zip(own.iter().copied());
            let other: Vec<f64> = (0..count).map(of).collect();
            repeats(own, architectures.iter().zip(other))
        };
        assert_eq!(judged(20, &|index| own[index]), Some(Repeated::Same(20)));
        assert_eq!(judged(3, &|index| own[index]), Some(Repeated::Same(3)));
        assert_eq!(judged(2, &|index| own[index]), None, "two may be the same by chance");
        assert_eq!(judged(20, &|index| if index == 4 { 9.0 } else { own[index] }), Some(Repeated::Same(20)));
        assert_eq!(judged(20, &|index| 1000.0 * own[index]), Some(Repeated::Scaled(20)));
        let rounded = |index: usize| (1e5 * own[index] / 3.0).round() / 1e5;
        assert_eq!(judged(20, &rounded), Some(Repeated::Scaled(20)));
        let coarser = |index: usize| (1e3 * own[index]).round() / 1e3;
        assert_eq!(judged(20, &coarser), Some(Repeated::Scaled(20)));
        let noisy = |index: usize| own[index] * (1.0 + 2e-3 * ((index * 13 % 17) as f64 - 8.0));
        assert_eq!(judged(20, &noisy), None);
        assert_eq!(repeats(architectures.iter().zip(own.iter().copied()), [].into_iter()), None);
        // Whole milliseconds are the same on two phones of a kind.
        let whole = |index: usize| 20.0 + (index % 7) as f64;
        let coarse = |count: usize| {
            let list = || architectures.iter().zip((0..count).map(whole));
            repeats(list(), list())
        };
        assert_eq!([coarse(20), coarse(3)], [Some(Repeated::Alike(20)), Some(Repeated::Alike(3))]);
        // What was measured often is compared with all of it.
        let often: Vec<(&Architecture, f64)> = (0..60)
            .map(|index| (&architectures[index % 20], own[index % 20] * (1.0 + 0.01 * (index / 20) as f64)))
            .collect();
        let last = (0..20).map(|index| (&architectures[index], own[index] * 1.02));
        assert_eq!(repeats(often.into_iter(), last), Some(Repeated::Same(20)));
    }
}
