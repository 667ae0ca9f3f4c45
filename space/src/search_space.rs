//! Search spaces: what may be chosen, and the network that a choice makes.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use rand::{Rng, RngExt};

use crate::architecture::{Architecture, ArchitectureParseError};
use crate::candidate::{Candidate, Decision};
use crate::key::OperatorKey;
use crate::network::{Network, NetworkError, Unit};
use crate::operator::Operator;
use crate::shape::{Precision, Shape};
use crate::space_file::{Definition, NamedArchitecture};
use crate::text::without_mark;
use crate::width::{WidthMultiplier, WidthMultiplierParseError, WidthText};

/// The presets that ship, by name.
const PRESETS: [(&str, &str); 6] = [
    ("proxyless-224", include_str!("../presets/proxyless-224.toml")),
    ("mobilenetv2-224", include_str!("../presets/mobilenetv2-224.toml")),
    ("fbnet-224", include_str!("../presets/fbnet-224.toml")),
    ("fbnet-32", include_str!("../presets/fbnet-32.toml")),
    ("cifar-32", include_str!("../presets/cifar-32.toml")),
    ("fashion-28", include_str!("../presets/fashion-28.toml")),
];

/// A search space: fixed units in front and behind, and decisions between them.
#[derive(Clone, Debug)]
pub struct SearchSpace {
    name: String,
    text: Arc<str>,
    definition: Definition,
    input: Shape,
    front: Vec<Unit>,
    decisions: Vec<Decision>,
    back: Vec<Unit>,
}

/// A space that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SpaceError {
    /// The name is neither a preset nor a file.
    #[error("no search space '{0}': it is neither a preset ({presets}) nor a file", presets = preset_names().collect::<Vec<_>>().join(", "))]
    Unknown(String),
    /// The file can't be read.
    #[error("search space {path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The text isn't what a space file looks like.
    #[error("search space {origin}: {source}")]
    Toml {
        /// File or preset.
        origin: String,
        /// Where and what.
        source: Box<toml::de::Error>,
    },
    /// The parts don't make a network.
    #[error("search space {origin}: {what}")]
    Impossible {
        /// File or preset.
        origin: String,
        /// What doesn't fit.
        what: String,
    },
    /// The text is no architecture of this space.
    #[error("{0}; named architectures of the space: {1}")]
    Architecture(ArchitectureParseError, String),
    /// The number of digits is wrong.
    #[error(
        "architecture '{architecture}' has {got} choices, but space '{space}' has {want} decisions; named architectures of the space: {names}"
    )]
    Length {
        /// The architecture.
        architecture: String,
        /// Its digits.
        got: usize,
        /// The space.
        space: String,
        /// The space's decisions.
        want: usize,
        /// The architectures that have names.
        names: String,
    },
    /// What stands behind the `@` is no width multiplier.
    #[error("architecture '{architecture}': {source}")]
    Width {
        /// The architecture.
        architecture: String,
        /// What is wrong.
        source: WidthMultiplierParseError,
    },
    /// A digit names no candidate.
    #[error("architecture '{architecture}': choice '{digit}' at position {position} is out of range, decision {decision} has {candidates} candidates (0 to {last})", last = candidates - 1)]
    Choice {
        /// The architecture.
        architecture: String,
        /// The choice.
        digit: char,
        /// Where, counted from 1.
        position: usize,
        /// The decision's name.
        decision: String,
        /// How many candidates it has.
        candidates: usize,
    },
    /// A named architecture that is none of the space's own.
    #[error(
        "architecture '{architecture}' has widths of its own: it is none of those that space '{space}' chooses from"
    )]
    Widened {
        /// Its name.
        architecture: String,
        /// The space.
        space: String,
    },
    /// A network that can't be built.
    #[error(transparent)]
    Network(#[from] NetworkError),
}

/// Names of the presets.
pub fn preset_names() -> impl Iterator<Item = &'static str> {
    PRESETS.iter().map(|(name, _)| *name)
}

