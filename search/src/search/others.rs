//! What else one supernet tells: how other ways to search do on it, a front of networks, how well it ranks.

use fleetfoot_space::Architecture;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::Search;
use crate::batches::{Batch, Feed};
use crate::derive::{Judge, Score};
use crate::error::SearchError;
use crate::gate_gradient::GateUpdate;
use crate::gates::Path;
use crate::learning::Learning as _;
use crate::limits::{Bound, Limit, Limits};
use crate::rivals::{Allowance, Arena, Method, Rival};
use crate::within::Within;

/// Sets the rivals' batch apart from those of the gates.
const RIVAL_SEED: u64 = 0x21fa;
/// Streams of the search's generator.
const RIVAL_STREAM: u64 = 4;
const DIAGNOSIS_STREAM: u64 = 5;
/// Draws for one network that isn't there yet.
const DRAWS: usize = 200;
/// What diagnosed networks need at least of what they may: they are to be unlike each other.
const DIAGNOSED: f64 = 0.5;

/// A network of a front.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FrontPoint {
    /// The network.
    pub architecture: String,
    /// What it needs, one amount a limit.
    pub needs: Vec<f64>,
    /// Mean cross entropy along it on all validation images, by the supernet; or the loss that there is in its place.
    pub cross_entropy: f64,
    /// Its accuracy there, or its score, in percent.
    pub accuracy_percent: f64,
}

impl Search {
    /// How a network does on all validation images, by the supernet.
    pub fn judge(&self, architecture: &Architecture) -> Result<Score, SearchError> {
        let path = Path(architecture.choices().collect());
        let mut score = Score::default();
        for batch in self.judging(usize::MAX) {
            score.take(&self.supernet, &*self.criterion, &path, &batch?)?;
        }
        Ok(score)
    }

    /// Networks that gates judged on a validation batch: two a step by two paths, each candidate by all gates, ten by
    /// REINFORCE.
    fn evaluations(&self) -> usize {
        self.gate_steps()
            * match self.settings.gate_update {
                GateUpdate::TwoPaths => 2,
                GateUpdate::AllGates => self.gates.live().iter().map(Vec::len).max().unwrap_or(1),
                GateUpdate::Reinforce => super::NETWORKS,
            }
    }

    /// How the gates' network does, and what random search and regularised evolution find on the same supernet within the
    /// limits that it was derived within: with as many evaluations as the gates had, and in as much time as they learned for. The supernet's
    /// weights learned along paths that the gates drew, which is in the gates' favour. `watch` is told of each.
    pub fn rivals(
        &self,
        limits: &Limits,
        found: &Architecture,
        watch: &mut dyn FnMut(&Rival),
    ) -> Result<Vec<Rival>, SearchError> {
        let (evaluations, seconds) = (self.evaluations(), self.account().gate_seconds);
        let mut all = Vec::new();
        let mut add = |method: Method, budget: &str, (evaluations, seconds): (usize, f64), network: &Architecture| {
            let score = self.judge(network)?;
            let rival = Rival {
                method,
                budget: budget.to_owned(),
                evaluations,
                seconds,
                architecture: network.to_string(),
                predicted: self.limits.first().demand.of(network),
                cross_entropy: score.loss,
                accuracy_percent: score.percent(),
            };
            watch(&rival);
            all.push(rival);
            Ok::<(), SearchError>(())
        };
        add(Method::Gates, "", (evaluations, seconds), found)?;
        let (source, seed) = (self.validation.source().clone(), self.settings.seed ^ RIVAL_SEED);
        let batch = Feed::new(source, seed, self.settings.gate_batch, None).until(1).batch(0)?;
        let judge = Judge::new(&self.supernet, limits, &*self.criterion, vec![batch]);
        let arena = Arena { supernet: &self.supernet, gates: &self.gates, limits, judge: &judge };
        for method in [Method::Random, Method::Evolution] {
            for (budget, allowance) in
                [("evaluations", Allowance::Evaluations(evaluations)), ("seconds", Allowance::Seconds(seconds))]
            {
                let mut rng = ChaCha8Rng::seed_from_u64(self.settings.seed);
                rng.set_stream(RIVAL_STREAM);
                let start = std::time::Instant::now();
                let (network, used) = arena.search(method, allowance, &mut rng)?;
                add(method, budget, (used, start.elapsed().as_secs_f64()), &network)?;
            }
        }
        Ok(all)
    }

