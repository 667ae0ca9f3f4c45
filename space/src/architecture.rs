//! Architectures: one choice per decision of a search space.

use std::fmt;
use std::str::FromStr;

/// One choice per decision: the index in that decision's candidate list.
/// Written as a base-36 digit per decision, such as `206640225322222255445`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Architecture(Vec<u8>);

/// The most candidates that a decision may have, given by the notation.
pub const MAX_CANDIDATES: usize = 36;

impl Architecture {
    /// From indices below [`MAX_CANDIDATES`]; `None` if one is not.
    pub fn new(choices: Vec<usize>) -> Option<Self> {
        let digit = |choice: usize| u8::try_from(choice).ok().filter(|&d| usize::from(d) < MAX_CANDIDATES);
        choices.into_iter().map(digit).collect::<Option<Vec<u8>>>().map(Self)
    }

    /// The choice of every decision.
    pub fn choices(&self) -> impl ExactSizeIterator<Item = usize> + '_ {
        self.0.iter().map(|&digit| usize::from(digit))
    }

    /// Number of decisions.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no decision at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: String = self.0.iter().filter_map(|&d| char::from_digit(u32::from(d), 36)).collect();
        f.pad(&text)
    }
}

/// A text that is no architecture.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("'{text}' is not an architecture: '{found}' at position {position} is not a digit 0-9 or a-z")]
pub struct ArchitectureParseError {
    /// The whole text.
    pub text: String,
    /// What can't be read.
    pub found: char,
    /// Where, counted from 1.
    pub position: usize,
}

impl FromStr for Architecture {
    type Err = ArchitectureParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digit = |(index, found): (usize, char)| match found.to_digit(36) {
            Some(digit) if !found.is_ascii_uppercase() => Ok(digit as u8),
            _ => Err(ArchitectureParseError { text: text.to_owned(), found, position: index + 1 }),
        };
        text.chars().enumerate().map(digit).collect::<Result<Vec<u8>, _>>().map(Self)
    }
}
