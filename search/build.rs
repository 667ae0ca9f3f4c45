//! Compiles the C++ that tch has no counterpart for, and writes libtorch's folder into the program, so that it starts without
//! LD_LIBRARY_PATH.

use std::env::var;
use std::path::{Path, PathBuf};

const SOURCES: [&str; 7] = [
    "native/batch_norm.cpp",
    "native/convolution.cpp",
    "native/cuda.cpp",
    "native/depthwise.cpp",
    "native/dot.cpp",
    "native/rows.cpp",
    "native/sgd.cpp",
];
/// Of the features `distributed` and `nccl`.
const GROUP: &str = "native/group.cpp";
const NCCL: [&str; 2] = ["native/no_nccl.cpp", "native/nccl.cpp"];
/// Where the headers of CUDA and NCCL are, below `include`.
const HOMES: [&str; 2] = ["CUDA_HOME", "NCCL_HOME"];
/// libtorch's CUDA part.
const CUDA: &str = "libtorch_cuda.so";

fn main() {
    for variable in ["DEP_TCH_LIBTORCH_LIB", "LIBTORCH_INCLUDE", "LIBTORCH_CXX11_ABI"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    println!("cargo:rerun-if-changed=native");
    let Ok(folder) = var("DEP_TCH_LIBTORCH_LIB") else { return };
    println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
    keep_cuda(Path::new(&folder));
    // Beside the libraries, unless it is said to be elsewhere, as for torch-sys.
    let root = var("LIBTORCH_INCLUDE").map_or_else(|_| PathBuf::from(&folder).join(".."), PathBuf::from);
    let include = root.join("include");
    let abi = var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".to_owned());
    let mut build = cc::Build::new();
    build.cpp(true).pic(true).warnings(false).files(SOURCES).std("c++17");
    build.include(&include).include(include.join("torch/csrc/api/include"));
    build.define("_GLIBCXX_USE_CXX11_ABI", abi.as_str()).define("GLOG_USE_GLOG_EXPORT", None);
    build.opt_level(3);
    build.compile("fleetfoot_native");
    if var("CARGO_FEATURE_DISTRIBUTED").is_ok() {
        together(&include, &abi);
    }
}

/// Compiles what calls c10d, whose headers want a newer C++.
fn together(include: &Path, abi: &str) {
    let header = include.join("torch/csrc/distributed/c10d/ProcessGroupGloo.hpp");
    if !header.exists() {
        println!(
            "cargo:warning={} is missing: this libtorch can't learn in several processes; build with --no-default-features",
            header.display()
        );
    }
    let nccl = var("CARGO_FEATURE_NCCL").is_ok();
    let mut build = cc::Build::new();
    build.cpp(true).pic(true).warnings(false).files([GROUP, NCCL[usize::from(nccl)]]).std("c++20");
    build.include("native/opaque").include(include).include(include.join("torch/csrc/api/include"));
    build.define("_GLIBCXX_USE_CXX11_ABI", abi).define("GLOG_USE_GLOG_EXPORT", None).define("USE_C10D_GLOO", None);
    if nccl {
        build.define("USE_C10D_NCCL", None).define("USE_CUDA", None);
        for home in HOMES {
            println!("cargo:rerun-if-env-changed={home}");
            if let Ok(home) = var(home) {
                // CUDA 13 keeps what cuda_fp16.h includes in a folder of its own.
                let headers = Path::new(&home).join("include");
                build.include(headers.join("cccl")).include(headers);
            }
        }
    }
    build.compile("fleetfoot_group");
}

/// Where libtorch has a CUDA part, the programs need it though they call nothing of it: it makes itself known when it is
/// loaded. rustc has the linker drop such libraries (`--as-needed`), and libtorch would know of no GPU.
fn keep_cuda(folder: &Path) {
    let library = folder.join(CUDA);
    println!("cargo:rerun-if-changed={}", folder.display());
    if library.exists() {
        println!("cargo:rustc-link-arg=-Wl,--no-as-needed");
        println!("cargo:rustc-link-arg={}", library.display());
        println!("cargo:rustc-link-arg=-Wl,--as-needed");
    }
}
