//! Networks that meet the limits, drawn at random.

use fleetfoot_predictor::Sampler;
use fleetfoot_space::Architecture;
use rand::Rng;

use crate::gates::Gates;
use crate::limits::Limits;

/// Draws for one network until none is believed to exist.
const DRAWS: usize = 1000;

/// Draws networks that meet all limits and need at least a share of one, each by the product of its candidates' weights.
#[derive(Debug)]
pub struct Within<'a> {
    limits: &'a Limits,
    least: f64,
    samplers: Vec<Sampler<'a>>,
}

impl<'a> Within<'a> {
    /// `weights[decision][candidate]`, 0 for those that were cut. None where there is no limit.
    pub fn new(limits: &'a Limits, gates: &Gates, least: f64, weights: &[Vec<f64>]) -> Option<Self> {
        let sampler = |limit: &'a crate::limits::Limit| {
            // Of memory, only weights add up; working memory is allowed for at its least.
            let sums = limit.demand.sum();
            let besides = limit.demand.range(gates.live()).0 - minimum(sums, gates);
            let range = least * limit.at_most - besides..=limit.at_most - besides;
            sums.sampler_within(range, weights)
        };
        let samplers: Vec<Sampler<'a>> = limits.iter().map(sampler).collect();
        (!samplers.is_empty()).then_some(Self { limits, least, samplers })
    }

    /// A network; `None` where none was met. By sums of each limit in turn, the others are looked at one by one.
    pub fn draw(&self, rng: &mut impl Rng) -> Option<Architecture> {
        let fits = |drawn: &Architecture| self.limits.fit(drawn) && self.limits.share(drawn) >= self.least;
        let samplers = self.samplers.iter().cycle().take(DRAWS);
        samplers.filter_map(|sampler| sampler.draw(rng)).find(fits)
    }
}

fn minimum(sums: &fleetfoot_predictor::CostMatrix, gates: &Gates) -> f64 {
    crate::demand::Demand::Sum(sums.clone()).range(gates.live()).0
}
