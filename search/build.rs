//! Compiles the C++ that tch has no counterpart for, and writes libtorch's folder into the program, so that it starts without
//! LD_LIBRARY_PATH.

use std::env::var;
use std::path::{Path, PathBuf};

const SOURCES: [&str; 6] = [
    "native/batch_norm.cpp",
    "native/convolution.cpp",
    "native/cuda.cpp",
    "native/depthwise.cpp",
    "native/dot.cpp",
    "native/sgd.cpp",
];
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
