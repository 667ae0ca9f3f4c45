//! Tensor shapes and number formats.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The shape of an activation, NCHW, the batch included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shape {
    /// Batch size.
    pub n: usize,
    /// Channels.
    pub c: usize,
    /// Height in pixels.
    pub h: usize,
    /// Width in pixels.
    pub w: usize,
}

impl Shape {
    /// A shape from its four extents.
    pub const fn new(n: usize, c: usize, h: usize, w: usize) -> Self {
        Self { n, c, h, w }
    }

    /// Number of elements, the batch included.
    pub const fn elements(&self) -> usize {
        self.n * self.c * self.h * self.w
    }

    /// The same shape with another batch size.
    pub const fn with_batch(self, n: usize) -> Self {
        Self { n, ..self }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}x{}", self.n, self.c, self.h, self.w)
    }
}

/// A text that is no shape.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{0}' is not a shape: wanted batch x channels x height x width, such as 1x16x14x14")]
pub struct ShapeParseError(pub String);

impl FromStr for Shape {
    type Err = ShapeParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let extents: Option<Vec<usize>> = text.split('x').map(|part| part.parse().ok()).collect();
        match extents.as_deref() {
            Some(&[n, c, h, w]) if [n, c, h, w].iter().all(|x| (1..1 << 16).contains(x)) => Ok(Self::new(n, c, h, w)),
            _ => Err(ShapeParseError(text.to_owned())),
        }
    }
}

/// The number format that a network computes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// IEEE single precision.
    #[default]
    Fp32,
    /// IEEE half precision.
    Fp16,
    /// Eight-bit integers (QDQ).
    Int8,
}

impl Precision {
    /// Bytes of one element.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Fp32 => 4,
            Self::Fp16 => 2,
            Self::Int8 => 1,
        }
    }

    /// The name used in tables and configurations.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::Int8 => "int8",
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A text that is no precision.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{0}' is not a precision: wanted fp32, fp16 or int8")]
pub struct PrecisionParseError(pub String);

impl FromStr for Precision {
    type Err = PrecisionParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Fp32, Self::Fp16, Self::Int8]
            .into_iter()
            .find(|precision| precision.name() == text)
            .ok_or_else(|| PrecisionParseError(text.to_owned()))
    }
}
