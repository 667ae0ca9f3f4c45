//! From the most probable network that meets the target to a better one that meets it, too: single exchanges.
//!
//! One candidate at a time is exchanged, judged by the supernet's cross entropy on validation images: the one that lowers
//! it most, as long as one that fits lowers it.

use fleetfoot_predictor::CostMatrix;
use fleetfoot_space::Architecture;
use tch::{Tensor, no_grad};

use crate::batches::Batch;
use crate::error::SearchError;
use crate::gates::Path;
use crate::loss::cross_entropy;
use crate::module::Mode;
use crate::supernet::Supernet;

/// Judges paths on a few large batches.
#[derive(Debug)]
pub struct Judge<'a> {
    supernet: &'a Supernet,
    costs: &'a CostMatrix,
    batches: Vec<Batch>,
}

/// A single exchange: the decision, the new candidate, what it does to cross entropy and latency (ms).
#[derive(Clone, Copy, Debug)]
struct Exchange {
    decision: usize,
    choice: usize,
    entropy: f64,
    latency_ms: f64,
}

impl<'a> Judge<'a> {
    /// Judges by these batches. Batch normalisation uses each batch's statistics.
    pub fn new(supernet: &'a Supernet, costs: &'a CostMatrix, batches: Vec<Batch>) -> Self {
        Self { supernet, costs, batches }
    }

    /// The architecture that exchanges lead to from a start that meets the target: at most `target_ms`, too, and no single
    /// exchange that fits lowers the cross entropy. `watch` is told of every exchange that is made.
    pub fn refine(
        &self,
        start: &Architecture,
        target_ms: f64,
        watch: &mut dyn FnMut(&str),
    ) -> Result<Architecture, SearchError> {
        let mut path = Path(start.choices().collect());
        loop {
            let now = self.latency_ms(&path);
            let (entropy, exchanges) = self.exchanges(&path, target_ms)?;
            let better = exchanges.into_iter().filter(|exchange| exchange.entropy < entropy);
            let best = better.min_by(|a, b| a.entropy.total_cmp(&b.entropy));
            let Some(best) = best else { break };
            watch(&format!(
                "decision {}: candidate {} becomes {}, cross entropy {entropy:.4} -> {:.4}, latency {now:.4} -> {:.4} ms",
                best.decision + 1,
                path.0[best.decision],
                best.choice,
                best.entropy,
                best.latency_ms
            ));
            path.0[best.decision] = best.choice;
        }
        let unnamed = || SearchError::Settings("a decision has more candidates than digits".to_owned());
        Architecture::new(path.0).ok_or_else(unnamed)
    }

    fn latency_ms(&self, path: &Path) -> f64 {
        let costs = path.0.iter().zip(&self.costs.rows).map(|(&choice, row)| row[choice]);
        self.costs.constant_ms + costs.sum::<f64>()
    }

    /// The path's cross entropy, and every exchange that stays within a latency.
    fn exchanges(&self, path: &Path, limit_ms: f64) -> Result<(f64, Vec<Exchange>), SearchError> {
        let mut exchanges = Vec::new();
        for (decision, row) in self.costs.rows.iter().enumerate() {
            for choice in (0..row.len()).filter(|&choice| choice != path.0[decision]) {
                let mut other = path.clone();
                other.0[decision] = choice;
                let latency_ms = self.latency_ms(&other);
                if latency_ms <= limit_ms {
                    exchanges.push(Exchange { decision, choice, entropy: 0.0, latency_ms });
                }
            }
        }
        let mut entropy = 0.0;
        let share = 1.0 / self.batches.len() as f64;
        for batch in &self.batches {
            // What lies in front of an exchange is the same for all: computed once.
            let trace = no_grad(|| self.supernet.trace(path, &batch.images))?;
            entropy += share * cross_entropy(&trace.logits, &batch.labels, 0.0)?.f_double_value(&[])?;
            for exchange in &mut exchanges {
                let logits = no_grad(|| self.behind(path, exchange, &trace.inputs[exchange.decision]))?;
                exchange.entropy += share * cross_entropy(&logits, &batch.labels, 0.0)?.f_double_value(&[])?;
            }
        }
        Ok((entropy, exchanges))
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
