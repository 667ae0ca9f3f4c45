//! NNAPI: what Android puts models on (GPU, DSP, NPU, or its own CPU kernels), in ONNX Runtime's package for Android.

use ort::ep::NNAPI;
use ort::session::builder::SessionBuilder;

use super::{Home, Provider, ProviderOptions};

pub(super) const PROVIDER: Provider = Provider {
    name: "nnapi",
    ort_name: "NnapiExecutionProvider",
    options: &["use_fp16", "use_nchw", "disable_cpu", "cpu_only"],
    threads: None,
    homes: &[Home::Runtime(append)],
    remedy: "it is in ONNX Runtime's library for Android only: name that in runtime_library",
};

/// Flags instead of options: `true` or `false`.
fn append(builder: SessionBuilder, options: &ProviderOptions) -> Result<SessionBuilder, ort::Error> {
    let flag = |name: &str| match options.get(name).map(String::as_str) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(ort::Error::new(format!("option {name} = '{other}': wanted true or false"))),
    };
    let nnapi = NNAPI::default()
        .with_fp16(flag("use_fp16")?)
        .with_nchw(flag("use_nchw")?)
        .with_disable_cpu(flag("disable_cpu")?)
        .with_cpu_only(flag("cpu_only")?);
    Ok(builder.with_execution_providers([nnapi.build().error_on_failure()])?)
}
