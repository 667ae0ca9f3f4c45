//! CUDA: NVIDIA's GPUs through cuDNN, in the wheel onnxruntime-gpu.

use super::{Home, Provider, append};

pub(super) const PROVIDER: Provider = Provider {
    name: "cuda",
    ort_name: "CUDAExecutionProvider",
    options: &[
        "device_id",
        "gpu_mem_limit",
        "arena_extend_strategy",
        "cudnn_conv_algo_search",
        "cudnn_conv_use_max_workspace",
        "cudnn_conv1d_pad_to_nc1d",
        "do_copy_in_default_stream",
        "enable_cuda_graph",
        "enable_skip_layer_norm_strict_mode",
        "fuse_conv_bias",
        "prefer_nhwc",
        "sdpa_kernel",
        "tunable_op_enable",
        "tunable_op_tuning_enable",
        "use_tf32",
    ],
    threads: None,
    homes: &[Home::Runtime(append::<ort::ep::CUDA>)],
    remedy: "`scripts/provider.sh cuda` gets an ONNX Runtime with it, or name one in runtime_library; it wants an \
             NVIDIA GPU, its driver, CUDA and cuDNN",
};
