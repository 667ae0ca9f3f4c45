//! The order in which images and convolution weights lie in memory.

use std::fmt;

use tch::{TchError, Tensor};

/// Memory order of four-dimensional tensors. Shapes are NCHW either way; only strides differ.
///
/// Channels-last is the default: libtorch's depthwise convolutions are several times faster in it, backwards above all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// Width innermost.
    Nchw,
    /// Channels innermost (NHWC strides).
    #[default]
    ChannelsLast,
}

impl Layout {
    /// The same values in this memory order; tensors with other than four dimensions become plainly contiguous.
    pub fn arrange(self, tensor: &Tensor) -> Result<Tensor, TchError> {
        match self {
            Self::ChannelsLast if tensor.dim() == 4 => {
                tensor.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2])
            }
            _ => tensor.f_contiguous(),
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Nchw => "nchw",
            Self::ChannelsLast => "channels-last",
        })
    }
}
