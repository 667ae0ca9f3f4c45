//! What a search leads to.

use fleetfoot_space::Architecture;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::Search;
use crate::batches::Feed;
use crate::derive::Judge;
use crate::error::SearchError;
use crate::finalists::draw_finalists;
use crate::gates::Cut;
use crate::limits::Limits;
use crate::recipe::Recipe;
use crate::settings::{GatePoint, SearchPoint};
use fleetfoot_dataset::Dataset;

/// Images of a batch by which exchanges are judged: large, since batch normalisation uses its statistics; fewer where
/// images are so large that a batch would have more values than this.
pub(super) const JUDGE_BATCH: usize = 1024;
pub(super) const JUDGE_VALUES: usize = 1 << 23;
/// Images by which a network that needs less than it may is judged against those that need more.
const JUDGES: usize = 2048;
/// What a network should need at least of what it may.
pub(super) const USED: f64 = 0.95;
/// Share of a finalist's training in which its learning rate rises.
const FINALIST_RISE: f64 = 0.1;
/// Sets the finalists' seed apart from the search's.
const FINALIST_SEED: u64 = 0xf17a1;

/// What a search found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The network: the most probable one that meets the limits and uses 95 % of one, where there is any, and what exchanges
    /// made of it.
    pub architecture: Architecture,
    /// The most probable candidate everywhere.
    pub most_probable: Architecture,
    /// What came of every limit.
    pub limits: Vec<Reached>,
    /// Softmax of the gates.
    pub probabilities: Vec<Vec<f64>>,
    /// The curves.
    pub curve: Vec<SearchPoint>,
    /// The gates on their way.
    pub history: Vec<GatePoint>,
    /// The candidates that were cut.
    pub cuts: Vec<Cut>,
}

/// A limit, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reached {
    /// What is limited.
    pub name: String,
    /// The unit of its amounts.
    pub unit: String,
    /// What a network may need at most.
    pub limit: f64,
    /// What the gates expected at the end of their learning.
    pub expected: f64,
    /// What the network needs.
    pub predicted: f64,
    /// Weight in the gates' loss at the end.
    pub lambda: f64,
}

impl Found {
    /// Takes another network, of the same search.
    pub fn replace(&mut self, search: &Search, architecture: Architecture) {
        self.limits = search.reached(&architecture);
        self.architecture = architecture;
    }
}

impl Search {
    /// The result as it stands.
    pub fn found(&self) -> Result<Found, SearchError> {
        self.found_within(&self.limits)
    }

    /// The result where a network may need so much instead of what the gates learned with.
    fn found_within(&self, limits: &Limits) -> Result<Found, SearchError> {
        let settings = |what: &str| SearchError::Settings(what.to_owned());
        let most_probable = self.gates.most_probable().ok_or_else(|| settings("the space has no decisions"))?;
        // Whoever leaves the limits to the loss wants the gates' own choice, as far as it fits.
        let least = if self.settings.soft { 0.0 } else { USED };
        let fitting = limits.most_probable(&self.gates, least);
        let architecture = fitting.ok_or_else(|| settings("no network meets the limits"))?;
        Ok(Found {
            limits: self.reached(&architecture),
            architecture,
            most_probable,
            probabilities: self.gates.probabilities(),
            curve: self.curve.clone(),
            history: self.history.clone(),
            cuts: self.cuts.clone(),
        })
    }

    /// What comes of every limit with a network.
    fn reached(&self, architecture: &Architecture) -> Vec<Reached> {
        let expected = self.limits.expected(&self.gates.probabilities());
        let each = self.limits.iter().zip(expected).zip(&self.lambda).map(|((limit, expected), &lambda)| Reached {
            name: limit.name.clone(),
            unit: limit.unit.clone(),
            limit: limit.at_most,
            expected,
            predicted: limit.demand.of(architecture),
            lambda,
        });
        each.collect()
    }

    /// The result, bettered by single exchanges that are judged on this many validation images, 0: by none. Where it still
    /// needs less than 95 % of what it may, exchanges for what needs more and classifies more images rightly follow, as long
    /// as there are any. `watch` is told of every exchange.
    pub fn refined(&self, images: usize, watch: &mut dyn FnMut(&str)) -> Result<Found, SearchError> {
        self.refined_within(&self.limits, images, watch)
    }

    /// The same within other limits than those that the gates learned with.
    pub fn refined_within(
        &self,
        limits: &Limits,
        images: usize,
        watch: &mut dyn FnMut(&str),
    ) -> Result<Found, SearchError> {
        let mut found = self.found_within(limits)?;
        if images > 0 {
            let judge = Judge::new(&self.supernet, limits, &*self.criterion, self.judges(images)?);
            let refined = judge.refine(&found.architecture, watch)?;
            found.replace(self, refined);
        }
        if limits.share(&found.architecture) < USED {
            let judge = Judge::new(&self.supernet, limits, &*self.criterion, self.judges(images.max(JUDGES))?);
            let larger = judge.use_up(&found.architecture, USED, watch)?;
            found.replace(self, larger);
        }
        Ok(found)
    }

    /// The networks of the last stage: `first`, and others by what the gates learned. See [`draw_finalists`].
    pub fn finalists(&self, first: &Architecture, count: usize) -> Vec<Architecture> {
        self.finalists_within(&self.limits, first, count)
    }

    /// The same within other limits.
    pub fn finalists_within(&self, limits: &Limits, first: &Architecture, count: usize) -> Vec<Architecture> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.settings.seed);
        rng.set_stream(3);
        draw_finalists(first, count, &self.gates, limits, &mut rng)
    }

    /// The search's own split of the training images: what weights learned from, and, as test images, what gates learned
    /// from.
    pub fn split(&self) -> Dataset {
        let images = |feed: &Feed| feed.source().images.clone();
        Dataset { name: self.space.name().to_owned(), train: images(&self.train), test: images(&self.validation) }
    }

    /// How finalists are trained: as the weights of the warm-up are, within this many epochs. Their seed isn't the search's,
    /// lest luck with one seed be chosen and a training by that seed then profit from it.
    pub fn finalist_recipe(&self, epochs: usize) -> Recipe {
        let settings = &self.settings;
        Recipe {
            epochs,
            rise_epochs: FINALIST_RISE * epochs as f64,
            batch: settings.batch,
            accumulate: settings.accumulate,
            train_images: settings.train_images,
            lr: settings.warmup_lr,
            smoothing: settings.smoothing,
            shift: settings.shift,
            flip: settings.flip,
            crop: settings.crop,
            jitter: settings.jitter,
            seed: settings.seed ^ FINALIST_SEED,
            channels_last: settings.channels_last,
            amp: settings.amp,
            ..Recipe::default()
        }
    }
}
