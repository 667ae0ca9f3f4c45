//! A table's predictions for the networks of one space: every unit looked up once, each network a few sums.

use fleetfoot_profiler::Latency;
use fleetfoot_space::{OperatorKey, Precision, SearchSpace};

use crate::network_model::NetworkEstimate;
use crate::predictor::{Estimate, PredictError, Predictor, Source};

/// What a unit adds to a network's latency and to the ends of its interval.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    ms: f64,
    /// How far the ends of a measured unit's interval are: they add up.
    measured: [f64; 2],
    /// The squares of how far those of an estimated one are: they add up, too.
    estimated: [f64; 2],
}

impl Share {
    fn of(estimate: &Estimate) -> Self {
        let ms = estimate.latency.ms();
        let ends = [ms - estimate.low.ms(), estimate.high.ms() - ms];
        match estimate.source {
            Source::Regression => Self { ms, measured: [0.0; 2], estimated: ends.map(|end| end * end) },
            Source::Measured | Source::Nothing => Self { ms, measured: ends, estimated: [0.0; 2] },
        }
    }

    fn add(&mut self, other: &Self) {
        self.ms += other.ms;
        for end in 0..2 {
            self.measured[end] += other.measured[end];
            self.estimated[end] += other.estimated[end];
        }
    }
}

/// A table's, or a table's and a regression's, predictions for a space's networks: the same as [`Predictor::network`] gives.
#[derive(Clone, Debug)]
pub struct SpaceTable {
    overhead: f64,
    front: Vec<Share>,
    /// `[decision][candidate]`, with the unit where it is estimated.
    decisions: Vec<Vec<(Share, Option<OperatorKey>)>>,
    back: Vec<Share>,
    /// Units that all networks have and that are estimated.
    estimated: Vec<OperatorKey>,
}

impl SpaceTable {
    /// Looks every unit of a space up. One that isn't known is an error, whether a network has it or not.
    pub fn new(
        space: &SearchSpace,
        predictor: &impl Predictor,
        batch: usize,
        precision: Precision,
    ) -> Result<Self, PredictError> {
        let look = |key: OperatorKey| {
            let key = key.at(batch, precision);
            let estimate = predictor.unit(&key)?;
            let estimated = (estimate.source == Source::Regression).then_some(key);
            Ok::<_, PredictError>((Share::of(&estimate), estimated))
        };
        let fixed = |units: &[fleetfoot_space::Unit]| {
            units.iter().map(|unit| look(unit.key)).collect::<Result<Vec<_>, PredictError>>()
        };
        let (front, back) = (fixed(space.front())?, fixed(space.back())?);
        let estimated = front.iter().chain(&back).filter_map(|(_, estimated)| *estimated).collect();
        let shares = |units: Vec<(Share, Option<OperatorKey>)>| units.into_iter().map(|(share, _)| share).collect();
        let decisions = space.decisions().iter().map(|decision| {
            let candidates = decision.candidates.iter();
            candidates.map(|&candidate| look(decision.key(candidate, precision))).collect()
        });
        Ok(Self {
            overhead: predictor.overhead().ms(),
            decisions: decisions.collect::<Result<_, _>>()?,
            front: shares(front),
            back: shares(back),
            estimated,
        })
    }

    /// The latency of an architecture's network, with its 99 % interval; `None` if it isn't one of the space.
    pub fn predict(&self, choices: impl ExactSizeIterator<Item = usize>) -> Option<NetworkEstimate> {
        if choices.len() != self.decisions.len() {
            return None;
        }
        let mut sum = Share::default();
        self.front.iter().for_each(|share| sum.add(share));
        for (choice, row) in choices.zip(&self.decisions) {
            sum.add(&row.get(choice)?.0);
        }
        self.back.iter().for_each(|share| sum.add(share));
        let total = self.overhead + sum.ms;
        let half = |end: usize| sum.measured[end] + sum.estimated[end].sqrt();
        let latency = |ms: f64| Latency::from_ms(ms.max(0.0)).unwrap_or_default().ms();
        Some(NetworkEstimate {
            ms: latency(total),
            low_ms: latency(total - half(0)),
            high_ms: latency(total + half(1)),
        })
    }

    /// The units of an architecture's network that are estimated by regression.
    pub fn estimated(&self, choices: impl Iterator<Item = usize>) -> impl Iterator<Item = &OperatorKey> {
        let chosen = choices.zip(&self.decisions).filter_map(|(choice, row)| row.get(choice)?.1.as_ref());
        self.estimated.iter().chain(chosen)
    }
}
