//! Steps of a search, on a batch of noise.

use fleetfoot_search::{
    Backward, Batch, CrossEntropy, Gates, Group, Module, Pair, Path, Placement, SearchError, Sgd, Supernet,
    by_two_paths, learn,
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tch::Tensor;

use super::steps::{Config, space_and_batch};

/// What steps are taken with.
pub struct Steps {
    pub supernet: Supernet,
    pub gates: Gates,
    pub batch: Batch,
    rng: ChaCha8Rng,
    path: Path,
}

/// What gates would learn from: pairs, and the loss with its derivatives by each pair's gates.
pub type OfGates = (Vec<Option<Pair>>, f64, Vec<(f64, f64)>);

impl Steps {
    pub fn new(config: &Config, placement: Placement) -> Result<Self, SearchError> {
        let (space, batch) = space_and_batch(config, placement.layout)?;
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        Ok(Self {
            supernet: Supernet::new(&space, 1, placement)?,
            gates: Gates::new(&space, &mut rng),
            rng,
            path: Path(Vec::new()),
            batch: batch.on(placement.compute)?,
        })
    }

    /// The next path; its modules.
    pub fn draw(&mut self) -> Vec<&mut Module> {
        self.path = self.gates.sample_path(&mut self.rng);
        self.supernet.chain(&self.path)
    }

    pub fn weight_step(&mut self, recompute: bool, group: &Group) -> Result<(), SearchError> {
        let how = Backward { criterion: &CrossEntropy, smoothing: 0.1, recompute, parts: 1, group };
        let mut update = |module: &mut Module, gradients: &[Tensor]| Sgd::default().update(module, gradients, 0.01);
        let targets = self.batch.labels.shallow_clone().into();
        learn(&mut self.supernet.chain(&self.path), &self.batch.images, &targets, how, &mut update).map(drop)
    }

    pub fn of_gates(&mut self) -> Result<OfGates, SearchError> {
        let pairs = self.gates.sample_pairs(&mut self.rng);
        let (loss, gradients) = by_two_paths(&self.supernet, &self.gates, &pairs, &self.batch, &CrossEntropy)?;
        Ok((pairs, loss, gradients))
    }
}