impl SearchSpace {
    /// A preset by name, or a TOML file by path.
    pub fn load(name_or_path: &str) -> Result<Self, SpaceError> {
        if let Some((name, text)) = PRESETS.iter().find(|(name, _)| *name == name_or_path) {
            return Self::from_toml(text, name);
        }
        let path = Path::new(name_or_path);
        if !path.exists() {
            return Err(SpaceError::Unknown(name_or_path.to_owned()));
        }
        let text =
            std::fs::read_to_string(path).map_err(|source| SpaceError::Io { path: name_or_path.to_owned(), source })?;
        Self::from_toml(without_mark(&text), name_or_path)
    }

    /// From the text of a space file; `origin` is named in errors.
    pub fn from_toml(text: &str, origin: &str) -> Result<Self, SpaceError> {
        let definition: Definition = toml::from_str(text)
            .map_err(|source| SpaceError::Toml { origin: origin.to_owned(), source: Box::new(source) })?;
        let impossible = |what: String| SpaceError::Impossible { origin: origin.to_owned(), what };
        let space = Self::from_definition(definition, text.into()).map_err(impossible)?;
        for name in space.definition.architectures.keys() {
            let network = space.resolve(name).and_then(|(space, architecture)| space.network(&architecture));
            network.map_err(|error| impossible(format!("named architecture '{name}': {error}")))?;
        }
        Ok(space)
    }

    fn from_definition(definition: Definition, text: Arc<str>) -> Result<Self, String> {
        definition.check()?;
        let input = definition.input_shape();
        let unit = |name: &str, operator: Operator, input: Shape| Unit {
            name: name.to_owned(),
            key: OperatorKey { operator, input, precision: Precision::Fp32 },
        };
        let out = |unit: &Unit| {
            let network = Network::of_unit(&unit.key, definition.bn_eps).map_err(|error| error.to_string())?;
            Ok::<Shape, String>(network.out_shape())
        };
        let mut front = vec![unit("stem", definition.stem_operator(), input)];
        let mut shape = out(&front[0])?;
        if let Some(operator) = definition.first_block_operator(shape.c) {
            front.push(unit("first", operator, shape));
            shape = out(&front[1])?;
        }
        let mut decisions = Vec::new();
        for (stage, spec) in definition.stages.iter().enumerate() {
            for block in 0..spec.depth {
                let mut decision = Decision {
                    name: format!("stage{}.{block}", stage + 1),
                    stage,
                    input: shape,
                    c_out: definition.width(spec.channels),
                    stride: if block == 0 { spec.stride } else { 1 },
                    candidates: Vec::new(),
                };
                let offered = spec.candidates.as_ref().unwrap_or(&definition.candidates).iter();
                let zero_fits = decision.has_shortcut();
                decision.candidates = offered.map(|c| c.0).filter(|&c| zero_fits || c != Candidate::Zero).collect();
                let mut blocks = decision.candidates.iter().filter(|&&c| !decision.is_identity(c)).peekable();
                if blocks.peek().is_none() {
                    let name = decision.name;
                    return Err(format!("decision {name} has no candidate but the identity: nothing to choose"));
                }
                // Every candidate must be possible here: groups have to divide the widths.
                for &candidate in blocks {
                    shape = out(&unit(&decision.name, decision.operator(candidate), decision.input))?;
                }
                decisions.push(decision);
            }
        }
        let back = vec![unit("head", definition.head_operator(shape.c), shape)];
        out(&back[0])?;
        Ok(Self { name: definition.name.clone(), text, definition, input, front, decisions, back })
    }

    /// The space's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that it was read from, as it stood there: to be kept beside what is made of the space.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// A text that two spaces have in common if and only if they make the same networks of the same choices, whatever else
    /// their files say.
    pub fn signature(&self) -> String {
        let unit = |unit: &Unit| format!("{} {}", unit.name, unit.key);
        let decision = |decision: &Decision| {
            let keys =
                decision.candidates.iter().map(|&candidate| decision.key(candidate, Precision::Fp32).to_string());
            format!("{} {}", decision.name, keys.collect::<Vec<String>>().join("|"))
        };
        let units = self.front.iter().map(unit).chain(self.decisions.iter().map(decision));
        let units: Vec<String> = units.chain(self.back.iter().map(unit)).collect();
        format!("bn_eps {};{}", self.bn_eps(), units.join(";"))
    }

    /// Shape of the input images, batch 1.
    pub fn input(&self) -> Shape {
        self.input
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.definition.classes
    }

    /// The factor by which its channels are those of its file, or of a named architecture's own widths.
    pub fn width_multiplier(&self) -> f64 {
        self.definition.width_multiplier
    }

