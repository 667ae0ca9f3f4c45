#!/usr/bin/env bash
# Makes a build of the agent for devices: the folder target/agents/TARGET, of which fleetfoot sends all files to a device.
#     scripts/agent.sh x86_64-linux-gnu        Linux; a C library comes with it, by which it runs on phones, too
#     scripts/agent.sh aarch64-linux-gnu       the same for 64-bit ARM; made on x86_64, too
#     scripts/agent.sh aarch64-linux-android   with Android's NDK and ONNX Runtime for Android, also x86_64-linux-android
# The build of the machine's own architecture is made of what `make build` built. One that is there and wouldn't change
# isn't touched.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/.."
speaker=agent
. scripts/wheels.sh
. scripts/packages.sh

target=${1:-}
cpu=${target%%-*}
built=${CARGO_TARGET_DIR:-target}
new=$built/agents/.$target.new
read -ra cargo <<<"${CARGO:-cargo}"
read -ra build <<<"build --release ${CARGO_FLAGS:-} -p fleetfoot-agent"
build+=(--features "${AGENT_FEATURES:-}")

# An empty folder for the build, to itself.
begin() {
    mkdir -p "$built/agents"
    exec 8<"$built/agents"
    flock 8
    rm -rf "$new" # what a killed one left
    mkdir "$new"
    trap 'rm -rf "$new"' EXIT
}

put_program() { "$1" -o "$new/fleetfoot-agent" "$2" && chmod 755 "$new/fleetfoot-agent"; } # the first is a `strip`

# ONNX Runtime tells its version in the names of its symbols.
put_onnxruntime() {
    local library=$1 name=${2:-} version
    version=$(grep -aoE 'VERS_[0-9]+(\.[0-9]+)+' "$library" | head -n 1) || true
    version=${version#VERS_}
    install -m 644 "$library" "$new/${name:-libonnxruntime.so${version:+.$version}}"
    onnxruntime="ONNX Runtime ${version:-of unknown version}"
}

# The C library's files: loaders are started as programs.
put_libraries() {
    local library name
    for library in "$@"; do
        name=${library##*/}
        case $name in
            ld-*) install -m 755 "$library" "$new/$name" ;;
            libonnxruntime.so*) ;;
            *) install -m 644 "$library" "$new/$name" ;;
        esac
    done
    glibc_version=$(grep -aoE 'GNU C Library .* release version [0-9.]+' "$new/libc.so.6" | sed 's/.* \([0-9.]*[0-9]\).*/\1/')
}

# Puts the build in its place, with a line that says what it is.
finish() {
    local with=$1 home=$built/agents/$target version
    version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
    echo "fleetfoot-agent $version for $target, $onnxruntime, $with" >"$new/about"
    if ! diff -rq "$new" "$home" >/dev/null 2>&1; then
        rm -rf "$new.old"
        [ ! -e "$home" ] || mv -T "$home" "$new.old"
        mv -T "$new" "$home"
        rm -rf "$new.old"
        say "$home is ready ($(du -sh "$home" | cut -f 1))"
    fi
}

# --- This machine's own architecture ---

own() {
    local program=$built/release/fleetfoot-agent library=${ORT_DYLIB_PATH:-} needed
    [ -x "$program" ] || fail "there is no $program." "\`make build\` makes it."
    [ -n "$library" ] || library=native/onnxruntime/lib/libonnxruntime.so.$(version_of_wheel onnxruntime)
    [ -f "$library" ] || fail "there is no ONNX Runtime at $library." "\`make native\` gets it; ORT_DYLIB_PATH may name another one."
    # Lines such as "libm.so.6 => /lib/libm.so.6 (0x7f…)", "/lib64/ld-linux-x86-64.so.2 (0x7f…)", "libx.so => not found".
    needed=$(LC_ALL=C ldd "$program" "$library" | sed -nE 's/^\t.* => (\/.+) \(0x[0-9a-f]+\)$/\1/p; s/^\t(\/.+) \(0x[0-9a-f]+\)$/\1/p; s/^\t.* => not found$/&/p') ||
        fail "ldd can't tell what $program and $library need."
    [[ $needed != *"not found"* ]] || fail "$program or $library needs libraries that aren't there:" "${needed}"
    begin
    put_program strip "$program"
    put_onnxruntime "$library"
    mapfile -t needed <<<"$(sort -u <<<"$needed")"
    put_libraries "${needed[@]}"
    finish "with a C library of its own (glibc $glibc_version)"
}

