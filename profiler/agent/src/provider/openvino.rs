//! OpenVINO: Intel's runtime, in an ONNX Runtime of its own (the wheel onnxruntime-openvino).

use super::{Home, Provider, append};

pub(super) const PROVIDER: Provider = Provider {
    name: "openvino",
    ort_name: "OpenVINOExecutionProvider",
    options: &[
        "device_type",
        "precision",
        "num_of_threads",
        "num_streams",
        "cache_dir",
        "load_config",
        "model_priority",
        "layout",
        "reshape_input",
        "disable_dynamic_shapes",
        "enable_opencl_throttling",
        "enable_qdq_optimizer",
    ],
    threads: Some("num_of_threads"),
    homes: &[Home::Runtime(append::<ort::ep::OpenVINO>)],
    remedy: "`scripts/provider.sh openvino` gets OpenVINO's own ONNX Runtime; or name it in runtime_library",
};
