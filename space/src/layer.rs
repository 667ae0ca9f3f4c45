//! Layers: the primitive computations that operators are made of.
//!
//! The ONNX writer and the libtorch builder are two interpreters of this list.

use crate::shape::Shape;

/// Momentum of batch normalisation's running statistics:
/// `running = (1 - momentum) * running + momentum * batch`.
pub const BATCH_NORM_MOMENTUM: f64 = 0.1;

/// One primitive computation on NCHW activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layer {
    /// Convolution without bias; the padding is `kernel / 2` on every side.
    Conv {
        /// Input channels.
        c_in: usize,
        /// Output channels.
        c_out: usize,
        /// Kernel size (odd, square).
        kernel: usize,
        /// Stride in both directions.
        stride: usize,
        /// Groups: `c_in` for a depthwise convolution.
        groups: usize,
    },
    /// Batch normalisation over the channels.
    BatchNorm {
        /// Channels.
        channels: usize,
    },
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// Interleaves the channels of `groups` groups: channel `g * (c / groups) + i` goes to `i * groups + g`.
    ChannelShuffle {
        /// Number of groups.
        groups: usize,
    },
    /// Sum of two activations of equal shape.
    Add,
    /// Mean over height and width; the output is N x C x 1 x 1.
    GlobalAveragePool,
    /// Fully connected with bias, on N x C x 1 x 1.
    Linear {
        /// Input features.
        c_in: usize,
        /// Output features.
        c_out: usize,
    },
}

/// How a parameter starts before training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Every element has this value.
    Constant(f32),
    /// Normal with mean 0 and this standard deviation.
    Normal(f32),
    /// Uniform between minus and plus this bound.
    Uniform(f32),
}

/// One tensor that a layer owns.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterSpec {
    /// The tensor's name within its layer, such as `weight` or `running_mean`.
    pub name: &'static str,
    /// Extents, outermost first.
    pub dims: Vec<usize>,
    /// Its value before training.
    pub init: Init,
    /// Whether it learns by gradient (BN's running statistics don't).
    pub trainable: bool,
}

/// A layer that can't be applied to an input.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum ShapeError {
    /// The channel count isn't what the layer wants.
    #[error("{layer} wants {want} input channels and got {got}")]
    Channels {
        /// The layer's name.
        layer: &'static str,
        /// What it wants.
        want: usize,
        /// What it got.
        got: usize,
    },
    /// The extents of an addition differ.
    #[error("addition of {0} and {1}: the shapes differ")]
    Unequal(Shape, Shape),
    /// A number of inputs that the layer doesn't take.
    #[error("{layer} takes {want} input(s) and got {got}")]
    Arity {
        /// The layer's name.
        layer: &'static str,
        /// What it takes.
        want: usize,
        /// What it got.
        got: usize,
    },
    /// A channel count that can't be divided into groups.
    #[error("{channels} channels can't be divided into {groups} groups")]
    Groups {
        /// The channels.
        channels: usize,
        /// The groups.
        groups: usize,
    },
}

impl Layer {
    /// The layer's kind, for messages.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Conv { .. } => "convolution",
            Self::BatchNorm { .. } => "batch normalisation",
            Self::Relu6 => "ReLU6",
            Self::ChannelShuffle { .. } => "channel shuffle",
            Self::Add => "addition",
            Self::GlobalAveragePool => "global average pooling",
            Self::Linear { .. } => "linear",
        }
    }

    /// The output's shape. This is the one shape rule of the project.
    pub fn out_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        let arity = if matches!(self, Self::Add) { 2 } else { 1 };
        if inputs.len() != arity {
            return Err(ShapeError::Arity { layer: self.kind(), want: arity, got: inputs.len() });
        }
        let x = inputs[0];
        let channels = |want: usize| {
            if x.c == want { Ok(()) } else { Err(ShapeError::Channels { layer: self.kind(), want, got: x.c }) }
        };
        let divisible = |channels: usize, groups: usize| {
            if groups > 0 && channels.is_multiple_of(groups) {
                Ok(())
            } else {
                Err(ShapeError::Groups { channels, groups })
            }
        };
        Ok(match *self {
            Self::Conv { c_in, c_out, stride, groups, .. } => {
                channels(c_in)?;
                divisible(c_in, groups)?;
                divisible(c_out, groups)?;
                // Odd kernel k with padding k/2: (h + 2*(k/2) - k) / stride + 1 = (h - 1) / stride + 1.
                Shape { c: c_out, h: (x.h - 1) / stride + 1, w: (x.w - 1) / stride + 1, ..x }
            }
            Self::BatchNorm { channels: c } => {
                channels(c)?;
                x
            }
            Self::Relu6 => x,
            Self::ChannelShuffle { groups } => {
                divisible(x.c, groups)?;
                x
            }
            Self::Add if x == inputs[1] => x,
            Self::Add => return Err(ShapeError::Unequal(x, inputs[1])),
            Self::GlobalAveragePool => Shape { h: 1, w: 1, ..x },
            Self::Linear { c_in, c_out } => {
                channels(c_in)?;
                Shape { c: c_out, ..x }
            }
        })
    }

    /// Multiply-accumulate operations of convolutions and linear layers for an output of this shape
    /// (the field's "FLOPs" of mobile networks); everything else counts 0.
    pub fn macs(&self, out: Shape) -> u64 {
        match *self {
            Self::Conv { c_in, kernel, groups, .. } => (out.elements() * kernel * kernel * (c_in / groups)) as u64,
            Self::Linear { c_in, .. } => (out.elements() * c_in) as u64,
            _ => 0,
        }
    }

    /// The tensors that the layer owns, with the initialisation of ProxylessNAS: convolutions
    /// N(0, sqrt(2 / (k^2 C_out))) with C_out not divided by the groups, BN weight 1 and bias 0,
    /// linear U(+-1/sqrt(fan_in)) with bias 0.
    pub fn parameters(&self) -> Vec<ParameterSpec> {
        let spec = |name, dims, init, trainable| ParameterSpec { name, dims, init, trainable };
        match *self {
            Self::Conv { c_in, c_out, kernel, groups, .. } => {
                let std = (2.0 / (kernel * kernel * c_out) as f32).sqrt();
                vec![spec("weight", vec![c_out, c_in / groups, kernel, kernel], Init::Normal(std), true)]
            }
            Self::BatchNorm { channels } => vec![
                spec("weight", vec![channels], Init::Constant(1.0), true),
                spec("bias", vec![channels], Init::Constant(0.0), true),
                spec("running_mean", vec![channels], Init::Constant(0.0), false),
                spec("running_var", vec![channels], Init::Constant(1.0), false),
            ],
            Self::Linear { c_in, c_out } => vec![
                spec("weight", vec![c_out, c_in], Init::Uniform(1.0 / (c_in as f32).sqrt()), true),
                spec("bias", vec![c_out], Init::Constant(0.0), true),
            ],
            Self::Relu6 | Self::ChannelShuffle { .. } | Self::Add | Self::GlobalAveragePool => Vec::new(),
        }
    }

    /// Number of trainable parameters (BN's weight and bias included).
    pub fn params(&self) -> u64 {
        let trainable = self.parameters().into_iter().filter(|spec| spec.trainable);
        trainable.map(|spec| spec.dims.iter().product::<usize>() as u64).sum()
    }
}
