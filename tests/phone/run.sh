#!/usr/bin/env bash
# Serves a throw-away phone or board that tests/phone.sh made, on the loopback interface only:
#     run.sh PORT [ROOT]               a phone: adbd; `adb connect 127.0.0.1:PORT` (not 5555…5585, which adb takes for emulators)
#     run.sh --ssh KEYS PORT [ROOT]    a board: sshd, with the user pi; makes KEYS/config for `ssh -F`, its host `board`,
#                                      and KEYS/bin/ssh, an ssh that uses it
# It says "serving 127.0.0.1:PORT" when it can be connected to. All of it ends with this process, however that ends. Several can
# run at once, and see nothing of each other. Exit status 77: this machine can't do it; why is on standard error.
# Environment:
#     PHONE_DATA=FOLDER    is /data/local/tmp (the home folder of a board); else an empty one is
#     PHONE_SIZE=20m       size of the empty one
#     PHONE_NOEXEC=1       nothing can be started from it
#     PHONE_PROPS=FILE     lines of name=value for getprop
#     PHONE_CPU=FOLDER     is /sys/devices/system/cpu
#     PHONE_GLIBC=1        a phone keeps the C library that Android hasn't; boards always have one
#     PHONE_UNTIL_EOF=1    it ends with its standard input, too
# The stand-ins for Android's programs (getprop, settings, svc, cmd, dumpsys) keep their state in /data/local/state.
set -euo pipefail
shopt -s inherit_errexit

cannot() {
    printf 'phone: %s\n' "$1" >&2
    exit 77
}

# --- Outside ---

# Keys of the board and of who logs in there.
# shellcheck disable=SC2016 # of the script that it writes
make_keys() {
    local keys=$1 port=$2
    mkdir -p "$keys/bin"
    [ -f "$keys/host" ] || ssh-keygen -q -t ed25519 -N "" -C board -f "$keys/host"
    [ -f "$keys/id" ] || ssh-keygen -q -t ed25519 -N "" -C test -f "$keys/id"
    echo "board $(cut -d ' ' -f 1,2 "$keys/host.pub")" >"$keys/known_hosts"
    cat >"$keys/config" <<END
Host board
    HostName 127.0.0.1
    Port $port
    HostKeyAlias board
    User pi
    IdentityFile "$keys/id"
    IdentitiesOnly yes
    IdentityAgent none
    UserKnownHostsFile "$keys/known_hosts"
    GlobalKnownHostsFile /dev/null
END
    [ -f "$keys/bin/ssh" ] || printf '#!/bin/sh\nexec "%s" -F "%s" "$@"\n' "$(type -P ssh)" "$keys/config" >"$keys/bin/ssh"
    chmod 755 "$keys/bin/ssh"
}

outside() {
    local here keys="" child status=0
    here=$(dirname "$(readlink -f "$0")")
    if [ "${1:-}" = --ssh ]; then
        keys=$(realpath -m "$2")
        shift 2
    fi
    local port=${1:?"which port?"} root=${2:-$here/root}
    for program in unshare setpriv mount; do type -P "$program" >/dev/null || cannot "there is no $program (Debian: util-linux, mount)."; done
    if [ -n "$keys" ]; then
        type -P ssh-keygen >/dev/null || cannot "there is no ssh-keygen (Debian: openssh-client)."
        make_keys "$keys" "$port"
    fi
    ! listening "$port" || { printf 'phone: port %s is taken.\n' "$port" >&2 && exit 1; }
    # unshare itself ignores SIGTERM, and wouldn't end when this shell is killed.
    setpriv --pdeathsig KILL unshare --user --map-root-user --mount --pid --fork --kill-child "$0" --inside "$here" "$port" "$root" "$keys" <&0 &
    child=$!
    trap 'kill -KILL "$child" 2>/dev/null; exit 143' TERM INT HUP
    wait "$child" || status=$?
    exit "$status"
}

# --- Inside: root of its own world ---

listening() {
    grep -qsE "^ *[0-9]+: [0-9A-F]+:$(printf %04X "$1") [0-9A-F:]+ 0A " /proc/net/tcp /proc/net/tcp6
}

mounted() { mount "$@" || cannot "mount $* is refused in a user namespace."; }

