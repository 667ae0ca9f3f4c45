//! ONNX models on their way to an agent.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use fleetfoot_protocol::hex;
use sha2::{Digest, Sha256};

/// An ONNX model's bytes, cheap to clone.
#[derive(Clone, Debug)]
pub struct Onnx(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bytes: Vec<u8>,
    digest: OnceLock<String>,
}

impl Onnx {
    /// SHA-256 in hexadecimal, computed when it is first asked for.
    pub fn digest(&self) -> &str {
        self.0.digest.get_or_init(|| hex(&Sha256::digest(&self.0.bytes)))
    }
}

impl Deref for Onnx {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0.bytes
    }
}

impl AsRef<[u8]> for Onnx {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<Vec<u8>> for Onnx {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Shared { bytes, digest: OnceLock::new() }))
    }
}

impl From<&Vec<u8>> for Onnx {
    fn from(bytes: &Vec<u8>) -> Self {
        bytes.clone().into()
    }
}

impl From<&[u8]> for Onnx {
    fn from(bytes: &[u8]) -> Self {
        bytes.to_vec().into()
    }
}

impl From<&Self> for Onnx {
    fn from(onnx: &Self) -> Self {
        onnx.clone()
    }
}
