//! The over-parameterised network: every candidate of every decision with weights of its own, one path computed.

use fleetfoot_space::{Candidate, Network, Precision, SearchSpace, Unit, Weights};
use rand::{Rng, RngExt};
use tch::{Tensor, no_grad};

use crate::error::SearchError;
use crate::gates::Path;
use crate::module::{Mode, Module};
use crate::native::dot;
use crate::placement::Placement;
use crate::tape::Tape;

/// A supernet. Only what a [`Path`] names is computed: memory and time are those of one network.
#[derive(Debug)]
pub struct Supernet {
    front: Module,
    /// `[decision][candidate]`.
    decisions: Vec<Vec<Slot>>,
    back: Module,
    seeds: Path,
}

/// What stands for a candidate.
#[derive(Debug)]
enum Slot {
    /// Its weights.
    Module(Box<Module>),
    /// Zero, which has none.
    Identity,
    /// Nothing any more: it was cut.
    Cut,
}

impl Slot {
    fn module(&self) -> Option<&Module> {
        match self {
            Self::Module(module) => Some(module),
            Self::Identity | Self::Cut => None,
        }
    }

    fn module_mut(&mut self) -> Option<&mut Module> {
        match self {
            Self::Module(module) => Some(module),
            Self::Identity | Self::Cut => None,
        }
    }
}

/// What a forward pass of a path leaves behind for the gates.
#[derive(Debug)]
pub struct Trace {
    /// Every decision's input, N x C x H x W.
    pub inputs: Vec<Tensor>,
    /// Every decision's output, N x C x H x W.
    pub outputs: Vec<Tensor>,
    /// N x classes.
    pub logits: Tensor,
}

impl Supernet {
    /// A supernet at the initialisation that `seed` draws.
    pub fn new(space: &SearchSpace, seed: u64, placement: impl Into<Placement>) -> Result<Self, SearchError> {
        let placement = placement.into();
        let chain = |units: &[Unit]| -> Result<Network, SearchError> {
            let input = units.first().map_or(space.input(), |unit| unit.key.input);
            let mut network = Network::empty(input, Precision::Fp32, space.bn_eps());
            units.iter().try_for_each(|unit| network.push(&unit.name, unit.key.operator))?;
            Ok(network)
        };
        // Every module draws from a seed of its own, so that a candidate added to one decision changes no other.
        let mut module = 0;
        let mut seeded = |network: Network| {
            module += 1;
            let seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(module);
            // What a search needs of memory besides activations is there when it begins.
            Module::initial(network, seed, placement).and_then(Module::with_momentum)
        };
        let front = seeded(chain(space.front())?)?;
        let mut decisions = Vec::new();
        for decision in space.decisions() {
            let mut candidates = Vec::new();
            for &candidate in &decision.candidates {
                candidates.push(if decision.is_identity(candidate) {
                    Slot::Identity
                } else {
                    let mut network = Network::empty(decision.input, Precision::Fp32, space.bn_eps());
                    network.push(&decision.name, decision.operator(candidate))?;
                    Slot::Module(Box::new(seeded(network)?))
                });
            }
            decisions.push(candidates);
        }
        let seeds = Path(space.decisions().iter().map(|decision| seed_of(&decision.candidates)).collect());
        Ok(Self { front, decisions, back: seeded(chain(space.back())?)?, seeds })
    }

    /// Logits (N x classes) of images (N x C x H x W) along a path.
    pub fn forward(&self, path: &Path, images: &Tensor, mode: Mode) -> Result<Tensor, SearchError> {
        let mut x = self.front.forward(images, mode)?;
        for (decision, &choice) in path.0.iter().enumerate() {
            x = self.candidate(decision, choice, &x, mode)?;
        }
        Ok(self.back.forward(&x, mode)?)
    }

