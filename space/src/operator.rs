//! Operators: the blocks that a search space chooses from, each defined as a small graph of layers.

use std::fmt;
use std::str::FromStr;

use crate::layer::Layer;
use crate::network::Source;

/// A block of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operator {
    /// Convolution, BN, ReLU6.
    Conv {
        /// Kernel size.
        kernel: usize,
        /// Stride.
        stride: usize,
        /// Input channels.
        c_in: usize,
        /// Output channels.
        c_out: usize,
        /// Groups.
        groups: usize,
    },
    /// Mobile inverted bottleneck: 1x1 expansion, BN, ReLU6 (which blocks of expansion ratio 1 may lack); depthwise
    /// convolution, BN, ReLU6; 1x1 projection, BN; plus the input where `shortcut`.
    MbConv {
        /// Kernel size of the depthwise convolution.
        kernel: usize,
        /// Expansion ratio: hidden channels / input channels. `None` where there is no expansion convolution, as in
        /// MobileNetV2 at ratio 1; FBNet has it there, too.
        expansion: Option<usize>,
        /// Stride of the depthwise convolution.
        stride: usize,
        /// Input channels.
        c_in: usize,
        /// Output channels.
        c_out: usize,
        /// Groups of the two 1x1 convolutions; above 1 the channels are shuffled behind the first of them.
        groups: usize,
        /// Whether the input is added to the output.
        shortcut: bool,
    },
    /// 1x1 convolution, BN, ReLU6, global average pooling, linear with bias.
    Head {
        /// Input channels.
        c_in: usize,
        /// Channels of the 1x1 convolution.
        c_hidden: usize,
        /// Classes.
        classes: usize,
    },
    /// Nothing: the output is the input, at no cost.
    Zero,
}

/// A layer within an operator; `Source::Input` is the operator's input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Name within the operator.
    pub name: String,
    /// What it computes.
    pub layer: Layer,
    /// From where.
    pub inputs: Vec<Source>,
}

/// Builds the list of layers one behind the other.
#[derive(Default)]
struct Parts(Vec<Part>);

impl Parts {
    fn last(&self) -> Source {
        self.0.len().checked_sub(1).map_or(Source::Input, Source::Node)
    }

    fn push(&mut self, name: impl Into<String>, layer: Layer) {
        let inputs = vec![self.last()];
        self.0.push(Part { name: name.into(), layer, inputs });
    }

    fn conv_bn(&mut self, name: &str, (c_in, c_out): (usize, usize), kernel: usize, stride: usize, groups: usize) {
        self.push(format!("{name}.conv"), Layer::Conv { c_in, c_out, kernel, stride, groups });
        self.push(format!("{name}.bn"), Layer::BatchNorm { channels: c_out });
    }
}

impl Operator {
    /// The layers, in topological order; the last one's output is the operator's. Empty for Zero.
    pub fn layers(&self) -> Vec<Part> {
        let mut parts = Parts::default();
        match *self {
            Self::Conv { kernel, stride, c_in, c_out, groups } => {
                parts.conv_bn("main", (c_in, c_out), kernel, stride, groups);
                parts.push("main.act", Layer::Relu6);
            }
            Self::MbConv { kernel, expansion, stride, c_in, c_out, groups, shortcut } => {
                let hidden = c_in * expansion.unwrap_or(1);
                if expansion.is_some() {
                    parts.conv_bn("expand", (c_in, hidden), 1, 1, groups);
                    parts.push("expand.act", Layer::Relu6);
                    if groups > 1 {
                        parts.push("expand.shuffle", Layer::ChannelShuffle { groups });
                    }
                }
                parts.conv_bn("depthwise", (hidden, hidden), kernel, stride, hidden);
                parts.push("depthwise.act", Layer::Relu6);
                parts.conv_bn("project", (hidden, c_out), 1, 1, groups);
                if shortcut {
                    let inputs = vec![parts.last(), Source::Input];
                    parts.0.push(Part { name: "shortcut".to_owned(), layer: Layer::Add, inputs });
                }
            }
            Self::Head { c_in, c_hidden, classes } => {
                parts.conv_bn("features", (c_in, c_hidden), 1, 1, 1);
                parts.push("features.act", Layer::Relu6);
                parts.push("pool", Layer::GlobalAveragePool);
                parts.push("classifier", Layer::Linear { c_in: c_hidden, c_out: classes });
            }
            Self::Zero => {}
        }
        parts.0
    }

