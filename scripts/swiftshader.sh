#!/bin/sh
# Runs a command with WebGPU on a machine without a GPU, on SwiftShader from Debian's package chromium, hundreds of times
# slower than a GPU:
#     scripts/swiftshader.sh fleetfoot doctor --device local-webgpu
set -eu
chromium=/usr/lib/chromium
[ -f "$chromium/vk_swiftshader_icd.json" ] || {
    echo "swiftshader: $chromium/vk_swiftshader_icd.json is missing (Debian: chromium)" >&2
    exit 1
}
export LD_LIBRARY_PATH="$chromium${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" # its libvulkan.so.1
export VK_ICD_FILENAMES="$chromium/vk_swiftshader_icd.json"
export ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER=1
exec "$@"
