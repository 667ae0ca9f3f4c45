# shellcheck shell=bash
# For the scripts that need Debian's packages, after scripts/wheels.sh: installed, or only unpacked into a folder.

# What else to say where packages can't be installed.
hints=()

install_packages() {
    local as_root=()
    local install=(apt-get install -y --no-install-recommends "$@")
    have apt-get || fail "missing, by Debian's names: $*. There is no apt-get here: install them your system's way and run this again." "${hints[@]}"
    if [ "$(id -u)" -ne 0 ]; then
        if ! have sudo || ! sudo -n true 2>/dev/null; then
            fail "missing packages: $*. Have them installed, then run this again:" \
                "  sudo apt-get update && sudo ${install[*]}" "${hints[@]}"
        fi
        as_root=(sudo -n)
    fi
    say "installing $*"
    as_root+=(env DEBIAN_FRONTEND=noninteractive)
    # One broken third-party list needn't stop us; a list we do need shows in the install.
    "${as_root[@]}" apt-get update -qq </dev/null >&2 || say "apt-get update failed; going on with the lists there are"
    "${as_root[@]}" "${install[@]}" -qq -o DPkg::Lock::Timeout=600 </dev/null >&2 ||
        fail "apt-get could not install: $* (its messages are above). Mend that, or install them by hand, and run this again." "${hints[@]}"
}

# The mirror of Debian that this machine's apt uses; nothing where it uses none.
debian_mirror() {
    have apt-get && have dpkg-deb && grep -qs '^ID=debian$' /etc/os-release || return 0
    # shellcheck disable=SC2016 # apt's variables
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        awk -v own="$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)" \
            '$3 == "main" && ($2 == own || $2 ~ /^(stable|testing|unstable|sid)$/) && !found++ { print $1 }'
}

# Fetches packages of a release of Debian with what they need, and unpacks them into a folder; nothing is installed, and
# root isn't needed. The first architecture is that of packages named without one. What matches the pattern in full, such
# as `perl-base:arm64`, is left out.
#     unpack_packages FOLDER RELEASE "ARCHITECTURE..." PATTERN PACKAGE...
unpack_packages() {
    local folder=$1 release=$2 architectures=$3 without=$4 apt=$tmp/apt mirror package
    local keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    shift 4
    mirror=$(debian_mirror)
    [ -n "$mirror" ] || fail "Debian's packages ($*) are needed, and this machine's apt has no mirror of Debian."
    mkdir -p "$apt"/{lists/partial,archives/partial,parts,debs} "$folder"
    : >"$apt/status"
    echo "deb [arch=${architectures// /,} signed-by=$keyring] $mirror $release main" >"$apt/sources.list"
    cat >"$apt/apt.conf" <<END
APT::Architecture "${architectures%% *}";
APT::Architectures { "${architectures// /\"; \"}"; };
APT::Sandbox::User "$(id -un)";
Acquire::Languages "none";
Acquire::Retries "3";
Dir::State::lists "$apt/lists";
Dir::State::status "$apt/status";
Dir::State::extended_states "$apt/extended_states";
Dir::Cache "$apt";
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "$apt/parts";
Dir::Etc::preferences "$apt/preferences";
Dir::Etc::preferencesparts "$apt/parts";
END
    APT_CONFIG=$apt/apt.conf apt-get update -qq --error-on=any </dev/null >&2 &&
        # It prints lines such as: 'URI' libc6_2.41-12_arm64.deb 2384123 SHA256:…
        APT_CONFIG=$apt/apt.conf apt-get install -qq --no-install-recommends --print-uris "$@" </dev/null >"$apt/uris" &&
        sed -nE "s/^'[^']+' ([^_]+)_[^ ]*_([a-z0-9]+)\.deb .*/\1:\2/p" "$apt/uris" | grep -vxE "$without" |
        sed 's/:all$//' >"$apt/names" &&
        (cd "$apt/debs" && APT_CONFIG=$apt/apt.conf xargs apt-get download -qq <"$apt/names" >&2) ||
        fail "Debian's packages ($*) could not be fetched (apt-get's messages are above). Check the network and run this again."
    for package in "$apt/debs"/*.deb; do dpkg-deb -x "$package" "$folder"; done
    rm -rf "$apt"
}