    /// A front of networks from the one supernet: at so many amounts of what is limited first, evenly from a little above
    /// the least network to the largest that the other limits allow, the gates are projected there, the most probable
    /// network that fits is bettered by exchanges, and whatever another one beats in both is left out. In order of need.
    pub fn front(
        &self,
        count: usize,
        images: usize,
        watch: &mut dyn FnMut(&FrontPoint),
    ) -> Result<Vec<FrontPoint>, SearchError> {
        let first = self.limits.first();
        let (least, most) = first.demand.range(self.gates.live());
        let mut points: Vec<(Score, FrontPoint)> = Vec::new();
        for index in 1..=count {
            let at_most = least + (most - least) * index as f64 / (count + 1) as f64;
            let here = Limit { at_most, bound: Bound::Cap, ..first.clone() };
            let Ok(limits) = Limits::new(std::iter::once(here).chain(self.limits.iter().skip(1).cloned()).collect())
            else {
                continue;
            };
            let mut gates = self.gates.clone();
            limits.project(&mut gates, &limits.amounts());
            let Some(start) = limits.most_probable(&gates, super::outcome::USED) else { continue };
            let judge = Judge::new(&self.supernet, &limits, &*self.criterion, self.judges(images)?);
            let network = judge.refine(&start, &mut |_| {})?;
            let score = self.judge(&network)?;
            let point = FrontPoint {
                architecture: network.to_string(),
                needs: self.limits.iter().map(|limit| limit.demand.of(&network)).collect(),
                cross_entropy: score.loss,
                accuracy_percent: score.percent(),
            };
            watch(&point);
            points.push((score, point));
        }
        let beaten = |point: &FrontPoint| {
            points.iter().any(|(_, other)| {
                let (needs, loss) = (other.needs[0] <= point.needs[0], other.cross_entropy <= point.cross_entropy);
                needs && loss && (other.needs[0] < point.needs[0] || other.cross_entropy < point.cross_entropy)
            })
        };
        let mut front: Vec<FrontPoint> =
            points.iter().map(|(_, point)| point).filter(|point| !beaten(point)).cloned().collect();
        front.sort_by(|a, b| a.needs[0].total_cmp(&b.needs[0]));
        front.dedup_by(|a, b| a.architecture == b.architecture);
        Ok(front)
    }

    /// Networks, unlike each other, that need between half of what they may and all of it.
    pub fn diagnosed(&self, count: usize) -> Vec<Architecture> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.settings.seed);
        rng.set_stream(DIAGNOSIS_STREAM);
        let mut drawn: Vec<Architecture> = Vec::new();
        let Some(sampler) = Within::new(&self.limits, &self.gates, DIAGNOSED, &self.gates.even()) else { return drawn };
        while drawn.len() < count {
            let draws = std::iter::repeat_with(|| sampler.draw(&mut rng)).take(DRAWS);
            let Some(new) = draws.flatten().find(|new| !drawn.contains(new)) else { break };
            drawn.push(new);
        }
        drawn
    }

    /// Batches of the first validation images, all in memory.
    pub(super) fn judges(&self, images: usize) -> Result<Vec<Batch>, SearchError> {
        self.judging(images).collect()
    }

    /// The same, one at a time, as even in size as can be: batch normalisation goes by each batch.
    fn judging(&self, images: usize) -> impl Iterator<Item = Result<Batch, SearchError>> + use<> {
        let mut judges = self.validation.source().clone();
        judges.images = judges.images.subset(0..images.min(judges.images.len()));
        let input = self.space.input();
        let fitting = super::outcome::JUDGE_VALUES / (input.c * input.h * input.w).max(1);
        let most = fitting.min(super::outcome::JUDGE_BATCH).max(self.settings.gate_batch).max(1);
        let images = judges.images.len();
        judges.in_order(images.div_ceil(images.div_ceil(most).max(1)))
    }
}