    /// The operator's kind as tables name it: `conv`, `mbconv`, `head` or `zero`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Conv { .. } => "conv",
            Self::MbConv { .. } => "mbconv",
            Self::Head { .. } => "head",
            Self::Zero => "zero",
        }
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        match *self {
            Self::Conv { kernel, stride, c_in, c_out, groups } => {
                write!(f, "-k{kernel}-s{stride}-i{c_in}-o{c_out}-g{groups}")
            }
            Self::MbConv { kernel, expansion, stride, c_in, c_out, groups, shortcut } => {
                write!(f, "-k{kernel}-e{}-s{stride}-i{c_in}-o{c_out}-g{groups}", ExpansionText(expansion))?;
                if shortcut { f.write_str("-skip") } else { Ok(()) }
            }
            Self::Head { c_in, c_hidden, classes } => write!(f, "-i{c_in}-h{c_hidden}-o{classes}"),
            Self::Zero => Ok(()),
        }
    }
}

/// An expansion ratio as it is written: `1` without an expansion convolution, `1x` where there is one all the same.
pub(crate) struct ExpansionText(pub Option<usize>);

impl fmt::Display for ExpansionText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("1"),
            Some(1) => f.write_str("1x"),
            Some(ratio) => write!(f, "{ratio}"),
        }
    }
}

/// Reads what [`ExpansionText`] writes; ratios above `most` are none.
pub(crate) fn parse_expansion(text: &str, most: usize) -> Option<Option<usize>> {
    match text {
        "1" => Some(None),
        "1x" => Some(Some(1)),
        _ => text.parse().ok().filter(|ratio| (2..=most).contains(ratio)).map(Some),
    }
}

/// A text that is no operator.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error(
    "'{0}' is not an operator that fleetfoot knows: wanted conv-…, mbconv-…, head-… or zero, such as mbconv-k3-e6-s1-i16-o16-g1-skip"
)]
pub struct OperatorParseError(pub String);

impl FromStr for Operator {
    type Err = OperatorParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_operator(text)
            .filter(|operator| operator.to_string() == text)
            .ok_or_else(|| OperatorParseError(text.to_owned()))
    }
}

/// Above it the product of four extents would overflow.
const MOST_EXTENT: usize = 1 << 16;

fn parse_operator(text: &str) -> Option<Operator> {
    let mut parts = text.split('-');
    let kind = parts.next()?;
    let mut text_of = |letter: char| parts.next()?.strip_prefix(letter);
    let number = |text: Option<&str>| text?.parse().ok().filter(|number| (1..=MOST_EXTENT).contains(number));
    // Padding k/2 is "same" for odd kernels only.
    let odd = |text: Option<&str>| number(text).filter(|number| number % 2 == 1);
    let operator = match kind {
        "conv" => Operator::Conv {
            kernel: odd(text_of('k'))?,
            stride: number(text_of('s'))?,
            c_in: number(text_of('i'))?,
            c_out: number(text_of('o'))?,
            groups: number(text_of('g'))?,
        },
        "mbconv" => Operator::MbConv {
            kernel: odd(text_of('k'))?,
            expansion: parse_expansion(text_of('e')?, MOST_EXTENT)?,
            stride: number(text_of('s'))?,
            c_in: number(text_of('i'))?,
            c_out: number(text_of('o'))?,
            groups: number(text_of('g'))?,
            shortcut: text.ends_with("-skip"),
        },
        "head" => Operator::Head {
            c_in: number(text_of('i'))?,
            c_hidden: number(text_of('h'))?,
            classes: number(text_of('o'))?,
        },
        "zero" => Operator::Zero,
        _ => return None,
    };
    Some(operator)
}
