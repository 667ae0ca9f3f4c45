//! WebGPU through Dawn: a plugin (the wheel onnxruntime-ep-webgpu) for GPUs with Vulkan, Metal or Direct3D 12.

use super::{Home, Provider};

pub(super) const PROVIDER: Provider = Provider {
    name: "webgpu",
    ort_name: "WebGpuExecutionProvider",
    options: &[
        "deviceId",
        "powerPreference",
        "preferredLayout",
        "dawnBackendType",
        "validationMode",
        "enableGraphCapture",
        "enableRobustness",
        "enableInt64",
        "forceCpuNodeNames",
        "maxNumPendingDispatches",
        "maxStorageBufferBindingSize",
        "storageBufferCacheMode",
        "uniformBufferCacheMode",
        "queryResolveBufferCacheMode",
        "defaultBufferCacheMode",
    ],
    threads: None,
    homes: &[Home::Plugin("onnxruntime_providers_webgpu")],
    remedy: "`scripts/provider.sh webgpu` gets the plugin, or name it in provider_library; it wants a GPU and its \
             loader (libvulkan.so.1), or SwiftShader as docs/providers.md says",
};
