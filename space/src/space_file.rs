//! The TOML form of a search space.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Deserializer};

use crate::architecture::MAX_CANDIDATES;
use crate::candidate::Candidate;
use crate::operator::Operator;
use crate::shape::Shape;
use crate::width::WidthMultiplier;

/// The largest channel count, image side or class count that is taken seriously.
const MAX_EXTENT: usize = 1 << 15;

/// A space file as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Definition {
    pub name: String,
    pub classes: usize,
    input: Image,
    #[serde(default = "default_bn_eps")]
    pub bn_eps: f32,
    #[serde(default = "default_multiplier")]
    pub width_multiplier: f64,
    pub candidates: Vec<CandidateText>,
    stem: Stem,
    first_block: Option<FirstBlock>,
    pub stages: Vec<Stage>,
    head: Head,
    #[serde(default)]
    pub architectures: BTreeMap<String, NamedArchitecture>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    channels: usize,
    height: usize,
    width: usize,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stem {
    channels: usize,
    #[serde(default = "default_kernel")]
    kernel: usize,
    #[serde(default = "default_stride")]
    stride: usize,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FirstBlock {
    channels: usize,
    #[serde(default = "default_kernel")]
    kernel: usize,
    #[serde(default = "default_expansion")]
    expansion: usize,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stage {
    pub channels: usize,
    pub depth: usize,
    pub stride: usize,
    pub candidates: Option<Vec<CandidateText>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    channels: usize,
}

/// A named architecture: its choices, and possibly widths of its own.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "a text of choices, or a table with choices, stem, first_block, stages and head")]
pub(crate) enum NamedArchitecture {
    Choices(String),
    Widths(Widths),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Widths {
    choices: String,
    stem: usize,
    first_block: Option<usize>,
    stages: Vec<usize>,
    head: usize,
}

impl NamedArchitecture {
    pub fn choices(&self) -> &str {
        match self {
            Self::Choices(choices) => choices,
            Self::Widths(widths) => &widths.choices,
        }
    }
}

/// A candidate as it is written, such as `k3e6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CandidateText(pub Candidate);

impl<'de> Deserialize<'de> for CandidateText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

fn default_bn_eps() -> f32 {
    1e-3
}

fn default_multiplier() -> f64 {
    1.0
}

fn default_kernel() -> usize {
    3
}

fn default_stride() -> usize {
    2
}

fn default_expansion() -> usize {
    1
}

impl Definition {
    /// Channels under the width multiplier.
    pub fn width(&self, channels: usize) -> usize {
        self.multiplier().channels(channels)
    }

    /// The file's; [`check`](Self::check) makes sure that it is one.
    fn multiplier(&self) -> WidthMultiplier {
        WidthMultiplier::new(self.width_multiplier).unwrap_or(WidthMultiplier::ONE)
    }

    /// The definition, so much wider.
    pub fn widened(&self, by: WidthMultiplier) -> Self {
        Self { width_multiplier: self.width_multiplier * by.factor(), ..self.clone() }
    }

    pub fn input_shape(&self) -> Shape {
        Shape::new(1, self.input.channels, self.input.height, self.input.width)
    }

    pub fn stem_operator(&self) -> Operator {
        let Stem { channels, kernel, stride } = self.stem;
        Operator::Conv { kernel, stride, c_in: self.input.channels, c_out: self.width(channels), groups: 1 }
    }

    pub fn first_block_operator(&self, c_in: usize) -> Option<Operator> {
        let FirstBlock { channels, kernel, expansion } = *self.first_block.as_ref()?;
        let c_out = self.width(channels);
        let expansion = (expansion != 1).then_some(expansion);
        Some(Operator::MbConv { kernel, expansion, stride: 1, c_in, c_out, groups: 1, shortcut: false })
    }

    pub fn head_operator(&self, c_in: usize) -> Operator {
        Operator::Head { c_in, c_hidden: self.multiplier().head_channels(self.head.channels), classes: self.classes }
    }

    /// The definition with a named architecture's widths in place of its own.
    pub fn with_widths(&self, widths: &Widths) -> Result<Self, String> {
        if widths.stages.len() != self.stages.len() {
            return Err(format!("{} stage widths given for {} stages", widths.stages.len(), self.stages.len()));
        }
        let mut definition = self.clone();
        definition.width_multiplier = 1.0;
        definition.stem.channels = widths.stem;
        match (&mut definition.first_block, widths.first_block) {
            (Some(block), Some(width)) => block.channels = width,
            (None, None) => {}
            (None, Some(_)) => return Err("a width is given for a first block that the space hasn't".to_owned()),
            (Some(_), None) => return Err("no width is given for the first block that the space has".to_owned()),
        }
        for (stage, &width) in definition.stages.iter_mut().zip(&widths.stages) {
            stage.channels = width;
        }
        definition.head.channels = widths.head;
        Ok(definition)
    }

    /// What a well-formed file can still get wrong.
    pub fn check(&self) -> Result<(), String> {
        let extent = |what: &str, value: usize| {
            if (1..=MAX_EXTENT).contains(&value) {
                Ok(())
            } else {
                Err(format!("{what} = {value}: wanted 1 to {MAX_EXTENT}"))
            }
        };
        let channels = |what: &str, value: usize| {
            extent(what, value)?;
            extent(&format!("{what} times the width multiplier"), self.width(value))
        };
        let odd = |what: &str, value: usize| {
            if value % 2 == 1 && value < 64 {
                Ok(())
            } else {
                Err(format!("{what} = {value}: a kernel size is odd and below 64"))
            }
        };
        if self.name.is_empty() || self.name.chars().any(char::is_control) {
            return Err("name: wanted a text without control characters".to_owned());
        }
        extent("classes", self.classes)?;
        extent("input.channels", self.input.channels)?;
        extent("input.height", self.input.height)?;
        extent("input.width", self.input.width)?;
        if !(self.bn_eps.is_finite() && self.bn_eps > 0.0) {
            return Err(format!("bn_eps = {}: wanted a positive number", self.bn_eps));
        }
        if WidthMultiplier::new(self.width_multiplier).is_none() {
            return Err(format!("width_multiplier = {}: wanted a number above 0, up to 64", self.width_multiplier));
        }
        channels("stem.channels", self.stem.channels)?;
        odd("stem.kernel", self.stem.kernel)?;
        extent("stem.stride", self.stem.stride)?;
        if let Some(block) = &self.first_block {
            channels("first_block.channels", block.channels)?;
            odd("first_block.kernel", block.kernel)?;
            extent("first_block.expansion", block.expansion)?;
        }
        channels("head.channels", self.head.channels)?;
        if self.stages.is_empty() {
            return Err("there is no stage: nothing to choose".to_owned());
        }
        check_candidates("candidates", &self.candidates)?;
        for (index, stage) in self.stages.iter().enumerate() {
            let name = format!("stages[{index}]");
            channels(&format!("{name}.channels"), stage.channels)?;
            extent(&format!("{name}.stride"), stage.stride)?;
            if !(1..=256).contains(&stage.depth) {
                return Err(format!("{name}.depth = {}: wanted 1 to 256", stage.depth));
            }
            if let Some(candidates) = &stage.candidates {
                check_candidates(&format!("{name}.candidates"), candidates)?;
            }
        }
        Ok(())
    }
}

fn check_candidates(what: &str, candidates: &[CandidateText]) -> Result<(), String> {
    if candidates.is_empty() || candidates.len() > MAX_CANDIDATES {
        return Err(format!("{what}: wanted 1 to {MAX_CANDIDATES} candidates, got {}", candidates.len()));
    }
    let mut seen = HashSet::new();
    match candidates.iter().find(|candidate| !seen.insert(**candidate)) {
        Some(twice) => Err(format!("{what}: {} stands there twice", twice.0)),
        None => Ok(()),
    }
}
