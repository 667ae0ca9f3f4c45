//! TensorRT: NVIDIA's GPUs, each model compiled for the one that is there; in the wheel onnxruntime-gpu.

use super::{Home, Provider, append};

pub(super) const PROVIDER: Provider = Provider {
    name: "tensorrt",
    ort_name: "TensorrtExecutionProvider",
    options: &[
        "device_id",
        "trt_auxiliary_streams",
        "trt_bf16_enable",
        "trt_build_heuristics_enable",
        "trt_builder_optimization_level",
        "trt_context_memory_sharing_enable",
        "trt_cuda_graph_enable",
        "trt_detailed_build_log",
        "trt_dla_core",
        "trt_dla_enable",
        "trt_engine_cache_enable",
        "trt_engine_cache_path",
        "trt_engine_cache_prefix",
        "trt_engine_hw_compatible",
        "trt_extra_plugin_lib_paths",
        "trt_force_sequential_engine_build",
        "trt_force_timing_cache",
        "trt_fp16_enable",
        "trt_int8_calibration_table_name",
        "trt_int8_enable",
        "trt_int8_use_native_calibration_table",
        "trt_layer_norm_fp32_fallback",
        "trt_max_partition_iterations",
        "trt_max_workspace_size",
        "trt_min_subgraph_size",
        "trt_sparsity_enable",
        "trt_tactic_sources",
        "trt_timing_cache_enable",
        "trt_timing_cache_path",
    ],
    threads: None,
    homes: &[Home::Runtime(append::<ort::ep::TensorRT>)],
    remedy: "`scripts/provider.sh cuda` gets an ONNX Runtime with it, or name one in runtime_library; it wants an \
             NVIDIA GPU, its driver, CUDA, cuDNN and TensorRT's own libraries (libnvinfer)",
};