    /// As [`forward`](Self::forward), with what lies before and behind every decision. Batch normalisation uses the
    /// batch's statistics and leaves the running ones as they are: they belong to weight steps. What lies in front of
    /// the first decision takes no gradient, since no gate is there.
    pub fn trace(&self, path: &Path, images: &Tensor) -> Result<Trace, SearchError> {
        let front = no_grad(|| self.front.forward(images, Mode::Probe))?;
        // The first decision's output must depend on something that takes gradients, also where it is the identity.
        let mut x = front.f_set_requires_grad(true)?;
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        for (decision, &choice) in path.0.iter().enumerate() {
            inputs.push(x.shallow_clone());
            x = self.candidate(decision, choice, &x, Mode::Probe)?;
            outputs.push(x.shallow_clone());
        }
        Ok(Trace { inputs, outputs, logits: self.back.forward(&x, Mode::Probe)? })
    }

    /// A candidate's output; Zero's is its input. One that was cut is an error.
    pub fn candidate(&self, decision: usize, choice: usize, x: &Tensor, mode: Mode) -> Result<Tensor, SearchError> {
        match &self.decisions[decision][choice] {
            Slot::Module(module) => Ok(module.forward(x, mode)?),
            Slot::Identity => Ok(x.shallow_clone()),
            Slot::Cut => Err(SearchError::Cut { decision, candidate: choice }),
        }
    }

    /// Sum of the products of a candidate's output, by the batch's statistics, with a slope by it.
    pub(crate) fn dot(&self, decision: usize, choice: usize, x: &Tensor, slope: &Tensor) -> Result<f64, SearchError> {
        match &self.decisions[decision][choice] {
            Slot::Module(module) => Ok(no_grad(|| module.dot(x, slope))?),
            Slot::Identity => Ok(dot(x, slope)?),
            Slot::Cut => Err(SearchError::Cut { decision, candidate: choice }),
        }
    }

    /// A candidate's output and, unless that is its input, what its gradients need.
    pub(crate) fn record(
        &self,
        decision: usize,
        choice: usize,
        x: &Tensor,
    ) -> Result<(Tensor, Option<Tape>), SearchError> {
        match &self.decisions[decision][choice] {
            Slot::Module(module) => {
                let (y, tape) = Tape::record(module, x, Mode::Probe)?;
                Ok((y, Some(tape)))
            }
            Slot::Identity => Ok((x.shallow_clone(), None)),
            Slot::Cut => Err(SearchError::Cut { decision, candidate: choice }),
        }
    }

    /// The logits, and what their gradients need.
    pub(crate) fn record_head(&self, x: &Tensor) -> Result<(Tensor, Tape), SearchError> {
        Ok(Tape::record(&self.back, x, Mode::Probe)?)
    }

    /// The candidates of a decision that weren't cut.
    pub fn candidates(&self, decision: usize) -> impl Iterator<Item = usize> {
        let row = self.decisions[decision].iter().enumerate();
        row.filter(|(_, slot)| !matches!(slot, Slot::Cut)).map(|(choice, _)| choice)
    }

    /// Takes a candidate out, its weights and their momentum with it: the supernet shrinks.
    pub fn cut(&mut self, decision: usize, choice: usize) {
        self.decisions[decision][choice] = Slot::Cut;
    }

    /// A candidate's weights, if it has any.
    pub(crate) fn module(&self, decision: usize, choice: usize) -> Option<&Module> {
        self.decisions[decision][choice].module()
    }

    /// What lies behind the last decision.
    pub(crate) fn back(&self) -> &Module {
        &self.back
    }

    /// What candidates inherit from at every decision: the smallest kernel of the largest expansion. Where there is
    /// nothing but Zero, Zero.
    pub fn seeds(&self) -> &Path {
        &self.seeds
    }

    /// The seeds, every second one that can be left out replaced by Zero: they learn to do without each other
    /// (stochastic depth, Huang et al., ECCV 2016), else Zero would look worse later than it is.
    pub fn sample_seeds(&self, rng: &mut impl Rng) -> Path {
        let identity = |slot: &Slot| matches!(slot, Slot::Identity);
        let draw = |(row, &seed): (&Vec<Slot>, &usize)| match row.iter().position(identity) {
            Some(zero) if rng.random_bool(0.5) => zero,
            _ => seed,
        };
        Path(self.decisions.iter().zip(&self.seeds.0).map(draw).collect())
    }

