//! A network as a chain of modules, so that its backward pass can go block by block.

use fleetfoot_space::{Network, Weights};
use tch::{TchError, Tensor};

use crate::checkpoint::Checkpoint;
use crate::error::SearchError;
use crate::module::{Mode, Module, Parameter};
use crate::placement::Placement;

/// A network with its weights, one [`Module`] a unit: stem, blocks, head. Parameters are named as in the network.
#[derive(Debug)]
pub struct Chain {
    network: Network,
    placement: Placement,
    modules: Vec<Module>,
}

impl Chain {
    /// A network with given weights.
    pub fn new(network: Network, weights: &Weights, placement: impl Into<Placement>) -> Result<Self, SearchError> {
        let placement = placement.into();
        let modules = network.apart().into_iter().map(|unit| Module::new(unit, weights, placement));
        Ok(Self { modules: modules.collect::<Result<_, _>>()?, network, placement })
    }

    /// The weights that training from scratch starts from; `seed` draws them.
    pub fn initial(network: Network, seed: u64, placement: impl Into<Placement>) -> Result<Self, SearchError> {
        let weights = Weights::initial(&network, seed);
        Self::new(network, &weights, placement)
    }

    /// With a momentum of 0 for whatever learns: see [`Module::with_momentum`].
    pub fn with_momentum(self) -> Result<Self, SearchError> {
        let modules = self.modules.into_iter().map(Module::with_momentum);
        Ok(Self { modules: modules.collect::<Result<_, _>>()?, ..self })
    }

    /// The same network with other weights, without momentum.
    pub fn with(&self, weights: &Weights) -> Result<Self, SearchError> {
        Self::new(self.network.clone(), weights, self.placement)
    }

    /// The whole graph.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The modules in order, to be learned with.
    pub fn modules_mut(&mut self) -> Vec<&mut Module> {
        self.modules.iter_mut().collect()
    }

    /// All parameters in the order of the network's nodes, BN's running statistics included.
    pub fn parameters(&self) -> impl Iterator<Item = &Parameter> {
        self.modules.iter().flat_map(Module::parameters)
    }

    /// All parameters, to be updated.
    pub fn parameters_mut(&mut self) -> impl Iterator<Item = &mut Parameter> {
        self.modules.iter_mut().flat_map(Module::parameters_mut)
    }

    /// The network's output for inputs N x C x H x W: N x classes where the network ends in a linear layer.
    pub fn forward(&self, input: &Tensor, mode: Mode) -> Result<Tensor, TchError> {
        self.modules.iter().try_fold(input.shallow_clone(), |x, module| module.forward(&x, mode))
    }

    /// Copies of all parameters, as they are named in the network.
    pub fn weights(&self) -> Result<Weights, TchError> {
        let mut weights = Weights::default();
        self.modules.iter().try_for_each(|module| module.collect(&mut weights))?;
        Ok(weights)
    }

    /// Adds parameters and momentum to a checkpoint, as [`Checkpoint::add`] does.
    pub fn save(&self, prefix: &str, checkpoint: &mut Checkpoint) -> Result<(), SearchError> {
        self.modules.iter().try_for_each(|module| checkpoint.add(prefix, module))
    }

    /// Takes parameters and momentum out of a checkpoint again.
    pub fn restore(&mut self, prefix: &str, checkpoint: &Checkpoint) -> Result<(), SearchError> {
        self.modules.iter_mut().try_for_each(|module| checkpoint.restore(prefix, module))
    }
}