# --- 64-bit ARM on x86_64 ---

readonly rust_target=aarch64-unknown-linux-gnu
gcc=aarch64-linux-gnu-gcc

# Debian's names of the packages that are missing for the linker and for the C library that is sent, as words.
missing_packages() {
    have "$gcc" || echo gcc-aarch64-linux-gnu
    cross_file crt1.o >/dev/null || echo libc6-dev-arm64-cross
    cross_file libstdc++.so.6 >/dev/null || echo libstdc++6-arm64-cross
}

# Path of a file of the cross compiler, which prints the bare name where it has none.
cross_file() {
    local path
    path=$("$gcc" -print-file-name="$1" 2>/dev/null) && [ -f "$path" ] && echo "$path"
}

has_target() { [ -d "$("${RUSTC:-rustc}" --print sysroot)/lib/rustlib/$1/lib" ]; }

# Debian's Rust with its standard library for both architectures: a compiler takes that of its own version only.
rust_of_debian=$cache/rust-aarch64-1
unpack_rust() {
    local root=$tmp/rust/root
    say "fetching Debian's Rust for 64-bit ARM (110 MB, once): this one's has no $rust_target"
    unpack_packages "$root" trixie "amd64 arm64" '(cpp|gcc|binutils|linux-libc-dev|libc6-dev|rpcsvc-proto).*|lib(gcc-.*-dev|.*san[0-9]|gprofng0).*|lib(llvm|z3|std-rust-web-1).*:arm64' \
        rustc-web libstd-rust-web-dev:arm64
    cat >"$tmp/rust/rustc" <<'END'
#!/bin/sh
root=$(dirname "$(readlink -f "$0")")/root
libraries=$root/usr/lib/x86_64-linux-gnu
exec "$libraries/ld-linux-x86-64.so.2" --argv0 rustc --library-path "$libraries" "$root/usr/bin/rustc" --sysroot "$root/usr" "$@"
END
    chmod 755 "$tmp/rust/rustc"
    "$tmp/rust/rustc" --version >/dev/null || fail "Debian's Rust doesn't run here." "With rustup: \`rustup target add $rust_target\`."
    mv -T "$tmp/rust" "$rust_of_debian"
}

