//! From the most probable network that meets the limits to a better one that meets them, too: single exchanges.
//!
//! One candidate at a time is exchanged, judged by the supernet on validation images: the exchange that betters it most, as
//! long as one that fits does.

use fleetfoot_space::Architecture;
use tch::{Tensor, no_grad};

use crate::batches::Batch;
use crate::error::SearchError;
use crate::gates::Path;
use crate::limits::Limits;
use crate::loss::Criterion;
use crate::mixing::Targets;
use crate::module::Mode;
use crate::supernet::Supernet;

/// How a path does on the judge's images.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// Mean loss: cross entropy, or the one that there is in its place.
    pub loss: f64,
    /// Sum of the images' scores: how many it classifies rightly.
    pub right: f64,
    /// How many images that were.
    pub images: f64,
}

impl Score {
    /// Takes in how a path does on a batch, without moving anything.
    pub(crate) fn take(
        &mut self,
        supernet: &Supernet,
        criterion: &dyn Criterion,
        path: &Path,
        batch: &Batch,
    ) -> Result<(), SearchError> {
        let logits = no_grad(|| supernet.forward(path, &batch.images, Mode::Probe))?;
        self.add(criterion, &logits, &batch.labels)
    }

    /// Takes a batch in: every image counts alike, whatever the size of its batch.
    fn add(&mut self, criterion: &dyn Criterion, logits: &Tensor, labels: &Tensor) -> Result<(), SearchError> {
        let labels = Targets::from(labels.shallow_clone());
        let (loss, images) = (labels.loss(criterion, logits, 0.0)?.f_double_value(&[])?, labels.images()? as f64);
        self.images += images;
        self.loss += (loss - self.loss) * images / self.images.max(1.0);
        self.right += labels.score(criterion, logits)?;
        Ok(())
    }

    /// Mean score of the images, in percent.
    pub(crate) fn percent(&self) -> f64 {
        100.0 * self.right / self.images.max(1.0)
    }
}

/// Judges paths on a few large batches.
#[derive(Debug)]
pub struct Judge<'a> {
    supernet: &'a Supernet,
    limits: &'a Limits,
    criterion: &'a dyn Criterion,
    batches: Vec<Batch>,
}

/// A single exchange: the decision, the new candidate, the network then, and what the supernet says of it.
#[derive(Clone, Debug)]
struct Exchange {
    decision: usize,
    choice: usize,
    share: f64,
    score: Score,
}

impl<'a> Judge<'a> {
    /// Judges by a loss and its score on these batches. Batch normalisation uses each batch's statistics.
    pub fn new(supernet: &'a Supernet, limits: &'a Limits, criterion: &'a dyn Criterion, batches: Vec<Batch>) -> Self {
        Self { supernet, limits, criterion, batches }
    }

    /// How a path does.
    pub fn score(&self, path: &Path) -> Result<Score, SearchError> {
        let mut score = Score::default();
        for batch in &self.batches {
            score.take(self.supernet, self.criterion, path, batch)?;
        }
        Ok(score)
    }

    /// The architecture that exchanges lead to from a start that meets the limits: it meets them, too, and no single exchange
    /// that fits lowers the loss. `watch` is told of every exchange that is made.
    pub fn refine(&self, start: &Architecture, watch: &mut dyn FnMut(&str)) -> Result<Architecture, SearchError> {
        let better = |_: f64, before: &Score, exchange: &Exchange| exchange.score.loss < before.loss;
        self.exchange(start, &better, watch)
    }

    /// The same for a network that needs less than `least` of what it may (a share): exchanges for candidates that need more
    /// and raise the score, by accuracy the number of images that are classified rightly, until `least` is reached or there is none.
    pub fn use_up(
        &self,
        start: &Architecture,
        least: f64,
        watch: &mut dyn FnMut(&str),
    ) -> Result<Architecture, SearchError> {
        let better = |share: f64, before: &Score, exchange: &Exchange| {
            share < least && exchange.share > share && exchange.score.right > before.right
        };
        self.exchange(start, &better, watch)
    }

