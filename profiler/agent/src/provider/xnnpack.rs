//! XNNPACK: kernels for phones' CPUs, in ONNX Runtime's packages for Android and iOS. It takes convolutions, pools and
//! matrix products; all else falls back, so configurations say `fallback = "allow"`.

use super::{Home, Provider, append};

pub(super) const PROVIDER: Provider = Provider {
    name: "xnnpack",
    ort_name: "XnnpackExecutionProvider",
    options: &["intra_op_num_threads"],
    // It has a pool of its own.
    threads: Some("intra_op_num_threads"),
    homes: &[Home::Runtime(append::<ort::ep::XNNPACK>)],
    remedy: "set runtime_library to an ONNX Runtime that was built with XNNPACK (docs/providers.md)",
};
