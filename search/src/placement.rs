//! Where tensors lie, and in which numbers they are computed with.

use tch::{Kind, TchError, Tensor};

use crate::compute::Compute;
use crate::layout::Layout;
use crate::module::Mode;

/// Where tensors lie, and in which numbers modules compute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Memory order.
    pub layout: Layout,
    /// What holds them and computes.
    pub compute: Compute,
    /// Automatic mixed precision: whatever normalises by the batch's statistics, learning above all, keeps activations in
    /// bfloat16 and computes convolutions and the linear layer with copies of their weights in it. Parameters, momentum,
    /// statistics, gradients by parameters and logits are 32-bit floats; so is all that is evaluated by running statistics.
    pub amp: bool,
}

impl From<Layout> for Placement {
    /// In 32-bit floats on the CPU.
    fn from(layout: Layout) -> Self {
        Self { layout, ..Self::default() }
    }
}

impl Placement {
    /// As a run's settings say it.
    pub fn new(channels_last: bool, amp: bool, compute: Compute) -> Self {
        Self { layout: if channels_last { Layout::ChannelsLast } else { Layout::Nchw }, compute, amp }
    }

    /// A tensor of these values, row-major, with these extents.
    pub fn tensor(self, values: &[f32], dims: &[i64]) -> Result<Tensor, TchError> {
        self.layout.arrange(&Tensor::f_from_slice(values)?.f_reshape(dims)?)?.f_to(self.compute.device())
    }

    /// The numbers of a module's activations.
    pub fn numbers(self, mode: Mode) -> Kind {
        match mode {
            Mode::Train | Mode::Probe if self.amp => Kind::BFloat16,
            _ => Kind::Float,
        }
    }
}
