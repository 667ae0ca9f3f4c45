//! What a campaign measures.

use std::collections::BTreeMap;

use fleetfoot_protocol::hex;
use fleetfoot_space::{Network, NetworkError, SpaceError, Weights, WeightsError, write_onnx};
use sha2::{Digest, Sha256};

use crate::latency::Latency;
use crate::model::Onnx;

/// Seed of the random weights of measured models: their values don't matter, but equal bytes make runs repeatable.
const WEIGHT_SEED: u64 = 0;

/// A model to measure.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Its name in the journal.
    pub name: String,
    /// The model.
    pub onnx: Onnx,
    /// Bytes to touch before every run.
    pub evict_bytes: u64,
    /// What a run of it took in another campaign, at whose speed the others are to be measured, too.
    pub reference: Option<Latency>,
}

/// A subject that can't be built.
#[derive(Debug, thiserror::Error)]
pub enum SubjectError {
    /// The unit doesn't fit its input.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The architecture isn't one of the space.
    #[error(transparent)]
    Space(#[from] Box<SpaceError>),
    /// It can't be written.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

impl Subject {
    /// A network with random weights, measured in a loop.
    pub fn of_network(name: String, network: &Network) -> Result<Self, SubjectError> {
        let onnx = write_onnx(network, &Weights::random(network, WEIGHT_SEED), &BTreeMap::new())?;
        Ok(Self { name, onnx: onnx.into(), evict_bytes: 0, reference: None })
    }

    /// SHA-256 over the subjects' models and evictions, in hexadecimal.
    pub fn digest(subjects: &[Self]) -> String {
        let mut hash = Sha256::new();
        for subject in subjects {
            hash.update((subject.onnx.len() as u64).to_le_bytes());
            hash.update(&subject.onnx);
            hash.update(subject.evict_bytes.to_le_bytes());
        }
        hex(&hash.finalize())
    }
}
