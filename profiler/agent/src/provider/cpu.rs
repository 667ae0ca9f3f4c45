//! ONNX Runtime's own kernels: the default, which needs no registration.

use super::{Home, Provider};

pub(super) const PROVIDER: Provider = Provider {
    name: "cpu",
    ort_name: "CPUExecutionProvider",
    options: &[],
    threads: None,
    homes: &[Home::Runtime(|builder, _| Ok(builder))],
    remedy: "every ONNX Runtime has it",
};
