//! What tch doesn't expose of libtorch: backward kernels (`native/backward.cpp`), and how a GPU computes and is reached
//! (`native/cuda.cpp`).

use std::ffi::{CStr, c_char};
use std::ptr::null_mut;

use tch::{TchError, Tensor};
use torch_sys::C_tensor;

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
    fn fleetfoot_batch_norm_backward(
        slope: *const C_tensor,
        input: *const C_tensor,
        weight: *const C_tensor,
        mean: *const C_tensor,
        inverse_std: *const C_tensor,
        eps: f64,
        by_weight: bool,
        out: *mut *mut C_tensor,
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

/// The message as an error, if there is one; it is freed.
fn check(message: *mut c_char) -> Result<(), TchError> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: the other side gives a string that ends with a zero and that only we free.
    let text = unsafe {
        let text = CStr::from_ptr(message).to_string_lossy().into_owned();
        fleetfoot_free(message);
        text
    };
    Err(TchError::Torch(text))
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

/// Gradients of batch normalisation by the batch's statistics (mean, 1 / standard deviation): by its input, and where
/// wanted by weight and bias.
pub fn batch_norm_backward(
    slope: &Tensor,
    input: &Tensor,
    weight: &Tensor,
    (mean, inverse_std): (&Tensor, &Tensor),
    eps: f64,
    by_weight: bool,
) -> Result<[Option<Tensor>; 3], TchError> {
    let mut out = [null_mut(); 3];
    // SAFETY: all tensors live as long as the call; `out` has room for three.
    check(unsafe {
        let (slope, input, weight) = (slope.as_ptr(), input.as_ptr(), weight.as_ptr());
        let (mean, inverse_std) = (mean.as_ptr(), inverse_std.as_ptr());
        fleetfoot_batch_norm_backward(slope, input, weight, mean, inverse_std, eps, by_weight, out.as_mut_ptr())
    })?;
    Ok(out.map(taken))
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
