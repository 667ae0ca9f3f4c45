//! A space's units as subjects, and their costs from what was measured.
//!
//! A unit that runs alone pays for being alone: the call of the runtime, and at both ends what the runtime does to
//! tensors that enter and leave it (reorders into and out of a blocked layout, most of all). Within a network it pays
//! neither. The call is what the empty graph takes, `O`. What a boundary of shape `s` costs comes from two probes, one
//! and two equal 1x1 convolutions on `s` in a row (linear, as blocks end): `T1 = O + B(s) + K` and `T2 = O + B(s) + 2 K`, so that
//! `B(s) = 2 T1 - T2 - O` is the price of entering and leaving together. A unit's cost is its time alone, less `O`, less
//! half of `B` at each end that lies within the network.
//!
//! In fp16 and int8, an isolated unit also converts its input and its output, which a network does at its own ends only.
//! The probes do the same on the same shapes, so that it is part of `B`; the two halves are no equal prices there, but
//! what one end is charged too much for, the next one's other side is charged too little.

use std::collections::BTreeMap;

use fleetfoot_space::{Network, NetworkError, OperatorKey, Precision, SearchSpace, Shape};

use crate::conditions::Context;
use crate::doubts::Doubts;
use crate::latency::Latency;
use crate::statistics::Measurement;
use crate::subject::{Subject, SubjectError};
use crate::table::{LatencyTable, Row};

/// Everything that has to be measured for the latency table of a space.
#[derive(Clone, Debug)]
pub struct UnitCampaign {
    subjects: Vec<Subject>,
    sizes: Vec<u64>,
    /// Position of the first of a shape's two probes.
    probes: BTreeMap<Shape, usize>,
    units: Vec<PlannedUnit>,
    context: Context,
}

#[derive(Clone, Debug)]
struct PlannedUnit {
    key: OperatorKey,
    /// Position among the subjects.
    position: usize,
    /// The shapes at those of its ends that lie within the network.
    inner: Vec<Shape>,
}

/// What agents evict at most: more than caches hold.
const MOST_EVICTED: f64 = (1 << 30) as f64;

/// Position of the empty graph among the subjects.
const EMPTY: usize = 0;

impl UnitCampaign {
    fn empty(context: Context) -> Self {
        let (subjects, sizes, probes, units) = (Vec::new(), Vec::new(), BTreeMap::new(), Vec::new());
        Self { subjects, sizes, probes, units, context }
    }

    /// The empty graph, the probes, and every distinct unit of a space, each behind an eviction of what lies between
    /// two visits to it in a network of that space.
    /// In a warm context nothing is evicted; all else is alike.
    pub fn new(
        space: &SearchSpace,
        batch: usize,
        precision: Precision,
        context: Context,
    ) -> Result<Self, SubjectError> {
        let between = match context {
            Context::Warm => None,
            _ => Some(mean_working_set(space, batch, precision)?),
        };
        let mut campaign = Self::empty(context);
        let eps = space.bn_eps();
        campaign.push("empty graph".to_owned(), &Network::empty(Shape::new(1, 1, 1, 1), precision, eps), between)?;
        let last = space.back().last().map(|unit| unit.key.operator);
        for key in space.distinct_units(batch, precision) {
            let network = Network::of_unit(&key, eps)?;
            let ends = [
                (key.input != space.input().with_batch(batch)).then_some(key.input),
                (Some(key.operator) != last).then(|| network.out_shape()),
            ];
            let inner: Vec<Shape> = ends.into_iter().flatten().collect();
            for &shape in &inner {
                campaign.probe(shape, precision, eps, between)?;
            }
            let position = campaign.push(key.to_string(), &network, between)?;
            campaign.units.push(PlannedUnit { key, position, inner });
        }
        Ok(campaign)
    }

    /// Only these units, with what their costs are computed from; units that aren't planned are left out.
    pub fn only(&self, keys: &[OperatorKey]) -> Self {
        let mut campaign = Self::empty(self.context);
        campaign.take(self, EMPTY);
        for unit in self.units.iter().filter(|unit| keys.contains(&unit.key)) {
            for shape in &unit.inner {
                if let (Some(&first), false) = (self.probes.get(shape), campaign.probes.contains_key(shape)) {
                    let position = campaign.take(self, first);
                    campaign.take(self, first + 1);
                    campaign.probes.insert(*shape, position);
                }
            }
            let position = campaign.take(self, unit.position);
            campaign.units.push(PlannedUnit { position, ..unit.clone() });
        }
        campaign
    }

    /// So many of the units as subjects that tell the speed of a table: those of its informative rows that say what a unit
    /// took on its own, and are units of this space.
    pub fn references(&self, table: &LatencyTable, count: usize) -> Vec<Subject> {
        let unit = |row: &&Row| {
            let unit = self.units.iter().find(|unit| unit.key == row.key)?;
            let reference = Some(row.raw.filter(|raw| *raw > Latency::ZERO)?);
            Some(Subject { reference, ..self.subjects[unit.position].clone() })
        };
        table.informative(count).iter().filter_map(unit).collect()
    }