    /// Epsilon of batch normalisation.
    pub fn bn_eps(&self) -> f32 {
        self.definition.bn_eps
    }

    /// The fixed units in front of the decisions, batch 1.
    pub fn front(&self) -> &[Unit] {
        &self.front
    }

    /// The decisions in order.
    pub fn decisions(&self) -> &[Decision] {
        &self.decisions
    }

    /// The fixed units behind the decisions, batch 1.
    pub fn back(&self) -> &[Unit] {
        &self.back
    }

    /// Names of the architectures that the space's file gives a name to.
    pub fn architecture_names(&self) -> impl Iterator<Item = &str> {
        self.definition.architectures.keys().map(String::as_str)
    }

    /// Whether a text stands for an architecture by more than its digits: by a name that the space's file gives, or with a
    /// width multiplier.
    pub fn is_name(&self, text: &str) -> bool {
        self.definition.architectures.contains_key(text) || text.contains('@')
    }

    /// The one way to write what a text stands for: `k3e6@0.750` is `k3e6@0.75`.
    pub fn canonical(&self, text: &str) -> Result<String, SpaceError> {
        Ok(self.width_text(text)?.to_string())
    }

    fn width_text(&self, text: &str) -> Result<WidthText, SpaceError> {
        // A name may hold anything, an @ too.
        if self.definition.architectures.contains_key(text) {
            return Ok(WidthText { base: text.to_owned(), multiplier: WidthMultiplier::ONE });
        }
        text.parse().map_err(|source| SpaceError::Width { architecture: text.to_owned(), source })
    }

    /// The architecture that a text stands for, checked against the decisions: digits, or a name that the space's file
    /// gives, either with a [`WidthMultiplier`], such as `k3e6@0.75`. A named architecture may have widths of its own, too.
    /// The space returned is this one in the architecture's widths.
    pub fn resolve(&self, text: &str) -> Result<(Self, Architecture), SpaceError> {
        let WidthText { base, multiplier } = self.width_text(text)?;
        let (space, architecture) = self.resolve_base(&base)?;
        if multiplier == WidthMultiplier::ONE {
            Ok((space, architecture))
        } else {
            space.widen(&architecture, multiplier)
        }
    }

    fn resolve_base(&self, text: &str) -> Result<(Self, Architecture), SpaceError> {
        let Some(named) = self.definition.architectures.get(text) else {
            return Ok((self.clone(), self.parse_architecture(text)?));
        };
        let space = match named {
            NamedArchitecture::Choices(_) => self.clone(),
            NamedArchitecture::Widths(widths) => {
                let definition = self.definition.with_widths(widths).map_err(|what| self.impossible(what))?;
                self.redefined(definition)?
            }
        };
        let architecture = space.parse_architecture(named.choices())?;
        Ok((space, architecture))
    }

    /// The space so much wider, and the architecture of the same candidates there. Where two widths become one, the
    /// identity is a further candidate: digits behind it are others.
    fn widen(&self, architecture: &Architecture, by: WidthMultiplier) -> Result<(Self, Architecture), SpaceError> {
        let space = self.redefined(self.definition.widened(by))?;
        let chosen = self.choose(architecture).map(|(_, candidate)| candidate).zip(&space.decisions);
        let places = chosen.map(|(chosen, decision)| decision.candidates.iter().position(|&other| other == chosen));
        let architecture = places.collect::<Option<Vec<usize>>>().and_then(Architecture::new);
        let architecture =
            architecture.ok_or_else(|| self.impossible(format!("{by} times as wide, a candidate is missing")))?;
        Ok((space, architecture))
    }

    /// This space by another definition.
    fn redefined(&self, definition: Definition) -> Result<Self, SpaceError> {
        Self::from_definition(definition, Arc::clone(&self.text)).map_err(|what| self.impossible(what))
    }

    fn impossible(&self, what: String) -> SpaceError {
        SpaceError::Impossible { origin: self.name.clone(), what }
    }

    /// As [`resolve`](Self::resolve), but one in the space's own widths.
    pub fn resolve_own(&self, text: &str) -> Result<Architecture, SpaceError> {
        let (space, architecture) = self.resolve(text)?;
        match space.is_as_wide_as(self) {
            true => Ok(architecture),
            false => Err(SpaceError::Widened { architecture: text.to_owned(), space: self.name.clone() }),
        }
    }

