//! The key under which a measured unit is found again.

use std::fmt;
use std::str::FromStr;

use crate::operator::{Operator, OperatorParseError};
use crate::shape::{Precision, PrecisionParseError, Shape, ShapeParseError};

/// An operator, the shape it is applied to and the precision it computes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OperatorKey {
    /// The operator.
    pub operator: Operator,
    /// Its input's shape, the batch included.
    pub input: Shape,
    /// The number format.
    pub precision: Precision,
}

impl OperatorKey {
    /// The same unit at another batch size and in another precision.
    pub const fn at(self, batch: usize, precision: Precision) -> Self {
        Self { input: self.input.with_batch(batch), precision, ..self }
    }
}

impl fmt::Display for OperatorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}:{}", self.operator, self.input, self.precision)
    }
}

/// A text that is no key.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum KeyParseError {
    /// The form is wrong.
    #[error(
        "'{0}' is not an operator key: wanted OPERATOR@NxCxHxW:PRECISION, such as mbconv-k3-e6-s1-i16-o16-g1-skip@1x16x14x14:fp32"
    )]
    Form(String),
    /// The operator is wrong.
    #[error(transparent)]
    Operator(#[from] OperatorParseError),
    /// The shape is wrong.
    #[error("{0}")]
    Shape(String),
    /// The precision is wrong.
    #[error("{0}")]
    Precision(String),
}

impl From<ShapeParseError> for KeyParseError {
    fn from(error: ShapeParseError) -> Self {
        Self::Shape(error.to_string())
    }
}

impl From<PrecisionParseError> for KeyParseError {
    fn from(error: PrecisionParseError) -> Self {
        Self::Precision(error.to_string())
    }
}

impl FromStr for OperatorKey {
    type Err = KeyParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || KeyParseError::Form(text.to_owned());
        let (operator, rest) = text.split_once('@').ok_or_else(form)?;
        let (input, precision) = rest.split_once(':').ok_or_else(form)?;
        Ok(Self { operator: operator.parse()?, input: input.parse()?, precision: precision.parse()? })
    }
}