    fn take(&mut self, from: &Self, position: usize) -> usize {
        self.subjects.push(from.subjects[position].clone());
        self.sizes.push(from.sizes[position]);
        self.subjects.len() - 1
    }

    fn push(&mut self, name: String, network: &Network, between: Option<f64>) -> Result<usize, SubjectError> {
        // At least a line, so that whatever fills the caches alone is timed in the same way as all others.
        let evict_bytes =
            between.map_or(0, |between| (between - network.weight_bytes() as f64).clamp(64.0, MOST_EVICTED) as u64);
        self.subjects.push(Subject { evict_bytes, ..Subject::of_network(name, network)? });
        self.sizes.push(network.macs());
        Ok(self.subjects.len() - 1)
    }

    fn probe(
        &mut self,
        shape: Shape,
        precision: Precision,
        eps: f32,
        between: Option<f64>,
    ) -> Result<(), SubjectError> {
        if self.probes.contains_key(&shape) {
            return Ok(());
        }
        let mut network = Network::empty(shape, precision, eps);
        network.push_linear("first", shape.c)?;
        let position = self.push(format!("probe of 1 on {shape}"), &network, between)?;
        network.push_linear("second", shape.c)?;
        self.push(format!("probe of 2 on {shape}"), &network, between)?;
        self.probes.insert(shape, position);
        Ok(())
    }

    /// What has to be measured.
    pub fn subjects(&self) -> &[Subject] {
        &self.subjects
    }

    /// Number of units, the empty graph and the probes not counted.
    pub fn units(&self) -> usize {
        self.units.len()
    }

    /// Multiply-accumulate operations and evicted bytes of every subject.
    pub fn sizes(&self) -> Vec<(u64, u64)> {
        self.sizes.iter().copied().zip(self.subjects.iter().map(|subject| subject.evict_bytes)).collect()
    }

    /// The empty graph's time and the units' rows from the subjects' measurements, in the order of [`subjects`].
    ///
    /// [`subjects`]: Self::subjects
    pub fn rows(&self, measured: &[Measurement]) -> (Latency, Vec<Row>) {
        let empty = measured[EMPTY].latency;
        let rows = self.units.iter().map(|unit| {
            let alone = &measured[unit.position];
            let ends: Vec<(f64, f64)> = unit.inner.iter().map(|shape| self.end(*shape, measured)).collect();
            let boundary: f64 = ends.iter().map(|(cost, _)| cost).sum();
            let doubt: f64 = ends.iter().map(|(_, doubt)| doubt * doubt).sum::<f64>().sqrt();
            let cost = |ms: f64| Latency::from_ms((ms - empty.ms() - boundary).max(0.0)).unwrap_or_default();
            Row {
                key: unit.key,
                latency: cost(alone.latency.ms()),
                low: cost(alone.interval.low.ms() - doubt),
                high: cost(alone.interval.high.ms() + doubt),
                samples: alone.samples as u64,
                raw: Some(alone.latency),
                boundary: Latency::from_ms(boundary).ok(),
                measured: Some(self.context),
                doubts: Doubts::NONE,
            }
        });
        (empty, rows.collect())
    }

    /// Half of a boundary's cost, and half of its interval's half-width, in ms.
    fn end(&self, shape: Shape, measured: &[Measurement]) -> (f64, f64) {
        let Some(&position) = self.probes.get(&shape) else { return (0.0, 0.0) };
        let (one, two) = (&measured[position], &measured[position + 1]);
        let half_width = |m: &Measurement| (m.interval.high.ms() - m.interval.low.ms()) / 2.0;
        let cost = 2.0 * one.latency.ms() - two.latency.ms() - measured[EMPTY].latency.ms();
        (cost.max(0.0) / 2.0, (2.0 * half_width(one)).hypot(half_width(two)) / 2.0)
    }
}

/// Bytes that lie between two visits to a unit in a network of the space: the mean network's weights (every candidate
/// equally probable), and the largest unit's activations, since runtimes use the buffers of activations again and again.
fn mean_working_set(space: &SearchSpace, batch: usize, precision: Precision) -> Result<f64, NetworkError> {
    let mut weights = 0.0;
    let mut activations = 0;
    let mut count = |key: OperatorKey, probability: f64| -> Result<(), NetworkError> {
        let network = Network::of_unit(&key.at(batch, precision), space.bn_eps())?;
        weights += probability * network.weight_bytes() as f64;
        activations = activations.max(network.activation_bytes());
        Ok(())
    };
    for unit in space.front().iter().chain(space.back()) {
        count(unit.key, 1.0)?;
    }
    for decision in space.decisions() {
        for &candidate in decision.candidates.iter().filter(|&&candidate| !decision.is_identity(candidate)) {
            count(decision.key(candidate, precision), 1.0 / decision.candidates.len() as f64)?;
        }
    }
    Ok(weights + activations as f64)
}