    /// Lets every candidate start from the weights of its decision's [seed](Self::seeds): see [`Module::inherit_from`].
    pub fn inherit(&mut self) -> Result<(), SearchError> {
        for (row, &choice) in self.decisions.iter_mut().zip(&self.seeds.0) {
            // Out of the row for as long as the others look at it.
            let source = std::mem::replace(&mut row[choice], Slot::Cut);
            if let Some(source) = source.module() {
                for module in row.iter_mut().filter_map(Slot::module_mut) {
                    module.inherit_from(source)?;
                }
            }
            row[choice] = source;
        }
        Ok(())
    }

    /// What the first decision takes of images (N x C x H x W).
    pub fn front(&self, images: &Tensor, mode: Mode) -> Result<Tensor, SearchError> {
        Ok(self.front.forward(images, mode)?)
    }

    /// Logits (N x classes) of what the last decision puts out.
    pub fn head(&self, x: &Tensor, mode: Mode) -> Result<Tensor, SearchError> {
        Ok(self.back.forward(x, mode)?)
    }

    /// The modules that a path goes through, in order; identities have none.
    pub fn chain(&mut self, path: &Path) -> Vec<&mut Module> {
        let chosen = self.decisions.iter_mut().zip(&path.0).filter_map(|(row, &choice)| row[choice].module_mut());
        std::iter::once(&mut self.front).chain(chosen).chain(std::iter::once(&mut self.back)).collect()
    }

    /// All modules with a name each that no other has.
    pub fn modules(&self) -> impl Iterator<Item = (String, &Module)> {
        let decisions = self.decisions.iter().enumerate().flat_map(|(decision, row)| {
            let candidates = row.iter().enumerate();
            candidates.filter_map(move |(choice, module)| Some((name(decision, choice), module.module()?)))
        });
        std::iter::once(("front".to_owned(), &self.front))
            .chain(decisions)
            .chain(std::iter::once(("back".to_owned(), &self.back)))
    }

    /// All modules with their names, to be restored.
    pub fn modules_mut(&mut self) -> impl Iterator<Item = (String, &mut Module)> {
        let decisions = self.decisions.iter_mut().enumerate().flat_map(|(decision, row)| {
            let candidates = row.iter_mut().enumerate();
            candidates.filter_map(move |(choice, module)| Some((name(decision, choice), module.module_mut()?)))
        });
        std::iter::once(("front".to_owned(), &mut self.front))
            .chain(decisions)
            .chain(std::iter::once(("back".to_owned(), &mut self.back)))
    }

    /// The weights of the network that a path derives.
    pub fn derive(&self, path: &Path) -> Result<Weights, SearchError> {
        let mut weights = Weights::default();
        self.front.collect(&mut weights)?;
        for (row, &choice) in self.decisions.iter().zip(&path.0) {
            if let Some(module) = row[choice].module() {
                module.collect(&mut weights)?;
            }
        }
        self.back.collect(&mut weights)?;
        Ok(weights)
    }
}

/// The smallest kernel of the largest expansion: its weights say most about the others'.
fn seed_of(candidates: &[Candidate]) -> usize {
    let rank = |candidate: &Candidate| match *candidate {
        Candidate::MbConv { kernel, expansion, groups } => {
            (expansion.unwrap_or(1), std::cmp::Reverse(groups), std::cmp::Reverse(kernel))
        }
        Candidate::Skip | Candidate::Zero => (0, std::cmp::Reverse(0), std::cmp::Reverse(0)),
    };
    let ranked = candidates.iter().enumerate().max_by_key(|(_, candidate)| rank(candidate));
    ranked.map_or(0, |(choice, _)| choice)
}

fn name(decision: usize, choice: usize) -> String {
    format!("decision{decision}.candidate{choice}")
}
