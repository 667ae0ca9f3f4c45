//! Checkpoints: named tensors and a JSON state in one safetensors file, whole or not there.

use std::collections::BTreeMap;
use std::path::Path;

use fleetfoot_profiler::write_atomically;
use fleetfoot_space::{Tensor as Plain, Weights};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tch::{Tensor, no_grad};

use crate::compute::Compute;
use crate::error::SearchError;
use crate::group::Group;
use crate::learning::Account;
use crate::module::{Module, Parameter};

/// Version of the checkpoint's form.
const FORMAT: &str = "2";
/// Entries of the metadata for the time that the run had taken, for how long of that it had waited for batches and gates
/// had learned, for what had computed, and for corrupt images.
const SECONDS: &str = "seconds";
const WAITED: &str = "waited_seconds";
const GATES: &str = "gate_seconds";
const COMPUTED_ON: &str = "computed_on";
const CORRUPT: &str = "corrupt";
/// How many processes learned together.
const RANKS: &str = "ranks";
/// Suffix of a parameter's momentum.
const MOMENTUM: &str = "#momentum";

/// A generator's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RngState {
    seed: [u8; 32],
    stream: u64,
    /// A text: JSON numbers end at 2^53.
    position: String,
}

impl RngState {
    /// The state of a generator.
    pub fn of(rng: &ChaCha8Rng) -> Self {
        Self { seed: rng.get_seed(), stream: rng.get_stream(), position: rng.get_word_pos().to_string() }
    }

    /// A generator in this state; `None` where the position is no number.
    pub fn generator(&self) -> Option<ChaCha8Rng> {
        let mut rng = ChaCha8Rng::from_seed(self.seed);
        rng.set_stream(self.stream);
        rng.set_word_pos(self.position.parse().ok()?);
        Some(rng)
    }
}

/// Tensors under their names, with a state beside them.
#[derive(Debug, Default)]
pub struct Checkpoint {
    tensors: Weights,
    /// What the run had taken and met.
    pub account: Account,
}

impl Checkpoint {
    /// An empty one of a run that has taken and met so much.
    pub fn of(account: Account) -> Self {
        Self { account, ..Self::default() }
    }

    /// Adds a module's parameters and their momentum; every name gets the prefix. Weights that are no numbers are an error: what
    /// was saved before them is good, and stays.
    pub fn add(&mut self, prefix: &str, module: &Module) -> Result<(), SearchError> {
        for parameter in module.parameters() {
            let name = format!("{prefix}/{}", parameter.name);
            if let Some(momentum) = &parameter.momentum {
                let momentum = Parameter {
                    name: String::new(),
                    value: momentum.shallow_clone(),
                    trainable: false,
                    momentum: None,
                };
                self.tensors.insert(format!("{name}{MOMENTUM}"), momentum.to_weights()?);
            }
            let weights = parameter.to_weights()?;
            if parameter.trainable && weights.data.iter().any(|value| !value.is_finite()) {
                return Err(SearchError::NotFinite { tensor: name });
            }
            self.tensors.insert(name, weights);
        }
        Ok(())
    }

    /// Writes the file, with a state.
    pub fn write(&self, path: &Path, state: &impl Serialize) -> Result<(), SearchError> {
        let broken = |what: String| SearchError::Checkpoint { path: path.to_path_buf(), what };
        let state = serde_json::to_string(state).map_err(|error| broken(error.to_string()))?;
        let Account { seconds, waited_seconds, gate_seconds, computed_on, ranks, corrupt } = &self.account;
        let corrupt = serde_json::to_string(corrupt).map_err(|error| broken(error.to_string()))?;
        let computed_on = serde_json::to_string(computed_on).map_err(|error| broken(error.to_string()))?;
        let ranks = serde_json::to_string(ranks).map_err(|error| broken(error.to_string()))?;
        let metadata = BTreeMap::from([
            (RANKS.to_owned(), ranks),
            ("fleetfoot_checkpoint".to_owned(), FORMAT.to_owned()),
            ("state".to_owned(), state),
            (SECONDS.to_owned(), seconds.to_string()),
            (WAITED.to_owned(), waited_seconds.to_string()),
            (GATES.to_owned(), gate_seconds.to_string()),
            (COMPUTED_ON.to_owned(), computed_on),
            (CORRUPT.to_owned(), corrupt),
        ]);
        write_atomically(path, &self.tensors.to_safetensors(metadata)?).map_err(SearchError::io(path))
    }

