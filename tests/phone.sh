#!/usr/bin/env bash
# Makes a throw-away phone for tests, once, in the cache, and prints the folder that it is in; FOLDER/run.sh serves it:
#     tests/phone.sh amd64|arm64
# It is Debian's adbd, mksh and toybox, which are Android's own, and sshd and busybox, unpacked and not installed, with stand-ins for
# some of Android's programs. Exit status 77: this machine can't have one; why is on standard error.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/.."
speaker=phone
. scripts/wheels.sh
. scripts/packages.sh

cannot() {
    say "$*"
    exit 77
}

architecture=${1:-}
case $architecture in
    amd64) own=x86_64 gcc=gcc ;;
    arm64) own=aarch64 gcc=aarch64-linux-gnu-gcc ;;
    *) fail "which architecture? amd64 or arm64" ;;
esac
if [ "$own" = "$arch" ]; then gcc=gcc; fi
[ "$own" = "$arch" ] || [ "$architecture" = arm64 ] || cannot "no $architecture phone on $arch."
for program in unshare setpriv mount ssh-keygen; do have "$program" || cannot "there is no $program (Debian: util-linux, mount, openssh-client)."; done
unshare --user --map-root-user --mount --pid --fork mount -t tmpfs tmpfs /proc 2>/dev/null ||
    cannot "this user can't have namespaces (unshare --user --mount --pid)."
if [ "$own" != "$arch" ]; then
    unshare --user --map-root-user --mount mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc 2>/dev/null ||
        cannot "the kernel takes no emulator in a user namespace (Linux 6.7 or newer does)."
fi

home=$cache/phone-$architecture-$(cat tests/phone.sh tests/phone/*.* tests/phone/bin/* | sha256sum | cut -c 1-12)

# A phone has Android's shell and commands (mksh, toybox) in /system/bin, a board has those of busybox in /usr/bin.
link_commands() {
    local run=() name libraries
    [ "$own" = "$arch" ] || run=("$new/qemu")
    ln -sfn "../lib/$own-linux-musl/bin/mksh" "$root/usr/bin/sh"
    ln -s /usr/bin/sh "$root/system/bin/sh"
    # Debian's toybox needs a C library; a phone has none that other programs find.
    libraries=$root/usr/lib/$own-linux-gnu
    cp "$root/usr/bin/toybox" "$libraries"/lib{c.so.6,crypt.so.1,m.so.6} "$root/system/lib/"
    cp "$libraries"/ld-linux-*.so.* "$root/system/lib/ld.so"
    for name in $("${run[@]}" "$root/system/lib/ld.so" --library-path "$root/system/lib" "$root/system/lib/toybox"); do
        [ -e "$root/system/bin/$name" ] || ln -s ../lib/run-toybox "$root/system/bin/$name"
    done
    # What Android 8's has besides.
    for name in dd diff expr gzip more tr; do ln -s ../../usr/bin/busybox "$root/system/bin/$name"; done
    for name in $("${run[@]}" "$root/usr/bin/busybox" --list); do
        [ -e "$root/usr/bin/$name" ] || ln -s busybox "$root/usr/bin/$name"
    done
}

make_phone() {
    local new=$tmp/phone root=$tmp/phone/root
    say "making a phone ($architecture, 20 MB to fetch, once)"
    # Of sshd's packages only libraries are of use, and of qemu's none.
    unpack_packages "$root" trixie "$architecture" '(.*perl.*|dpkg|debconf|.*passwd|adduser|systemd|libsystemd-shared|openssh-client|openssh-sftp-server|procps|mount|ucf|lib(pam-modules|db5).*|init-system-helpers|sysvinit-utils|runit-helper|sensible-utils):.*' \
        adbd mksh toybox busybox-static openssh-server
    if [ "$own" != "$arch" ]; then
        unpack_packages "$tmp/qemu" trixie "$(dpkg --print-architecture)" '[^q].*' qemu-user
        cp "$tmp/qemu/usr/bin/qemu-$own" "$new/qemu"
    fi
    for name in bin sbin lib lib64; do
        mkdir -p "$root/usr/$name"
        [ -e "$root/$name" ] || ln -s "usr/$name" "$root/$name"
    done
    mkdir -p "$root"/{proc,dev,sys,tmp,run,root,etc,home/pi,data/local,system/{bin,lib}}
    cp tests/phone/bin/* "$root/system/bin/"
    mv "$root/system/bin/run-toybox" "$root/system/lib/"
    link_commands
    printf '%s\n' root:x:0:0::/data/local/tmp:/bin/sh pi:x:1000:1000::/home/pi:/bin/ash >"$root/etc/passwd"
    printf '%s\n' root:x:0: pi:x:1000: >"$root/etc/group"
    echo 'PRETTY_NAME="Board OS 1"' >"$root/etc/os-release"
    "$gcc" -shared -fPIC -O2 -o "$root/usr/lib/loopback.so" tests/phone/loopback.c
    rm -rf "${root:?}/usr/share"
    cp tests/phone/run.sh "$new/"
    chmod -R u+rwX,go+rX "$new"
    mv -T "$new" "$home"
}

if [ ! -d "$home" ]; then
    have "$gcc" || cannot "there is no $gcc (\`make agent-aarch64\` installs it)."
    [ -n "$(debian_mirror)" ] || cannot "it is made of Debian's packages, and this machine's apt has no mirror of Debian."
    open_cache
    [ -d "$home" ] || make_phone
fi
echo "$home"
