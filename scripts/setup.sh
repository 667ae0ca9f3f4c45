#!/usr/bin/env bash
# Sets up what fleetfoot needs and what is missing:
#     scripts/setup.sh         everything, with what tests and the demo need (make setup)
#     scripts/setup.sh build   what compiling needs (make build does this itself)
#
# libtorch and ONNX Runtime come as pinned wheels through pip and are unpacked into a cache that all checkouts
# share; native/ holds links into it. They aren't fetched when LIBTORCH and ORT_DYLIB_PATH name the user's own.
# Nothing is installed into Python. Interrupted, it goes on where it was when it is run again.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/.."
. scripts/wheels.sh
. scripts/packages.sh

scope=${1:-all}
fashion_mnist_of_debian=/usr/share/datasets/fashion-mnist

# --- Libraries: is there one already? ---

torch_version=$(version_of_wheel torch)
onnxruntime_version=$(version_of_wheel onnxruntime)
libtorch_home=$cache/native/libtorch-$torch_version
onnxruntime_home=$cache/native/onnxruntime-$onnxruntime_version

libtorch_ready() { [ -n "${LIBTORCH:-}" ] || grep -qs "^$torch_version" native/libtorch/build-version; }
onnxruntime_ready() {
    [ -n "${ORT_DYLIB_PATH:-}" ] || [ -f "native/onnxruntime/lib/libonnxruntime.so.$onnxruntime_version" ]
}

# The version of the libtorch or PyTorch in a folder; nothing where there is none.
libtorch_version() {
    if [ -f "$1/build-version" ]; then
        head -n 1 "$1/build-version"
    else
        cat "$1"/include/torch/{headeronly,csrc/api/include/torch}/version.h 2>/dev/null |
            sed -n 's/^#define TORCH_VERSION_\(MAJOR\|MINOR\) //p' | paste -sd .
    fi
}

check_libtorch_of_user() {
    [ -n "${LIBTORCH:-}" ] || return 0
    local wanted=${torch_version%.*} remedy found
    remedy="Point LIBTORCH at libtorch or PyTorch $wanted, or unset it: then libtorch $torch_version is fetched."
    # Build scripts run in folders of their own, where a relative path means something else.
    [ "${LIBTORCH#/}" != "$LIBTORCH" ] || fail "LIBTORCH=$LIBTORCH is not an absolute path." "$remedy"
    found=$(libtorch_version "$LIBTORCH") || true
    case $found in
        "$wanted" | "$wanted".*) ;;
        "") fail "LIBTORCH=$LIBTORCH holds no libtorch (no build-version, no include/torch/…/version.h)." "$remedy" ;;
        *) fail "LIBTORCH=$LIBTORCH is libtorch $found; $wanted is needed." "$remedy" ;;
    esac
    [ -f "$LIBTORCH/lib/libtorch_cpu.so" ] || fail "LIBTORCH=$LIBTORCH has no lib/libtorch_cpu.so." "$remedy"
}

check_onnxruntime_of_user() {
    [ -n "${ORT_DYLIB_PATH:-}" ] || return 0
    local wanted=1.17 remedy found
    remedy="Point ORT_DYLIB_PATH at ONNX Runtime $wanted or newer, or unset it: then $onnxruntime_version is fetched."
    [ -f "$ORT_DYLIB_PATH" ] || fail "ORT_DYLIB_PATH=$ORT_DYLIB_PATH is not a file." "$remedy"
    have python3 || fail "python3 is missing, which asks the library at ORT_DYLIB_PATH for its version." "$remedy"
    found=$(python3 scripts/native.py onnxruntime-version "$ORT_DYLIB_PATH") ||
        fail "ORT_DYLIB_PATH=$ORT_DYLIB_PATH can't be loaded as ONNX Runtime." "$remedy"
    printf '%s\n' "$wanted" "$found" | sort --check --version-sort 2>/dev/null ||
        fail "ORT_DYLIB_PATH=$ORT_DYLIB_PATH is ONNX Runtime $found; $wanted or newer is needed." "$remedy"
}

