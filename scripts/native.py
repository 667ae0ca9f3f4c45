#!/usr/bin/env python3
"""The parts of the set-up that a shell does badly; scripts/setup.sh calls it.

    native.py libtorch TARGET TORCH.whl CUDA_RUNTIME.whl CUDA_CUPTI.whl
    native.py onnxruntime TARGET ONNXRUNTIME.whl
    native.py onnxruntime-PROVIDER TARGET WHEEL
    native.py onnxruntime-android TARGET ONNXRUNTIME.aar ABI
    native.py onnxruntime-version LIBRARY
"""

import ctypes
import re
import shutil
import sys
import zipfile
from pathlib import Path

# CUDA, Python and shared-memory parts of PyTorch. torch-sys links CUDA as soon as libtorch_cuda.so is there, and
# libtorch.so itself needs it: a linker script stands in for it.
NOT_CPU = re.compile(r"libtorch(_cuda.*|_nvshmem|_python|_global_deps)?\.so|libc10_cuda\.so|libcaffe2_nvrtc\.so|libshm\.so")


def extract(wheel, target, place):
    """Write every member for which place(name) gives a path to target/path."""
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            path = None if member.is_dir() else place(member.filename)
            if path is None:
                continue
            path = target / path
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, open(path, "wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)


def licence(name):
    """Where a wheel's licence texts go: licenses/PACKAGE/…"""
    found = re.fullmatch(r"([^/]+)\.dist-info/licenses/(.+)", name)
    return f"licenses/{found[1]}/{found[2]}" if found else None


def libtorch(target, torch, cuda_runtime, cuda_cupti):
    def cpu_part(name):
        if name.startswith("torch/include/"):
            return name[len("torch/"):]
        library = re.fullmatch(r"torch/lib/(lib[^/]+\.so[.\d]*)", name)
        if library and not NOT_CPU.fullmatch(library[1]):
            return f"lib/{library[1]}"
        return licence(name)

    def cuda_part(name):
        library = re.fullmatch(r".*/(lib(cudart|cupti)\.so\.13)", name)
        return f"lib/{library[1]}" if library else licence(name)

    extract(torch, target, cpu_part)
    extract(cuda_runtime, target, cuda_part)
    extract(cuda_cupti, target, cuda_part)
    (target / "lib/libtorch.so").write_text("INPUT(libtorch_cpu.so libc10.so)\n")
    version = re.match(r"torch-([\d.]+)", Path(torch).name)[1]
    (target / "build-version").write_text(version + "\n")


def onnxruntime(target, wheel):
    def part(name):
        library = re.fullmatch(r"onnxruntime/capi/(libonnxruntime.*\.so[.\d]*)", name)
        if library:
            return f"lib/{library[1]}"
        if name in ("onnxruntime/LICENSE", "onnxruntime/ThirdPartyNotices.txt"):
            return name[len("onnxruntime/"):]
        return None

    extract(wheel, target, part)


def provider(target, wheel):
    """An ONNX Runtime with a provider, or a plugin: all libraries but Python's own, with those that auditwheel added."""
    def part(name):
        library = re.fullmatch(r"onnxruntime(?:/capi|_[^/]+)/(lib[^/]+\.so[.\d]*)", name)
        if library:
            return f"lib/{library[1]}"
        text = re.fullmatch(r"onnxruntime[^/]*/([^/]*(?:LICENSE|ThirdPartyNotices)[^/]*)", name)
        return text[1] if text else licence(name)

    extract(wheel, target, part)


def android(target, aar, abi):
    extract(aar, target, lambda name: "libonnxruntime.so" if name == f"jni/{abi}/libonnxruntime.so" else None)


def onnxruntime_version(library):
    class ApiBase(ctypes.Structure):
        _fields_ = [("get_api", ctypes.c_void_p), ("get_version_string", ctypes.CFUNCTYPE(ctypes.c_char_p))]

    base = ctypes.CDLL(library).OrtGetApiBase
    base.restype = ctypes.POINTER(ApiBase)
    return base().contents.get_version_string().decode()


def main(command, *arguments):
    if command == "onnxruntime-version":
        print(onnxruntime_version(*arguments))
    else:
        unpack = {"libtorch": libtorch, "onnxruntime": onnxruntime, "onnxruntime-android": android}.get(command, provider)
        unpack(Path(arguments[0]), *arguments[1:])


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (OSError, AttributeError, zipfile.BadZipFile) as error:
        sys.exit(f"{sys.argv[1]}: {error}")
