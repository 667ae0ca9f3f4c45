//! The values of a network's parameters, by name.

use std::collections::BTreeMap;
use std::path::Path;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal, Uniform};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::layer::Init;
use crate::network::Network;

/// A dense fp32 tensor, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Extents, outermost first.
    pub dims: Vec<usize>,
    /// `dims.product()` values.
    pub data: Vec<f32>,
}

/// A network's parameters: `NODE.PARAMETER`, such as `stage2.0.expand.bn.running_mean`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights(BTreeMap<String, Tensor>);

/// Weights that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// A parameter of the network is missing.
    #[error("the weights have no tensor '{0}': they belong to another network")]
    Missing(String),
    /// A parameter has the wrong extents.
    #[error("tensor '{name}' is {got:?}, the network wants {want:?}: the weights belong to another network")]
    Extents {
        /// The tensor.
        name: String,
        /// What it is.
        got: Vec<usize>,
        /// What the network wants.
        want: Vec<usize>,
    },
    /// An activation whose range isn't known.
    #[error("nobody chose the range of '{0}': an int8 model needs one for every activation")]
    Range(String),
    /// The file can't be read.
    #[error("weights {path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not in safetensors form, or holds something but fp32.
    #[error("weights {path}: {what}")]
    Format {
        /// The file.
        path: String,
        /// What is wrong.
        what: String,
    },
}

impl Weights {
    /// Random weights that keep activations near unit variance: convolutions N(0, 2 / fan_in), BN away from the
    /// identity in all four of its tensors. For measuring and for tests; training starts from [`Layer`](crate::Layer)'s
    /// own initialisation ([`initial`](Self::initial)).
    pub fn random(network: &Network, seed: u64) -> Self {
        Self::fill(network, seed, |name, init, dims| match (init, name) {
            (Init::Normal(_), _) => {
                let fan_in: usize = dims[1..].iter().product();
                Init::Normal((2.0 / fan_in as f32).sqrt())
            }
            (Init::Uniform(bound), _) => Init::Uniform(bound),
            (Init::Constant(_), "bias" | "running_mean") => Init::Normal(0.1),
            (Init::Constant(value), _) => Init::Uniform(value),
        })
    }

    /// The weights that training from scratch starts from.
    pub fn initial(network: &Network, seed: u64) -> Self {
        Self::fill(network, seed, |_, init, _| init)
    }

    fn fill(network: &Network, seed: u64, how: impl Fn(&str, Init, &[usize]) -> Init) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut tensors = BTreeMap::new();
        for node in network.nodes() {
            for spec in node.layer.parameters() {
                let len = spec.dims.iter().product();
                let data: Vec<f32> = match how(spec.name, spec.init, &spec.dims) {
                    // BN's weight and variance stay positive.
                    Init::Uniform(value) if spec.name == "running_var" || spec.init == Init::Constant(1.0) => {
                        sample(&mut rng, len, Uniform::new(0.5 * value, 1.5 * value))
                    }
                    Init::Constant(value) => vec![value; len],
                    Init::Normal(std) => sample(&mut rng, len, Normal::new(0.0, std)),
                    Init::Uniform(bound) => sample(&mut rng, len, Uniform::new(-bound, bound)),
                };
                tensors.insert(format!("{}.{}", node.name, spec.name), Tensor { dims: spec.dims, data });
            }
        }
        Self(tensors)
    }

    /// Adds or replaces a tensor.
    pub fn insert(&mut self, name: impl Into<String>, tensor: Tensor) {
        self.0.insert(name.into(), tensor);
    }

    /// All tensors in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// A tensor that must have these extents.
    pub fn get(&self, name: &str, dims: &[usize]) -> Result<&Tensor, WeightsError> {
        let tensor = self.0.get(name).ok_or_else(|| WeightsError::Missing(name.to_owned()))?;
        if tensor.dims == dims && tensor.data.len() == dims.iter().product::<usize>() {
            return Ok(tensor);
        }
        let (got, want) = (tensor.dims.clone(), dims.to_vec());
        Err(WeightsError::Extents { name: name.to_owned(), got, want })
    }

    /// The bytes of a safetensors file, with text metadata.
    pub fn to_safetensors(&self, metadata: BTreeMap<String, String>) -> Result<Vec<u8>, WeightsError> {
        let format = |what: String| WeightsError::Format { path: "(in memory)".to_owned(), what };
        let bytes: Vec<(&str, &Tensor, Vec<u8>)> = self
            .iter()
            .map(|(name, tensor)| (name, tensor, tensor.data.iter().flat_map(|x| x.to_le_bytes()).collect()))
            .collect();
        let views = bytes
            .iter()
            .map(|(name, tensor, data)| {
                let view = TensorView::new(Dtype::F32, tensor.dims.clone(), data);
                view.map(|view| (*name, view)).map_err(|error| format(error.to_string()))
            })
            .collect::<Result<Vec<_>, _>>()?;
        safetensors::serialize(views, Some(metadata.into_iter().collect())).map_err(|error| format(error.to_string()))
    }

    /// Reads a safetensors file of fp32 tensors.
    pub fn read(path: &Path) -> Result<Self, WeightsError> {
        let origin = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|source| WeightsError::Io { path: origin.clone(), source })?;
        let format = |what: String| WeightsError::Format { path: origin.clone(), what };
        let file = SafeTensors::deserialize(&bytes).map_err(|error| format(error.to_string()))?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.tensors() {
            if view.dtype() != Dtype::F32 {
                return Err(format(std::format!("tensor '{name}' is {:?}, wanted F32", view.dtype())));
            }
            let (values, _) = view.data().as_chunks::<4>();
            let data = values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            tensors.insert(name, Tensor { dims: view.shape().to_vec(), data });
        }
        Ok(Self(tensors))
    }
}

/// The bounds come from layers' definitions and are always valid.
fn sample<D: Distribution<f32>, E: std::fmt::Debug>(rng: &mut ChaCha8Rng, len: usize, d: Result<D, E>) -> Vec<f32> {
    match d {
        Ok(distribution) => distribution.sample_iter(rng).take(len).collect(),
        Err(error) => unreachable!("an initialisation without a distribution: {error:?}"),
    }
}