# --- System packages ---

has_fashion_mnist() {
    local name
    for name in {train,t10k}-{images-idx3,labels-idx1}-ubyte; do
        [ -f "$1/$name.gz" ] || [ -f "$1/$name" ] || return 1
    done
}

has_browser() { have chromium || have chromium-browser || have google-chrome; }

# moreutils has another program of that name.
has_gnu_parallel() { have parallel && parallel --version 2>/dev/null | grep -q '^GNU parallel'; }

# Debian's names of the packages that are missing, as words.
missing_packages() {
    local cc=${CC:-cc} cxx=${CXX:-c++} # "ccache g++" is possible: the first word is the program
    if ! have "${cc%% *}" || ! have "${cxx%% *}"; then echo g++; fi
    have make || echo make
    if ! { libtorch_ready && onnxruntime_ready; } && ! python_with_pip >/dev/null; then echo python3-pip; fi
    [ "$scope" = all ] || return 0
    [ -n "${FASHION_MNIST:-}" ] || has_fashion_mnist "$fashion_mnist_of_debian" || echo dataset-fashion-mnist
    has_browser || echo chromium
    have adb || echo adb
    have ssh || echo openssh-client
    has_gnu_parallel || echo parallel
}

# What to say to people who can't install these packages.
hints_on() {
    if [[ " $* " == *" dataset-fashion-mnist "* ]]; then
        hints+=("Without root, Fashion-MNIST can lie anywhere: put its four files ({train,t10k}-{images-idx3,labels-idx1}-ubyte.gz)"
            "into a folder and name it in FASHION_MNIST (or with --data). On Debian, for example:"
            "  apt-get download dataset-fashion-mnist && dpkg -x dataset-fashion-mnist_*.deb fashion-mnist"
            "  export FASHION_MNIST=\$PWD/fashion-mnist$fashion_mnist_of_debian")
    fi
    if [[ " $* " =~ " dataset-fashion-mnist "|" chromium "|" adb "|" openssh-client "|" parallel " ]]; then
        hints+=("The data set, chromium, adb, ssh and GNU parallel are for tests and the demo: make build works without them.")
    fi
}

# --- All of it ---

[ "$(uname -s)" = Linux ] || fail "fleetfoot builds on Linux only; this is $(uname -s)."
have cargo || fail "cargo is missing. Install Rust (https://rustup.rs) and run this again."
check_libtorch_of_user
check_onnxruntime_of_user
if [ "$scope" = all ] && [ -n "${FASHION_MNIST:-}" ]; then
    has_fashion_mnist "$FASHION_MNIST" || fail "FASHION_MNIST=$FASHION_MNIST lacks some of {train,t10k}-{images-idx3,labels-idx1}-ubyte.gz." \
        "Put the four files there, or unset it: then Debian's package dataset-fashion-mnist is used."
fi
packages=$(missing_packages)
if [ -z "$packages" ] && libtorch_ready && onnxruntime_ready; then exit 0; fi

case $arch in
    x86_64 | aarch64) ;;
    *)
        if ! { libtorch_ready && onnxruntime_ready; }; then
            fail "there are no wheels for $arch. Build libtorch and ONNX Runtime yourself and name them in LIBTORCH and ORT_DYLIB_PATH."
        fi
        ;;
esac
open_cache
packages=$(missing_packages) # the other set-up may have installed some
if [ -n "$packages" ]; then
    # shellcheck disable=SC2086 # words
    hints_on $packages
    # shellcheck disable=SC2086
    install_packages $packages
    packages=$(missing_packages)
    [ -z "$packages" ] || fail "installed, but still not in PATH: programs of ${packages//$'\n'/ }. Look at PATH (and CC, CXX where set) and run this again."
fi
libtorch_ready || unpack_and_link libtorch "$libtorch_home" build-version torch nvidia-cuda-runtime nvidia-cuda-cupti
onnxruntime_ready || unpack_and_link onnxruntime "$onnxruntime_home" "lib/libonnxruntime.so.$onnxruntime_version" onnxruntime
say "ready"
