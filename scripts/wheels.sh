# shellcheck shell=bash
# For the scripts that set things up, in the project's folder: pinned wheels (scripts/wheels.txt) through pip, unpacked into
# a cache that all checkouts share, with links in native/. Nothing is installed into Python.

arch=$(uname -m)
cache=${XDG_CACHE_HOME:-${HOME:?is not set: name a folder for downloads in XDG_CACHE_HOME}/.cache}/fleetfoot

speaker=${speaker:-setup}
say() { printf '%s: %s\n' "$speaker" "$*" >&2; }
fail() {
    printf '%s: error: %s\n' "$speaker" "$1" >&2
    shift
    [ $# -eq 0 ] || printf '  %s\n' "$@" >&2
    exit 1
}
have() { command -v "$1" >/dev/null; }

version_of_wheel() { sed -n "s/^$1==\([0-9.]*\) .*/\1/p" scripts/wheels.txt; }

# A Python with pip: the first in PATH may be one without, while Debian's has it.
python_with_pip() {
    local python
    for python in python3 /usr/bin/python3; do
        if "$python" -c 'import pip' 2>/dev/null; then
            echo "$python"
            return
        fi
    done
    return 1
}

# The cache to itself, with a folder for what is under way.
open_cache() {
    mkdir -p "$cache" 2>/dev/null || true
    [ -w "$cache" ] || fail "$cache can't be written. Name another folder in XDG_CACHE_HOME."
    tmp=$cache/tmp
    exec 9>"$cache/lock"
    flock -n 9 || { say "waiting for another set-up to end" && flock 9; }
    rm -rf "$tmp" # what a killed set-up left
    mkdir "$tmp"
    trap 'rm -rf "$tmp"' EXIT
}

close_cache() {
    rm -rf "$tmp"
    trap - EXIT
    exec 9>&-
}

# Path of a wheel in the cache whose hash is right; a damaged one is thrown away.
cached_wheel() {
    local requirement=$1 name=$2 version=$3 arch=$4 file sum
    for file in "$cache/wheels/${name//-/_}-$version"-*"_$arch.whl"; do
        [ -f "$file" ] || continue
        sum=$(sha256sum "$file")
        if [[ $requirement == *"sha256:${sum%% *}"* ]]; then
            echo "$file"
            return
        fi
        say "$file is damaged; fetching it again"
        rm -f "$file"
    done
    return 1
}

# Prints the path of the verified wheel of a package in wheels.txt, for this machine unless another architecture is named;
# asks pip only if it isn't in the cache.
fetch_wheel() {
    local name=$1 arch=${2:-$arch} version requirement python try options=() platform
    version=$(version_of_wheel "$name")
    requirement=$(grep "^$name==" scripts/wheels.txt)
    cached_wheel "$requirement" "$name" "$version" "$arch" && return

    python=$(python_with_pip)
    # The wheel's Python, not the one that runs pip: only the native libraries matter.
    options=(--only-binary=:all: --python-version 3.11 --implementation cp --abi cp311)
    for platform in manylinux_2_35 manylinux_2_34 manylinux_2_28 manylinux_2_25 manylinux_2_17 manylinux2014; do
        options+=(--platform "${platform}_$arch")
    done
    if "$python" -m pip download --help | grep -q -e --resume-retries; then options+=(--resume-retries 20); fi
    mkdir -p "$tmp/$name" "$cache/wheels"
    echo "$requirement" >"$tmp/$name.txt"
    for try in 1 2 3; do
        say "fetching $name $version for $arch (attempt $try of 3)"
        # TMPDIR: /tmp may be too small a memory disk for half a gigabyte.
        if TMPDIR=$tmp PIP_REQUIRE_VIRTUALENV=0 PIP_DISABLE_PIP_VERSION_CHECK=1 "$python" -m pip download --no-deps \
            --no-input --no-cache-dir --require-hashes "${options[@]}" -r "$tmp/$name.txt" -d "$tmp/$name" </dev/null >&2; then
            mv "$tmp/$name"/*.whl "$cache/wheels/"
            cached_wheel "$requirement" "$name" "$version" "$arch" && return
        fi
    done
    fail "pip could not fetch $name $version (its messages are above). Check the network and run this again; what is fetched is kept."
}

# Unpacks archives into a folder of the cache, in one step as others see it.
unpack() {
    local library=$1 home=$2
    shift 2
    say "unpacking $library into $home"
    mkdir -p "$tmp/$library" "$cache/native"
    "$(python_with_pip)" scripts/native.py "$library" "$tmp/$library" "$@" ||
        fail "$library could not be unpacked (the reason is above). Mend that and run this again."
    rm -rf "$home"
    mv -T "$tmp/$library" "$home"
}

# The same with wheels of wheels.txt, and links the folder into native/.
unpack_and_link() {
    local library=$1 home=$2 proof=$3 name wheels=()
    shift 3
    if [ ! -f "$home/$proof" ]; then
        for name in "$@"; do wheels+=("$(fetch_wheel "$name")"); done
        unpack "$library" "$home" "${wheels[@]}"
    fi
    mkdir -p native
    [ -L "native/$library" ] || [ ! -e "native/$library" ] ||
        fail "native/$library is not a link that this script made. Move it away and run this again."
    ln -sfn "$home" "native/$library"
}
