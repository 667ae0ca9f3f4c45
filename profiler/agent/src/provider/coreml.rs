//! Core ML: Apple's CPUs, GPUs and neural engines, in ONNX Runtime's packages for macOS and iOS.

use super::{Home, Provider, append};

pub(super) const PROVIDER: Provider = Provider {
    name: "coreml",
    ort_name: "CoreMLExecutionProvider",
    options: &[
        "MLComputeUnits",
        "ModelFormat",
        "RequireStaticInputShapes",
        "EnableOnSubgraphs",
        "SpecializationStrategy",
        "ProfileComputePlan",
        "AllowLowPrecisionAccumulationOnGPU",
        "ModelCacheDirectory",
    ],
    threads: None,
    homes: &[Home::Runtime(append::<ort::ep::CoreML>)],
    remedy: "it is in ONNX Runtime's libraries for macOS and iOS only: name one in runtime_library",
};
