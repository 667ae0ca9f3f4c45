#!/usr/bin/env bash
# Gets the libraries of execution providers, each pinned, into native/onnxruntime-PROVIDER (docs/providers.md):
#     scripts/provider.sh openvino webgpu qnn cuda
# cuda is for TensorRT, too; the driver, CUDA, cuDNN and TensorRT themselves are yours to install.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/.."
. scripts/wheels.sh

[ $# -gt 0 ] || fail "which? One or more of: openvino webgpu qnn cuda"
for provider in "$@"; do
    case $provider in
        openvino | webgpu | qnn | cuda) ;;
        *) fail "nothing is known of '$provider': one or more of openvino webgpu qnn cuda. docs/providers.md says where others are from." ;;
    esac
done
[ "$(uname -s)" = Linux ] || fail "this gets libraries for Linux; this is $(uname -s)."
python_with_pip >/dev/null || fail "there is no Python with pip (Debian: python3-pip)."
open_cache

get() {
    local provider=$1 wheel=$2 library=$3 home
    home=$cache/native/onnxruntime-$provider-$(version_of_wheel "$wheel")
    unpack_and_link "onnxruntime-$provider" "$home" "lib/$library" "$wheel"
}
for provider in "$@"; do
    case $provider in
        openvino) get openvino onnxruntime-openvino libonnxruntime_providers_openvino.so ;;
        webgpu) get webgpu onnxruntime-ep-webgpu libonnxruntime_providers_webgpu.so ;;
        qnn) get qnn onnxruntime-qnn libonnxruntime_providers_qnn.so ;;
        cuda)
            get cuda onnxruntime-gpu libonnxruntime_providers_cuda.so
            ln -sfn "$(readlink native/onnxruntime-cuda)" native/onnxruntime-tensorrt
            ;;
    esac
    say "$provider is ready: native/onnxruntime-$provider"
done
