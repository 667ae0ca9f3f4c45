//! The values of a network's parameters, by name.

use std::collections::BTreeMap;
use std::path::Path;

use half::{bf16, f16};
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
    /// The file is not in safetensors form, or holds something but floats.
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

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
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

    /// The bytes of a safetensors file, with text metadata; equal bytes for equal weights and metadata.
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
        let file = safetensors::serialize(views, Some(metadata.into_iter().collect()));
        let file = file.map_err(|error| format(error.to_string()))?;
        ordered(file).ok_or_else(|| format("a header that can't be read again".to_owned()))
    }

    /// Reads a safetensors file of floats; all become fp32. PyTorch's counts of batches (`num_batches_tracked`) are no
    /// weights and are passed over.
    pub fn read(path: &Path) -> Result<Self, WeightsError> {
        let origin = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|source| WeightsError::Io { path: origin, source })?;
        Self::of_bytes(&bytes, path)
    }

    /// The same of a file's bytes; errors name the path.
    pub fn of_bytes(bytes: &[u8], path: &Path) -> Result<Self, WeightsError> {
        let format = |what: String| WeightsError::Format { path: path.display().to_string(), what };
        let file = SafeTensors::deserialize(bytes).map_err(|error| format(error.to_string()))?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.tensors().into_iter().filter(|(name, _)| !name.ends_with(".num_batches_tracked")) {
            let data = floats(view.dtype(), view.data()).ok_or_else(|| {
                format(std::format!("tensor '{name}' is {:?}, wanted F32, F16, BF16 or F64", view.dtype()))
            })?;
            tensors.insert(name, Tensor { dims: view.shape().to_vec(), data });
        }
        Ok(Self(tensors))
    }
}

/// The file with its header's entries in the order of their names: the metadata's come in any order, another one each time.
fn ordered(mut file: Vec<u8>) -> Option<Vec<u8>> {
    let (length, rest) = file.split_first_chunk_mut::<8>()?;
    let header = rest.get_mut(..usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    let entries: BTreeMap<String, BTreeMap<String, serde_json::Value>> = serde_json::from_slice(header).ok()?;
    let mut text = serde_json::to_vec(&entries).ok().filter(|text| text.len() <= header.len())?;
    // Its end is filled up with blanks, as it was.
    text.resize(header.len(), b' ');
    header.copy_from_slice(&text);
    Some(file)
}

/// Little-endian floats; `None` for other types.
fn floats(kind: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    fn each<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f32) -> Option<Vec<f32>> {
        Some(bytes.as_chunks::<N>().0.iter().map(|bytes| read(*bytes)).collect())
    }
    match kind {
        Dtype::F32 => each(bytes, f32::from_le_bytes),
        Dtype::F64 => each(bytes, |bytes| f64::from_le_bytes(bytes) as f32),
        Dtype::F16 => each(bytes, |bytes| f16::from_le_bytes(bytes).to_f32()),
        Dtype::BF16 => each(bytes, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        _ => None,
    }
}

/// The bounds come from layers' definitions and are always valid.
fn sample<D: Distribution<f32>, E: std::fmt::Debug>(rng: &mut ChaCha8Rng, len: usize, d: Result<D, E>) -> Vec<f32> {
    match d {
        Ok(distribution) => distribution.sample_iter(rng).take(len).collect(),
        Err(error) => unreachable!("an initialisation without a distribution: {error:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata() -> BTreeMap<String, String> {
        (0..12).map(|index| (format!("key {index}"), format!("\"{index}\" ä"))).collect()
    }

    #[test]
    fn equal_weights_are_equal_bytes_that_say_what_was_said() {
        let tensor = |value: f32| Tensor { dims: vec![2, 1], data: vec![value, -value] };
        let weights = Weights(BTreeMap::from([("b".to_owned(), tensor(1.5)), ("a.x".to_owned(), tensor(0.25))]));
        let bytes = weights.to_safetensors(metadata()).unwrap();
        for _ in 0..5 {
            assert_eq!(weights.to_safetensors(metadata()).unwrap(), bytes);
        }
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(header.metadata().clone().unwrap().into_iter().collect::<BTreeMap<_, _>>(), metadata());
        let file = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(floats(Dtype::F32, file.tensor("b").unwrap().data()).unwrap(), [1.5, -1.5]);
    }

    #[test]
    fn floats_of_any_size_are_read() {
        let (half, brain) = (f16::from_f32(-0.5).to_le_bytes(), bf16::from_f32(3.0).to_le_bytes());
        assert_eq!(floats(Dtype::F16, &half), Some(vec![-0.5]));
        assert_eq!(floats(Dtype::BF16, &brain), Some(vec![3.0]));
        assert_eq!(floats(Dtype::F64, &2.5f64.to_le_bytes()), Some(vec![2.5]));
        assert_eq!(floats(Dtype::I64, &[0; 8]), None);
    }
}
