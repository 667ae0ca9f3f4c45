//! Convolutions without bias, forwards and backwards, as small maps permit.
//!
//! Behind a kernel's middle, at most `extent - 1` taps to each side ever meet the map; the others meet zeros that pad it. On a
//! single pixel that leaves the middle tap: a dense convolution is a product of matrices there, a depthwise one a factor a
//! channel. libtorch computes all taps, and on a single pixel, whose memory order it can't tell, by a slow way besides: in
//! images of 32 x 32, the last two stages of ProxylessNAS's space took a third of a step.

use tch::{Device, Kind, TchError, Tensor};

use crate::native::{Conv, Wanted, conv_backward};

/// What is convolved.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    /// Taps in each direction; odd.
    pub kernel: usize,
    /// Pixels from one output to the next.
    pub stride: usize,
    /// Groups of channels.
    pub groups: usize,
    /// Channels of the input.
    pub c_in: usize,
    /// The larger extent of the map.
    pub extent: usize,
}

/// How it is computed.
enum Way {
    /// A product of matrices.
    Dense,
    /// A factor a channel.
    Depthwise,
    /// So many taps in each direction.
    Taps(usize),
}

impl Geometry {
    fn way(&self) -> Way {
        match (self.extent, self.groups) {
            (1, 1) => Way::Dense,
            (1, groups) if groups == self.c_in => Way::Depthwise,
            _ => Way::Taps(self.kernel.min(2 * self.extent - 1)),
        }
    }

    /// The weight's middle taps, so many in each direction.
    fn middle(&self, weight: &Tensor, taps: usize) -> Result<Tensor, TchError> {
        let (start, length) = (((self.kernel - taps) / 2) as i64, taps as i64);
        weight.f_narrow(2, start, length)?.f_narrow(3, start, length)
    }

    fn with(&self, taps: usize) -> Conv {
        Conv { stride: self.stride as i64, padding: (taps / 2) as i64, groups: self.groups as i64 }
    }

