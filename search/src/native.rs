//! The C++ in `native/`: what tch doesn't expose of libtorch, and loops of our own.

use std::ffi::{CStr, c_char};
use std::ptr::null_mut;

use tch::{TchError, Tensor};
use torch_sys::C_tensor;

use crate::layout::Layout;

unsafe extern "C" {
    fn fleetfoot_free(message: *mut c_char);
    fn fleetfoot_deterministic();
    fn fleetfoot_pinned(tensor: *const C_tensor, out: *mut *mut C_tensor) -> *mut c_char;
    fn fleetfoot_conv_backward(
        slope: *const C_tensor,
        input: *const C_tensor,
        weight: *const C_tensor,
        stride: i64,
        padding: i64,
        groups: i64,
        by_input: bool,
        by_weight: bool,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn fleetfoot_graph_wanted() -> bool;
    fn fleetfoot_batch_norm_forward(
        x: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        running_mean: *const C_tensor,
        running_var: *const C_tensor,
        momentum: f64,
        eps: f64,
        relu6: bool,
        over: bool,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn fleetfoot_batch_norm_again(
        x: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        mean: *const C_tensor,
        inverse_std: *const C_tensor,
        relu6: bool,
        over: bool,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn fleetfoot_batch_norm_backward(
        slope: *const C_tensor,
        x: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        mean: *const C_tensor,
        inverse_std: *const C_tensor,
        eps: f64,
        relu6: bool,
        by_weight: bool,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn fleetfoot_batch_norm_dot(
        x: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        eps: f64,
        slope: *const C_tensor,
        out: *mut f64,
    ) -> *mut c_char;
    fn fleetfoot_dot(a: *const C_tensor, b: *const C_tensor, out: *mut f64) -> *mut c_char;
    fn fleetfoot_in_a_row(
        tensors: *const *const C_tensor,
        count: usize,
        channels_last: bool,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn fleetfoot_out_of_row(
        row: *const C_tensor,
        extents: *const i64,
        dims: *const i64,
        count: usize,
        channels_last: bool,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn fleetfoot_sgd(
        value: *const C_tensor,
        velocity: *const C_tensor,
        gradient: *const C_tensor,
        lr: f64,
        momentum: f64,
        decay: f64,
    ) -> *mut c_char;
}

/// A convolution's stride, padding and groups.
#[derive(Clone, Copy, Debug)]
pub struct Conv {
    pub stride: i64,
    pub padding: i64,
    pub groups: i64,
}

/// Which gradients are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub by_input: bool,
    pub by_weight: bool,
}

/// The text of a message, if there is one; it is freed.
pub(crate) fn message(message: *mut c_char) -> Option<String> {
    // SAFETY: the other side gives a string that ends with a zero and that only we free.
    (!message.is_null()).then(|| unsafe {
        let text = CStr::from_ptr(message).to_string_lossy().into_owned();
        fleetfoot_free(message);
        text
    })
}

/// The message as an error, if there is one.
fn check(said: *mut c_char) -> Result<(), TchError> {
    message(said).map_or(Ok(()), |text| Err(TchError::Torch(text)))
}

/// A tensor that is ours from now on, if it is there.
fn taken(tensor: *mut C_tensor) -> Option<Tensor> {
    // SAFETY: the other side made it with `new` and gave it away.
    (!tensor.is_null()).then(|| unsafe { Tensor::from_ptr(tensor) })
}

/// Gradients of a convolution without bias by its input (N x C x H x W) and by its weight, as far as they are wanted.
pub fn conv_backward(
    slope: &Tensor,
    input: &Tensor,
    weight: &Tensor,
    conv: Conv,
    wanted: Wanted,
) -> Result<(Option<Tensor>, Option<Tensor>), TchError> {
    let mut out = [null_mut(); 2];
    let Conv { stride, padding, groups } = conv;
    // SAFETY: all tensors live as long as the call; `out` has room for two.
    check(unsafe {
        let (slope, input, weight) = (slope.as_ptr(), input.as_ptr(), weight.as_ptr());
        let Wanted { by_input, by_weight } = wanted;
        fleetfoot_conv_backward(slope, input, weight, stride, padding, groups, by_input, by_weight, out.as_mut_ptr())
    })?;
    Ok((taken(out[0]), taken(out[1])))
}

/// Whether libtorch writes down a graph of what is computed now.
pub fn graph_wanted() -> bool {
    // SAFETY: it reads a flag of this thread.
    unsafe { fleetfoot_graph_wanted() }
}

/// A batch normalisation of inputs N x C x H x W, with or without ReLU6 behind it.
#[derive(Clone, Copy, Debug)]
pub struct BatchNorm<'a> {
    /// C.
    pub weight: &'a Tensor,
    /// C.
    pub bias: &'a Tensor,
    /// Added to the variance.
    pub eps: f64,
    /// Whether the output is cut to 0..6.
    pub relu6: bool,
    /// Whether the output may lie where the input lay, which nothing else reads then.
    pub over: bool,
}

/// Mean and 1 / standard deviation of every channel.
#[derive(Debug)]
pub struct Statistics {
    /// C.
    pub mean: Tensor,
    /// C.
    pub inverse_std: Tensor,
}

impl Statistics {
    /// The same tensors once more.
    pub fn shallow_clone(&self) -> Self {
        Self { mean: self.mean.shallow_clone(), inverse_std: self.inverse_std.shallow_clone() }
    }
}

impl BatchNorm<'_> {
    /// The output by the batch's statistics, and these. The running mean and variance, if given, follow them:
    /// `r <- (1 - momentum) r + momentum b`, where b is the unbiased variance.
    pub fn forward(
        &self,
        x: &Tensor,
        running: Option<(&Tensor, &Tensor)>,
        momentum: f64,
    ) -> Result<(Tensor, Statistics), TchError> {
        let mut out = [null_mut(); 3];
        let none = std::ptr::null();
        let (mean, var) = running.map_or((none, none), |(mean, var)| (mean.as_ptr(), var.as_ptr()));
        // SAFETY: all tensors live as long as the call; `out` has room for three.
        check(unsafe {
            let (x, weight, bias) = (x.as_ptr(), self.weight.as_ptr(), self.bias.as_ptr());
            let (eps, out) = (self.eps, out.as_mut_ptr());
            fleetfoot_batch_norm_forward(x, weight, bias, mean, var, momentum, eps, self.relu6, self.over, out)
        })?;
        let [y, mean, inverse_std] = out.map(|tensor| taken(tensor).unwrap_or_default());
        Ok((y, Statistics { mean, inverse_std }))
    }

    /// The output by given statistics.
    pub fn again(&self, x: &Tensor, by: &Statistics) -> Result<Tensor, TchError> {
        let mut out = [null_mut(); 1];
        // SAFETY: all tensors live as long as the call; `out` has room for one.
        check(unsafe {
            let (x, weight, bias) = (x.as_ptr(), self.weight.as_ptr(), self.bias.as_ptr());
            let (mean, inverse_std) = (by.mean.as_ptr(), by.inverse_std.as_ptr());
            fleetfoot_batch_norm_again(x, weight, bias, mean, inverse_std, self.relu6, self.over, out.as_mut_ptr())
        })?;
        Ok(taken(out[0]).unwrap_or_default())
    }

    /// Sum of the products of the output by the batch's statistics, not cut by a ReLU6, with a slope of the same extents.
    pub fn dot(&self, x: &Tensor, slope: &Tensor) -> Result<f64, TchError> {
        let mut sum = 0.0;
        // SAFETY: all tensors live as long as the call, and so does the sum.
        check(unsafe {
            let (x, weight, bias) = (x.as_ptr(), self.weight.as_ptr(), self.bias.as_ptr());
            fleetfoot_batch_norm_dot(x, weight, bias, self.eps, slope.as_ptr(), &raw mut sum)
        })?;
        Ok(sum)
    }

    /// Gradients by the input and, where wanted, by weight and bias, from those by the output, which may be overwritten.
    pub fn backward(
        &self,
        slope: Tensor,
        x: &Tensor,
        by: &Statistics,
        by_weight: bool,
    ) -> Result<[Option<Tensor>; 3], TchError> {
        let mut out = [null_mut(); 3];
        // SAFETY: all tensors live as long as the call; `out` has room for three.
        check(unsafe {
            let (slope, x, weight, bias) = (slope.as_ptr(), x.as_ptr(), self.weight.as_ptr(), self.bias.as_ptr());
            let (mean, inverse_std, out) = (by.mean.as_ptr(), by.inverse_std.as_ptr(), out.as_mut_ptr());
            fleetfoot_batch_norm_backward(
                slope,
                x,
                weight,
                bias,
                mean,
                inverse_std,
                self.eps,
                self.relu6,
                by_weight,
                out,
            )
        })?;
        Ok(out.map(taken))
    }
}

/// Sum of the products of two tensors' values, of the same extents.
pub fn dot(a: &Tensor, b: &Tensor) -> Result<f64, TchError> {
    let mut sum = 0.0;
    // SAFETY: both tensors live as long as the call, and so does the sum.
    check(unsafe { fleetfoot_dot(a.as_ptr(), b.as_ptr(), &raw mut sum) })?;
    Ok(sum)
}

/// `g = gradient + decay value; velocity <- momentum velocity + g; value <- value - lr (g + momentum velocity)`, all of the
/// same extents.
pub fn sgd(
    value: &Tensor,
    velocity: &Tensor,
    gradient: &Tensor,
    lr: f64,
    momentum: f64,
    decay: f64,
) -> Result<(), TchError> {
    // SAFETY: all tensors live as long as the call.
    check(unsafe { fleetfoot_sgd(value.as_ptr(), velocity.as_ptr(), gradient.as_ptr(), lr, momentum, decay) })
}

/// One tensor of one dimension with the values of several, all of one type, as they lie in memory in a layout.
pub fn in_a_row<'a>(tensors: impl Iterator<Item = &'a Tensor>, layout: Layout) -> Result<Tensor, TchError> {
    let tensors: Vec<*const C_tensor> = tensors.map(Tensor::as_ptr).collect();
    let mut out = [null_mut(); 1];
    // SAFETY: all tensors live as long as the call; `out` has room for one.
    check(unsafe {
        fleetfoot_in_a_row(tensors.as_ptr(), tensors.len(), layout == Layout::ChannelsLast, out.as_mut_ptr())
    })?;
    Ok(taken(out[0]).unwrap_or_default())
}

/// Tensors of these extents from such a row, whose memory they share.
pub fn out_of_row(row: &Tensor, extents: &[Vec<i64>], layout: Layout) -> Result<Vec<Tensor>, TchError> {
    let length: i64 = extents.iter().map(|extents| extents.iter().product::<i64>()).sum();
    if row.numel() as i64 != length {
        return Err(TchError::Shape(format!("{} values for tensors of {length}", row.numel())));
    }
    let flat: Vec<i64> = extents.concat();
    let dims: Vec<i64> = extents.iter().map(|extents| extents.len() as i64).collect();
    let mut out = vec![null_mut(); extents.len()];
    let last = layout == Layout::ChannelsLast;
    // SAFETY: the row and the numbers live as long as the call; `out` has room for as many as there are.
    check(unsafe {
        fleetfoot_out_of_row(row.as_ptr(), flat.as_ptr(), dims.as_ptr(), dims.len(), last, out.as_mut_ptr())
    })?;
    Ok(out.into_iter().map(|tensor| taken(tensor).unwrap_or_default()).collect())
}

/// Lets cuDNN take only algorithms that add in the same order every time.
pub fn deterministic() {
    // SAFETY: it sets two flags of libtorch's, whether or not there is a GPU.
    unsafe { fleetfoot_deterministic() }
}

/// A copy in memory that stays where it is, from which a GPU copies by itself; an error where there is no GPU.
pub fn pinned(tensor: &Tensor) -> Result<Tensor, TchError> {
    let mut out = [null_mut(); 1];
    // SAFETY: the tensor lives as long as the call; `out` has room for one.
    check(unsafe { fleetfoot_pinned(tensor.as_ptr(), out.as_mut_ptr()) })?;
    taken(out[0]).ok_or_else(|| TchError::Torch("no tensor came back".to_owned()))
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, no_grad};

    use super::*;
    use crate::layout::Layout;

    /// Largest difference relative to the largest value.
    fn off(ours: &Tensor, theirs: &Tensor) -> f64 {
        let scale = theirs.abs().max().double_value(&[]).max(1e-3);
        (ours - theirs).abs().max().double_value(&[]) / scale
    }

    fn random(shape: &[i64], layout: Layout) -> Tensor {
        layout.arrange(&(Tensor::randn(shape, (Kind::Float, Device::Cpu)) * 3.0 + 2.0)).unwrap()
    }

    /// Both memory orders: our own loops and libtorch's kernels; channels beside multiples of 16, one pixel, more pixels than
    /// one thread takes.
    fn maps() -> impl Iterator<Item = (Vec<i64>, Layout)> {
        let shapes = [[2, 16, 5, 7], [3, 20, 4, 4], [8, 8, 1, 1], [4, 72, 40, 40], [2, 3, 9, 9]];
        let orders = [Layout::ChannelsLast, Layout::Nchw];
        shapes.into_iter().flat_map(move |shape| orders.map(|order| (shape.to_vec(), order)))
    }

    #[test]
    fn batch_normalisation_and_its_gradients_are_those_of_libtorch_s_graph() {
        tch::manual_seed(1);
        for (shape, layout) in maps() {
            for relu6 in [false, true] {
                let x = random(&shape, layout).set_requires_grad(true);
                let channel = |shift: f64| {
                    (Tensor::randn([shape[1]], (Kind::Float, Device::Cpu)) + shift).set_requires_grad(true)
                };
                let (weight, bias) = (channel(1.0), channel(1.0));
                let running = || {
                    (
                        Tensor::zeros([shape[1]], (Kind::Float, Device::Cpu)),
                        Tensor::ones([shape[1]], (Kind::Float, Device::Cpu)),
                    )
                };
                let (theirs, ours) = (running(), running());
                let y =
                    x.batch_norm(Some(&weight), Some(&bias), Some(&theirs.0), Some(&theirs.1), true, 0.1, 1e-3, false);
                let y = if relu6 { y.relu6() } else { y };
                let slope = random(&shape, layout);
                let wanted =
                    Tensor::run_backward(&[(&y * &slope).sum(Kind::Float)], &[&x, &weight, &bias], false, false);

                no_grad(|| {
                    let norm = BatchNorm { weight: &weight, bias: &bias, eps: 1e-3, relu6, over: false };
                    let (output, by) = norm.forward(&x, Some((&ours.0, &ours.1)), 0.1).unwrap();
                    assert!(off(&output, &y) < 1e-5, "{shape:?} {layout} output");
                    assert!(off(&norm.again(&x, &by).unwrap(), &y) < 1e-5, "{shape:?} {layout} output again");
                    let over = BatchNorm { over: true, ..norm };
                    let (spare, again) = (x.detach().copy(), x.detach().copy());
                    let written = over.forward(&spare, None, 0.1).unwrap().0;
                    assert_eq!(off(&written, &output), 0.0, "{shape:?} {layout} over the input");
                    assert_eq!(off(&over.again(&again, &by).unwrap(), &norm.again(&x, &by).unwrap()), 0.0);
                    if layout == Layout::ChannelsLast {
                        assert!(written.data_ptr() == spare.data_ptr() && written.data_ptr() != output.data_ptr());
                    }
                    assert!(
                        off(&ours.0, &theirs.0) < 1e-5 && off(&ours.1, &theirs.1) < 1e-5,
                        "{shape:?} {layout} running"
                    );
                    let slopes = norm.backward(slope.copy(), &x, &by, true).unwrap();
                    for (what, (ours, theirs)) in ["input", "weight", "bias"].iter().zip(slopes.iter().zip(&wanted)) {
                        let off = off(ours.as_ref().unwrap(), theirs);
                        assert!(off < 1e-4, "{shape:?} {layout} relu6 {relu6}: slope by {what} is off by {off}");
                    }
                    let [below, weight, bias] = norm.backward(slope.copy(), &x, &by, false).unwrap();
                    assert!(weight.is_none() && bias.is_none() && off(&below.unwrap(), &wanted[0]) < 1e-4);
                });
            }
        }
    }

    #[test]
    fn products_with_a_normalised_map_are_those_of_the_map() {
        tch::manual_seed(4);
        for (shape, layout) in maps() {
            let channel = |shift: f64| Tensor::randn([shape[1]], (Kind::Float, Device::Cpu)) + shift;
            let (weight, bias, x, slope) = (channel(1.0), channel(1.0), random(&shape, layout), random(&shape, layout));
            let norm = BatchNorm { weight: &weight, bias: &bias, eps: 1e-3, relu6: false, over: false };
            let (y, _) = norm.forward(&x, None, 0.1).unwrap();
            let [y, wide] = [&y, &slope].map(|tensor| tensor.to_kind(Kind::Double));
            // To what single products are rounded to.
            let scale = (&y * &wide).abs().sum(Kind::Double).double_value(&[]);
            let wanted = (&y * &wide).sum(Kind::Double).double_value(&[]);
            for slope in [&slope, &Layout::Nchw.arrange(&slope).unwrap()] {
                let found = norm.dot(&x, slope).unwrap();
                assert!((found - wanted).abs() < 1e-6 * scale, "{shape:?} {layout}: {found} {wanted}");
            }
        }
    }

    #[test]
    fn what_is_no_number_does_not_get_lost_in_batch_normalisation() {
        let x = random(&[2, 16, 4, 4], Layout::ChannelsLast);
        let _ = x.narrow(1, 3, 1).narrow(0, 1, 1).fill_(f64::NAN);
        let (weight, bias) =
            (Tensor::ones([16], (Kind::Float, Device::Cpu)), Tensor::zeros([16], (Kind::Float, Device::Cpu)));
        let norm = BatchNorm { weight: &weight, bias: &bias, eps: 1e-3, relu6: true, over: false };
        let (y, _) = norm.forward(&x, None, 0.1).unwrap();
        let lost = |channel: i64| y.narrow(1, channel, 1).isnan().all().int64_value(&[]) == 1;
        assert!(lost(3) && (0..16).filter(|&channel| lost(channel)).count() == 1);
    }

    #[test]
    fn depthwise_gradients_by_the_weight_are_those_of_libtorch_s_graph() {
        tch::manual_seed(2);
        for (channels, extent, kernel, stride) in
            [(16, 9, 3, 1), (20, 8, 5, 2), (24, 7, 7, 1), (3, 5, 3, 2), (40, 30, 7, 2), (144, 28, 5, 1), (8, 2, 3, 1)]
        {
            let x = random(&[3, channels, extent, extent], Layout::ChannelsLast);
            let weight = random(&[channels, 1, kernel, kernel], Layout::ChannelsLast).set_requires_grad(true);
            let (padding, none) = (kernel / 2, None::<&Tensor>);
            let y = x.conv2d(&weight, none, [stride, stride], [padding, padding], [1, 1], channels);
            let slope = random(&y.size(), Layout::ChannelsLast);
            let wanted = Tensor::run_backward(&[(&y * &slope).sum(Kind::Float)], &[&weight], false, false);
            let conv = Conv { stride, padding, groups: channels };
            let both = Wanted { by_input: true, by_weight: true };
            let (below, own) = no_grad(|| conv_backward(&slope, &x, &weight, conv, both)).unwrap();
            let off = off(&own.unwrap(), &wanted[0]);
            assert!(
                below.is_some() && off < 1e-4,
                "{channels} channels, {extent}, kernel {kernel}, stride {stride}: {off}"
            );
        }
    }

    #[test]
    fn a_step_of_floats_is_that_of_doubles_whatever_the_memory_order() {
        tch::manual_seed(3);
        for order in [Layout::ChannelsLast, Layout::Nchw] {
            let [value, velocity, gradient] =
                [Layout::ChannelsLast, order, order].map(|order| random(&[40, 30, 5, 5], order));
            let [w, v, g] = [&value, &velocity, &gradient].map(|tensor| tensor.to_kind(Kind::Double));
            sgd(&value, &velocity, &gradient, 0.05, 0.9, 0.01).unwrap();
            sgd(&w, &v, &g, 0.05, 0.9, 0.01).unwrap();
            assert!(off(&value.to_kind(Kind::Double), &w) < 1e-6 && off(&velocity.to_kind(Kind::Double), &v) < 1e-6);
        }
        let (value, velocity) = (random(&[4], Layout::Nchw), random(&[4], Layout::Nchw));
        assert!(
            sgd(&value, &velocity, &random(&[5], Layout::Nchw), 0.1, 0.9, 0.0).is_err(),
            "a gradient of other extents"
        );
    }

    #[test]
    fn products_are_summed_in_either_memory_order() {
        let (a, b) = (random(&[8, 24, 31, 31], Layout::ChannelsLast), random(&[8, 24, 31, 31], Layout::ChannelsLast));
        let wanted = (a.to_kind(Kind::Double) * b.to_kind(Kind::Double)).sum(Kind::Double).double_value(&[]);
        for b in [&b, &Layout::Nchw.arrange(&b).unwrap()] {
            assert!((dot(&a, b).unwrap() / wanted - 1.0).abs() < 1e-6);
        }
    }
}