    /// Whether it has the same units as another one.
    pub fn is_as_wide_as(&self, other: &Self) -> bool {
        self.decisions == other.decisions && self.front == other.front && self.back == other.back
    }

    /// Digits, checked against the decisions.
    pub fn parse_architecture(&self, text: &str) -> Result<Architecture, SpaceError> {
        let architecture: Architecture = text.parse().map_err(|error| SpaceError::Architecture(error, self.names()))?;
        self.check(&architecture)?;
        Ok(architecture)
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.architecture_names().collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }

    /// Whether an architecture is one of this space.
    pub fn check(&self, architecture: &Architecture) -> Result<(), SpaceError> {
        if architecture.len() != self.decisions.len() {
            return Err(SpaceError::Length {
                architecture: architecture.to_string(),
                got: architecture.len(),
                space: self.name.clone(),
                want: self.decisions.len(),
                names: self.names(),
            });
        }
        for (index, (choice, decision)) in architecture.choices().zip(&self.decisions).enumerate() {
            if choice >= decision.candidates.len() {
                return Err(SpaceError::Choice {
                    architecture: architecture.to_string(),
                    digit: char::from_digit(choice as u32, 36).unwrap_or('?'),
                    position: index + 1,
                    decision: decision.name.clone(),
                    candidates: decision.candidates.len(),
                });
            }
        }
        Ok(())
    }

    /// The candidates that an architecture chooses.
    pub fn choose<'a>(
        &'a self,
        architecture: &'a Architecture,
    ) -> impl Iterator<Item = (&'a Decision, Candidate)> + 'a {
        let pairs = self.decisions.iter().zip(architecture.choices());
        pairs.map(|(decision, choice)| (decision, decision.candidates[choice]))
    }

    /// The network of an architecture at batch 1 in fp32.
    pub fn network(&self, architecture: &Architecture) -> Result<Network, SpaceError> {
        self.network_at(architecture, 1, Precision::Fp32)
    }

    /// The network of an architecture.
    pub fn network_at(
        &self,
        architecture: &Architecture,
        batch: usize,
        precision: Precision,
    ) -> Result<Network, SpaceError> {
        self.check(architecture)?;
        let mut network = Network::empty(self.input.with_batch(batch), precision, self.bn_eps());
        for unit in &self.front {
            network.push(&unit.name, unit.key.operator)?;
        }
        for (decision, candidate) in self.choose(architecture) {
            network.push(&decision.name, decision.operator(candidate))?;
        }
        for unit in &self.back {
            network.push(&unit.name, unit.key.operator)?;
        }
        Ok(network)
    }

    /// Every distinct unit of the space except Zero, in the order of first appearance.
    pub fn distinct_units(&self, batch: usize, precision: Precision) -> Vec<OperatorKey> {
        let candidates = self.decisions.iter().flat_map(|decision| {
            let blocks = decision.candidates.iter().filter(|&&candidate| !decision.is_identity(candidate));
            blocks.map(|&candidate| decision.key(candidate, precision))
        });
        let front = self.front.iter().map(|unit| unit.key);
        let back = self.back.iter().map(|unit| unit.key);
        let mut seen = HashSet::new();
        front
            .chain(candidates)
            .chain(back)
            .map(|key| key.at(batch, precision))
            .filter(|key| seen.insert(*key))
            .collect()
    }

    /// An architecture drawn uniformly: every decision's candidates are equally probable.
    pub fn random(&self, rng: &mut impl Rng) -> Architecture {
        let choices = self.decisions.iter().map(|decision| rng.random_range(0..decision.candidates.len()));
        Architecture::new(choices.collect()).unwrap_or_else(|| unreachable!("the space has at most 36 candidates"))
    }

    /// Number of architectures (as a float: spaces pass 10^17).
    pub fn size(&self) -> f64 {
        self.decisions.iter().map(|decision| decision.candidates.len() as f64).product()
    }

    /// The named architectures with their choices.
    pub fn named_architectures(&self) -> BTreeMap<&str, &str> {
        self.definition.architectures.iter().map(|(name, named)| (name.as_str(), named.choices())).collect()
    }
}
