//! Decisions and the candidates that they choose from.

use std::fmt;
use std::str::FromStr;

use crate::key::OperatorKey;
use crate::operator::{ExpansionText, Operator, parse_expansion};
use crate::shape::{Precision, Shape};

/// What a decision can be set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Candidate {
    /// An inverted bottleneck.
    MbConv {
        /// Kernel size.
        kernel: usize,
        /// Expansion ratio; `None` where there is no expansion convolution.
        expansion: Option<usize>,
        /// Groups of the 1x1 convolutions.
        groups: usize,
    },
    /// The identity where the shape stays; else a 1x1 convolution, BN, ReLU6 that changes it.
    Skip,
    /// No block at all: the identity. Offered only where the shape stays.
    Zero,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MbConv { kernel, expansion, groups: 1 } => f.pad(&format!("k{kernel}e{}", ExpansionText(*expansion))),
            Self::MbConv { kernel, expansion, groups } => {
                f.pad(&format!("k{kernel}e{}g{groups}", ExpansionText(*expansion)))
            }
            Self::Skip => f.pad("skip"),
            Self::Zero => f.pad("zero"),
        }
    }
}

/// A text that is no candidate.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error(
    "unknown operator '{0}': wanted 'zero', 'skip', or a kernel size (odd) and an expansion ratio such as 'k3e6', with groups such as 'k3e6g2'"
)]
pub struct CandidateParseError(pub String);

impl FromStr for Candidate {
    type Err = CandidateParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| text.parse::<usize>().ok().filter(|n| (1..=64).contains(n));
        let block = || {
            let (kernel, rest) = text.strip_prefix('k')?.split_once('e')?;
            let (expansion, groups) = rest.split_once('g').map_or((rest, None), |(e, g)| (e, Some(g)));
            let kernel = number(kernel).filter(|kernel| kernel % 2 == 1)?;
            // One group is the convolution as it is, and isn't written.
            let groups = groups.map_or(Some(1), |groups| number(groups).filter(|groups| *groups > 1))?;
            Some(Self::MbConv { kernel, expansion: parse_expansion(expansion, 64)?, groups })
        };
        match text {
            "zero" => Ok(Self::Zero),
            "skip" => Ok(Self::Skip),
            // As it is written, so that a block has one name: no signs, no zeros in front.
            _ => block()
                .filter(|candidate| candidate.to_string() == text)
                .ok_or_else(|| CandidateParseError(text.to_owned())),
        }
    }
}

/// A place in the network where one of several candidates stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The unit's name, such as `stage2.0`.
    pub name: String,
    /// Index of its stage.
    pub stage: usize,
    /// Shape of its input, batch 1.
    pub input: Shape,
    /// Output channels.
    pub c_out: usize,
    /// Stride.
    pub stride: usize,
    /// What can be chosen; Zero only where stride 1 and equal channels permit the identity.
    pub candidates: Vec<Candidate>,
}

impl Decision {
    /// The operator that a candidate stands for here. Blocks that could be the identity have a shortcut.
    pub fn operator(&self, candidate: Candidate) -> Operator {
        match candidate {
            Candidate::MbConv { kernel, expansion, groups } => Operator::MbConv {
                kernel,
                expansion,
                stride: self.stride,
                c_in: self.input.c,
                c_out: self.c_out,
                groups,
                shortcut: self.has_shortcut(),
            },
            Candidate::Skip if !self.has_shortcut() => {
                Operator::Conv { kernel: 1, stride: self.stride, c_in: self.input.c, c_out: self.c_out, groups: 1 }
            }
            Candidate::Skip | Candidate::Zero => Operator::Zero,
        }
    }

    /// Whether a candidate computes nothing here: its output is its input.
    pub fn is_identity(&self, candidate: Candidate) -> bool {
        self.operator(candidate) == Operator::Zero
    }

    /// Whether the input can be added to the output.
    pub fn has_shortcut(&self) -> bool {
        self.stride == 1 && self.input.c == self.c_out
    }

    /// The measurable unit of a candidate at batch 1.
    pub fn key(&self, candidate: Candidate, precision: Precision) -> OperatorKey {
        OperatorKey { operator: self.operator(candidate), input: self.input, precision }
    }
}