    /// Reads a file and its state, as rank 0 has it, on all ranks.
    pub fn read<S: DeserializeOwned>(path: &Path, group: &Group) -> Result<(Self, S), SearchError> {
        let broken = |what: String| SearchError::Checkpoint { path: path.to_path_buf(), what };
        let bytes = group.file_of_first(path)?;
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).map_err(|error| broken(error.to_string()))?;
        let metadata = header.metadata().clone().unwrap_or_default();
        if metadata.get("fleetfoot_checkpoint").map(String::as_str) != Some(FORMAT) {
            return Err(broken(format!("it is no checkpoint of format {FORMAT}")));
        }
        let state = metadata.get("state").ok_or_else(|| broken("it has no state".to_owned()))?;
        let state = serde_json::from_str(state).map_err(|error| broken(error.to_string()))?;
        let seconds = |name: &str| metadata.get(name).and_then(|text| text.parse().ok());
        let account = Account {
            seconds: seconds(SECONDS).ok_or_else(|| broken("it doesn't say how long the run took".to_owned()))?,
            // Checkpoints of earlier versions have neither.
            waited_seconds: seconds(WAITED).unwrap_or_default(),
            gate_seconds: seconds(GATES).unwrap_or_default(),
            computed_on: match metadata.get(COMPUTED_ON) {
                Some(text) => serde_json::from_str(text).map_err(|error| broken(error.to_string()))?,
                // Nothing else could.
                None => vec![Compute::Cpu],
            },
            ranks: match metadata.get(RANKS) {
                Some(text) => serde_json::from_str(text).map_err(|error| broken(error.to_string()))?,
                None => vec![1],
            },
            corrupt: match metadata.get(CORRUPT) {
                Some(text) => serde_json::from_str(text).map_err(|error| broken(error.to_string()))?,
                None => Vec::new(),
            },
        };
        Ok((Self { tensors: Weights::of_bytes(&bytes, path)?, account }, state))
    }

    /// Puts a module's parameters and their momentum back.
    pub fn restore(&self, prefix: &str, module: &mut Module) -> Result<(), SearchError> {
        let placement = module.placement();
        let tensor = |plain: &Plain| -> Result<Tensor, SearchError> {
            let dims: Vec<i64> = plain.dims.iter().map(|&extent| extent as i64).collect();
            Ok(placement.tensor(&plain.data, &dims)?)
        };
        for parameter in module.parameters_mut() {
            let name = format!("{prefix}/{}", parameter.name);
            let dims: Vec<usize> = parameter.value.size().into_iter().map(|extent| extent as usize).collect();
            let value = tensor(self.tensors.get(&name, &dims)?)?;
            no_grad(|| parameter.value.f_copy_(&value).map(drop))?;
            let momentum = self.tensors.get(&format!("{name}{MOMENTUM}"), &dims);
            parameter.momentum = momentum.ok().map(tensor).transpose()?;
        }
        Ok(())
    }

    /// SHA-256 over all tensors and a state, in hexadecimal: equal for equal runs.
    pub fn hash(&self, state: &impl Serialize) -> String {
        let mut hash = Sha256::new();
        for (name, tensor) in self.tensors.iter() {
            hash.update(name.as_bytes());
            tensor.data.iter().for_each(|value| hash.update(value.to_bits().to_le_bytes()));
        }
        hash.update(serde_json::to_vec(state).unwrap_or_default());
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