# Programs of another processor run in an emulator, in this world only.
emulate() {
    local qemu=$1
    mounted -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
    printf '%s' ":qemu-aarch64:M::\\x7fELF\\x02\\x01\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02\\x00\\xb7\\x00:\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x00\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xfe\\xff\\xff\\xff:$qemu:FP" \
        >/proc/sys/fs/binfmt_misc/register || cannot "the kernel takes no emulator in a user namespace (Linux 6.7 or newer does)."
}

furnish() {
    local root=$1 data=$2 options=mode=755
    mounted --bind "$root" "$root"
    mount -o remount,bind,ro "$root" 2>/dev/null || true # a help, not a need
    mounted -t proc proc "$root/proc"
    mounted --rbind /dev "$root/dev"
    mounted --rbind /sys "$root/sys"
    [ -z "${PHONE_CPU:-}" ] || mounted --bind "$PHONE_CPU" "$root/sys/devices/system/cpu"
    mounted -t tmpfs -o mode=1777 tmpfs "$root/tmp"
    mounted -t tmpfs tmpfs "$root/run"
    mounted -t tmpfs tmpfs "$root/data/local"
    mkdir "$root/data/local/tmp" "$root/data/local/state"
    [ -z "${PHONE_PROPS:-}" ] || cp "$PHONE_PROPS" "$root/data/local/state/props"
    [ -z "${PHONE_NOEXEC:-}" ] || options+=,noexec
    if [ -n "${PHONE_DATA:-}" ]; then
        mounted --bind "$PHONE_DATA" "$root$data"
        [ -z "${PHONE_NOEXEC:-}" ] || mounted -o remount,bind,noexec "$root$data"
    else
        mounted -t tmpfs -o "$options${PHONE_SIZE:+,size=$PHONE_SIZE}" tmpfs "$root$data"
    fi
}

phone() {
    local root=$1 port=$2
    chroot "$root" /bin/busybox env -i PATH=/system/bin HOME=/data/local/tmp TMPDIR=/data/local/tmp \
        ADBD_PORT="$port" LD_PRELOAD=/usr/lib/loopback.so /usr/sbin/adbd </dev/null >&2 &
}

# sshd, not as root: only that works in a world with one user, and boards aren't measured as root.
board() {
    local root=$1 port=$2 keys=$3
    mkdir "$root/run/keys"
    mounted --bind "$keys" "$root/run/keys"
    mounted -t tmpfs tmpfs "$root/system" # what would make it a phone
    unshare --user --map-user=1000 --map-group=1000 --root "$root" --wd / /usr/bin/busybox env -i PATH=/usr/sbin:/usr/bin \
        /usr/sbin/sshd -D -e -f /dev/null -p "$port" -h /run/keys/host -o ListenAddress=127.0.0.1 -o AddressFamily=inet \
        -o AuthorizedKeysFile=/run/keys/id.pub -o StrictModes=no -o UsePAM=no -o PasswordAuthentication=no \
        -o KbdInteractiveAuthentication=no -o PidFile=none -o LogLevel=ERROR </dev/null >&2 &
}

inside() {
    local here=$1 port=$2 root=$3 keys=$4 server data=/data/local/tmp library
    [ -z "$keys" ] || data=/home/pi
    [ ! -x "$here/qemu" ] || emulate "$here/qemu"
    furnish "$root" "$data"
    if [ -n "$keys" ]; then board "$root" "$port" "$keys"; else phone "$root" "$port"; fi
    server=$!
    until listening "$port"; do
        kill -0 "$server" 2>/dev/null || { printf 'phone: the server ended; its messages are above.\n' >&2 && exit 1; }
        sleep 0.02
    done
    if [ -z "$keys$PHONE_GLIBC" ]; then
        # From now on no program finds a C library; adbd has loaded it already.
        for library in "$root"/usr/lib/*-linux-gnu; do mounted -t tmpfs -o size=4k tmpfs "$library"; done
    fi
    echo "serving 127.0.0.1:$port"
    if [ -n "${PHONE_UNTIL_EOF:-}" ]; then cat <&0 >/dev/null & fi
    wait -n
}

PHONE_GLIBC=${PHONE_GLIBC:-}
if [ "${1:-}" = --inside ]; then inside "${@:2}"; else outside "$@"; fi