    fn exchange(
        &self,
        start: &Architecture,
        better: &dyn Fn(f64, &Score, &Exchange) -> bool,
        watch: &mut dyn FnMut(&str),
    ) -> Result<Architecture, SearchError> {
        let mut network = start.clone();
        loop {
            let share = self.limits.share(&network);
            let mut path = Path(network.choices().collect());
            let (before, exchanges) = self.exchanges(&path)?;
            let better = exchanges.into_iter().filter(|exchange| better(share, &before, exchange));
            let Some(best) = better.min_by(|a, b| a.score.loss.total_cmp(&b.score.loss)) else {
                return Ok(network);
            };
            watch(&format!(
                "decision {}: candidate {} becomes {}, {} {:.4} -> {:.4}, {:.1} % -> {:.1} % of what the network may need",
                best.decision + 1,
                path.0[best.decision],
                best.choice,
                self.criterion.name(),
                before.loss,
                best.score.loss,
                100.0 * share,
                100.0 * best.share,
            ));
            path.0[best.decision] = best.choice;
            network = named(path)?;
        }
    }

    /// How a path does, and every exchange for a candidate that is still there and meets the limits.
    fn exchanges(&self, path: &Path) -> Result<(Score, Vec<Exchange>), SearchError> {
        let mut exchanges = Vec::new();
        for decision in 0..path.0.len() {
            for choice in self.supernet.candidates(decision).filter(|&choice| choice != path.0[decision]) {
                let mut other = path.clone();
                other.0[decision] = choice;
                let network = named(other)?;
                if self.limits.fit(&network) {
                    let share = self.limits.share(&network);
                    exchanges.push(Exchange { decision, choice, share, score: Score::default() });
                }
            }
        }
        let mut score = Score::default();
        for batch in &self.batches {
            // What lies in front of an exchange is the same for all: computed once.
            let trace = no_grad(|| self.supernet.trace(path, &batch.images))?;
            score.add(self.criterion, &trace.logits, &batch.labels)?;
            for exchange in &mut exchanges {
                let logits = no_grad(|| self.behind(path, exchange, &trace.inputs[exchange.decision]))?;
                exchange.score.add(self.criterion, &logits, &batch.labels)?;
            }
        }
        Ok((score, exchanges))
    }

    /// The logits behind an exchange.
    fn behind(&self, path: &Path, exchange: &Exchange, input: &Tensor) -> Result<Tensor, SearchError> {
        let mut x = self.supernet.candidate(exchange.decision, exchange.choice, input, Mode::Probe)?;
        for decision in exchange.decision + 1..path.0.len() {
            x = self.supernet.candidate(decision, path.0[decision], &x, Mode::Probe)?;
        }
        self.supernet.head(&x, Mode::Probe)
    }
}

fn named(path: Path) -> Result<Architecture, SearchError> {
    let unnamed = || SearchError::Settings("a decision has more candidates than digits".to_owned());
    Architecture::new(path.0).ok_or_else(unnamed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::CrossEntropy;

    #[test]
    fn every_image_counts_alike_whatever_the_size_of_its_batch() {
        tch::manual_seed(5);
        let logits = Tensor::randn([7, 3], (tch::Kind::Float, tch::Device::Cpu)) * 3.0;
        let labels = Tensor::from_slice(&[0i64, 1, 2, 0, 1, 2, 0]);
        let scored = |lengths: &[i64]| {
            let (mut score, mut start) = (Score::default(), 0);
            for &length in lengths {
                score.add(&CrossEntropy, &logits.narrow(0, start, length), &labels.narrow(0, start, length)).unwrap();
                start += length;
            }
            score
        };
        let whole = scored(&[7]);
        for lengths in [&[6, 1][..], &[1, 2, 4], &[3, 3, 1]] {
            let parts = scored(lengths);
            assert!((parts.loss - whole.loss).abs() < 1e-6, "{lengths:?} {parts:?} {whole:?}");
            assert_eq!((parts.right, parts.images), (whole.right, 7.0));
        }
        assert!((whole.percent() - 100.0 * whole.right / 7.0).abs() < 1e-12);
    }
}