    /// The output (N x C_out x H' x W') of x (N x C_in x H x W) and a weight (C_out x C_in / groups x k x k), in the numbers
    /// of x: the weight is copied into them where it has others.
    pub fn forward(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor, TchError> {
        let weight = &weight.f_to_kind(x.f_kind()?)?;
        match self.way() {
            Way::Dense => {
                let middle = self.middle(weight, 1)?.f_flatten(1, -1)?;
                x.f_flatten(1, -1)?.f_linear(&middle, None::<&Tensor>)?.f_unsqueeze(2)?.f_unsqueeze(3)
            }
            Way::Depthwise if weight.size()[0] == self.c_in as i64 => {
                x.f_mul(&self.middle(weight, 1)?.f_reshape([1, -1, 1, 1])?)
            }
            // Several outputs a channel are none of our spaces' blocks.
            Way::Depthwise => self.convolved(x, weight, 1),
            Way::Taps(taps) => self.convolved(x, weight, taps),
        }
    }

    fn convolved(&self, x: &Tensor, weight: &Tensor, taps: usize) -> Result<Tensor, TchError> {
        let Conv { stride, padding, groups } = self.with(taps);
        let weight =
            if taps < self.kernel { self.middle(weight, taps)?.f_contiguous()? } else { weight.shallow_clone() };
        x.f_conv2d(&weight, None::<&Tensor>, [stride, stride], [padding, padding], [1, 1], groups)
    }

    /// Gradients by libtorch's kernels. Of depthwise convolutions in bfloat16, those for the CPU are slow by the weight, two to
    /// six times as slow as in 32-bit floats, and with strides by the input, ninety times (libtorch 2.13, 5 x 5 taps, an EPYC
    /// with AVX512_BF16): these are computed in 32-bit floats.
    fn convolved_backward(
        &self,
        slope: &Tensor,
        x: &Tensor,
        weight: &Tensor,
        taps: usize,
        wanted: Wanted,
    ) -> Result<(Option<Tensor>, Option<Tensor>), TchError> {
        let (numbers, conv) = (x.f_kind()?, self.with(taps));
        let slow = numbers == Kind::BFloat16 && x.device() == Device::Cpu && self.groups == self.c_in;
        if !slow {
            return conv_backward(slope, x, weight, conv, wanted);
        }
        let as_it_is = Wanted { by_input: wanted.by_input && self.stride == 1, by_weight: false };
        let widened = Wanted { by_input: wanted.by_input && self.stride > 1, ..wanted };
        let (by_input, _) = match as_it_is.by_input {
            true => conv_backward(slope, x, weight, conv, as_it_is)?,
            false => (None, None),
        };
        if !widened.by_input && !widened.by_weight {
            return Ok((by_input, None));
        }
        let [slope, x, weight] = [slope, x, weight].map(|tensor| tensor.f_to_kind(Kind::Float));
        let (strided, by_weight) = conv_backward(&slope?, &x?, &weight?, conv, widened)?;
        let strided = strided.map(|by_input| by_input.f_to_kind(numbers)).transpose()?;
        Ok((by_input.or(strided), by_weight))
    }

    /// Gradients by the input and by the weight, as far as they are wanted, from those by the output. The first are in the
    /// numbers of x, as the slope is, the second in those of the weight.
    pub fn backward(
        &self,
        slope: &Tensor,
        x: &Tensor,
        weight: &Tensor,
        wanted: Wanted,
    ) -> Result<(Option<Tensor>, Option<Tensor>), TchError> {
        let (numbers, weight) = (weight.f_kind()?, &weight.f_to_kind(x.f_kind()?)?);
        let own = |run: &dyn Fn() -> Result<Tensor, TchError>, wanted: bool| wanted.then(run).transpose();
        let (by_input, by_middle, taps) = match self.way() {
            Way::Dense => {
                let (flat, middle) = (slope.f_flatten(1, -1)?, self.middle(weight, 1)?.f_flatten(1, -1)?);
                let by_input = own(&|| flat.f_matmul(&middle)?.f_view_as(x), wanted.by_input)?;
                let size = [weight.size()[0], weight.size()[1], 1, 1];
                let by_middle =
                    own(&|| flat.f_transpose(0, 1)?.f_matmul(&x.f_flatten(1, -1)?)?.f_view(size), wanted.by_weight)?;
                (by_input, by_middle, 1)
            }
            Way::Depthwise if weight.size()[0] == self.c_in as i64 => {
                let middle = self.middle(weight, 1)?.f_reshape([1, -1, 1, 1])?;
                let by_input = own(&|| slope.f_mul(&middle), wanted.by_input)?;
                let sum = || {
                    let sum = slope.f_mul(x)?.f_sum_dim_intlist([0].as_slice(), false, numbers)?;
                    sum.f_reshape([-1, 1, 1, 1])
                };
                (by_input, own(&sum, wanted.by_weight)?, 1)
            }
            way => {
                let taps = if let Way::Taps(taps) = way { taps } else { 1 };
                let cut = taps < self.kernel;
                let middle = if cut { self.middle(weight, taps)?.f_contiguous()? } else { weight.shallow_clone() };
                let (by_input, by_middle) = self.convolved_backward(slope, x, &middle, taps, wanted)?;
                (by_input, by_middle, taps)
            }
        };
        let by_middle = by_middle.map(|middle| middle.f_to_kind(numbers)).transpose()?;
        if taps == self.kernel {
            return Ok((by_input, by_middle));
        }
        // Taps that only ever meet padding have no gradient.
        let whole = |middle: Tensor| -> Result<Tensor, TchError> {
            let whole = weight.f_zeros_like()?.f_to_kind(numbers)?.f_set_requires_grad(false)?;
            let mut place = self.middle(&whole, taps)?;
            place.f_copy_(&middle)?;
            Ok(whole)
        };
        Ok((by_input, by_middle.map(whole).transpose()?))
    }
}
