//! QNN: Qualcomm's NPUs (Hexagon), GPUs, and on other machines a simulator of the NPU. Part of ONNX Runtime's packages for
//! Qualcomm's devices, and since version 2 a plugin (the wheel onnxruntime-qnn).

use super::{Home, Provider, append};

pub(super) const PROVIDER: Provider = Provider {
    name: "qnn",
    ort_name: "QNNExecutionProvider",
    options: &[
        "backend_type",
        "backend_path",
        "device_id",
        "enable_htp_fp16_precision",
        "enable_htp_shared_memory_allocator",
        "enable_htp_spill_fill_buffer",
        "enable_htp_weight_sharing",
        "htp_arch",
        "htp_bf16_enable",
        "htp_graph_finalization_optimization_mode",
        "htp_performance_mode",
        "offload_graph_io_quantization",
        "profiling_file_path",
        "profiling_level",
        "qnn_context_priority",
        "rpc_control_latency",
        "soc_model",
        "vtcm_mb",
    ],
    threads: None,
    homes: &[
        Home::Runtime(append::<ort::ep::QNN>),
        #[cfg(feature = "plugins")]
        Home::Plugin("onnxruntime_providers_qnn"),
    ],
    remedy: "`scripts/provider.sh qnn` gets the plugin, for which the agent is built with `--features qnn,plugins`; or \
             name the plugin in provider_library, or an ONNX Runtime that has QNN in runtime_library",
};