# All libraries that these need, and the loader.
cross_libraries() {
    local queue=("$@" ld-linux-aarch64.so.1) file path needed found=" "
    while [ ${#queue[@]} -gt 0 ]; do
        file=${queue[0]}
        queue=("${queue[@]:1}")
        path=$file
        if [ ! -f "$path" ]; then
            [[ $found != *" $file "* ]] || continue
            found+="$file "
            path=$(cross_file "$file") || fail "$gcc has no $file, which the agent's build needs."
            echo "$path"
        fi
        needed=$("${gcc%gcc}objdump" -p "$path" | sed -n 's/^ *NEEDED *//p')
        # shellcheck disable=SC2206 # words
        queue+=($needed)
    done
}

cross() {
    local packages library version home program needed
    version=$(version_of_wheel onnxruntime)
    home=$cache/native/onnxruntime-$version-aarch64
    library=$home/lib/libonnxruntime.so.$version
    packages=$(missing_packages)
    if [ -z "$packages" ] && [ -f "$library" ] && { has_target "$rust_target" || [ -d "$rust_of_debian" ]; }; then
        : # nothing to fetch
    else
        open_cache
        packages=$(missing_packages)
        # shellcheck disable=SC2086 # words
        [ -z "$packages" ] || install_packages $packages
        packages=$(missing_packages)
        [ -z "$packages" ] || fail "installed, but still not found: files of ${packages//$'\n'/ }. Look at PATH and run this again."
        if [ ! -f "$library" ]; then
            python_with_pip >/dev/null || fail "there is no Python with pip (Debian: python3-pip), which fetches ONNX Runtime for 64-bit ARM."
            unpack onnxruntime "$home" "$(fetch_wheel onnxruntime aarch64)"
        fi
        if ! has_target "$rust_target" && [ ! -d "$rust_of_debian" ]; then
            [ -n "$(debian_mirror)" ] || fail "Rust has no standard library for 64-bit ARM here." "Get it and run this again: \`rustup target add $rust_target\`."
            unpack_rust
        fi
        close_cache
    fi
    (
        has_target "$rust_target" || export RUSTC=$rust_of_debian/rustc
        export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=${CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER:-$gcc}
        "${cargo[@]}" "${build[@]}" --target "$rust_target"
    ) || fail "the agent could not be built for $target (cargo's messages are above)."
    begin
    program=$built/$rust_target/release/fleetfoot-agent
    put_program "${gcc%gcc}strip" "$program"
    put_onnxruntime "$library"
    needed=$(cross_libraries "$program" "$library")
    mapfile -t needed <<<"$needed"
    put_libraries "${needed[@]}"
    finish "with a C library of its own (glibc $glibc_version)"
}

# --- Android, with the NDK ---

android() {
    local abi=$1 machine=$2 library=${ONNXRUNTIME_ANDROID:-} ndk=${ANDROID_NDK_HOME:-${ANDROID_NDK_ROOT:-}} missing=() strip
    have cargo-ndk || missing+=("cargo-ndk: \`cargo install cargo-ndk\`")
    has_target "$target" || missing+=("Rust's standard library for Android: \`rustup target add $target\`")
    strip=$(compgen -G "${ndk:-/nowhere}/toolchains/llvm/prebuilt/*/bin/llvm-strip") ||
        missing+=("the NDK: get it with Android Studio or sdkmanager and set ANDROID_NDK_HOME to its folder (now '$ndk')")
    case $library in
        *.aar | *.so) [ -f "$library" ] || missing+=("ONNX Runtime for Android: ONNXRUNTIME_ANDROID=$library is not a file") ;;
        *) missing+=("ONNX Runtime for Android: get com.microsoft.onnxruntime:onnxruntime-android from a Maven repository and set ONNXRUNTIME_ANDROID to its onnxruntime-android-VERSION.aar, or to a libonnxruntime.so") ;;
    esac
    [ ${#missing[@]} -eq 0 ] || fail "missing for $target:" "${missing[@]}" "\`make agent-$cpu\` needs none of that; its build runs on phones, too."
    export ANDROID_NDK_HOME=$ndk
    "${cargo[@]}" ndk -t "$abi" --platform 24 "${build[@]}" || fail "the agent could not be built for $target (the messages are above)."
    begin
    put_program "$strip" "$built/$target/release/fleetfoot-agent"
    if [ "${library%.aar}" != "$library" ]; then
        mkdir "$new/aar"
        python3 scripts/native.py onnxruntime-android "$new/aar" "$library" "$abi"
        library=$new/aar/libonnxruntime.so
        [ -f "$library" ] || fail "$ONNXRUNTIME_ANDROID has no jni/$abi/libonnxruntime.so." "Take onnxruntime-android of $abi."
    fi
    # The machine in the head of an ELF file.
    [ "$(od -An -t u2 -j 18 -N 2 "$library" | tr -d ' ')" = "$machine" ] || fail "ONNXRUNTIME_ANDROID=$library isn't made for $abi."
    put_onnxruntime "$library" libonnxruntime.so
    rm -rf "$new/aar"
    finish "built with the NDK"
}

case $target in
    "$arch-linux-gnu") own ;;
    aarch64-linux-gnu)
        [ "$arch" = x86_64 ] || fail "$target is made on x86_64 and on aarch64; this is $arch."
        cross
        ;;
    x86_64-linux-gnu) fail "$target is made on x86_64 only; this is $arch." "Build it on such a machine and copy its $built/agents/$target here." ;;
    aarch64-linux-android) android arm64-v8a 183 ;;
    x86_64-linux-android) android x86_64 62 ;;
    *) fail "for which machines? One of: {x86_64,aarch64}-linux-{gnu,android}" ;;
esac
