# shellcheck shell=bash
# Shared by the scripts of this directory. Source it; it runs nothing by itself.
# Set here for those who source it:
# shellcheck disable=SC2034

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cargo=${CARGO:-cargo}
target_dir=${CARGO_TARGET_DIR:-$top/target}

note() { printf '== %s\n' "$*" >&2; }
die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# as_root CMD...: runs it as root, through sudo where that asks nothing.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        return 1
    fi
}

# have FILE-OR-COMMAND: whether a command is in PATH (or where Debian keeps
# root's), or a file exists.
have() {
    case $1 in
        /*) [ -e "$1" ] ;;
        *) PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null ;;
    esac
}

# need WHAT=PACKAGE...: installs the Debian package of each command, file or
# `lib:NAME.a` (found by the C compiler) that is absent. Fails, naming what to
# install, where that is not possible.
need() {
    local pair packages=()
    for pair in "$@"; do
        present "${pair%%=*}" || packages+=("${pair#*=}")
    done
    [ ${#packages[@]} -gt 0 ] || return 0
    install_packages "${packages[@]}" || die "missing: install ${packages[*]} (Debian's names) as root"
    for pair in "$@"; do
        present "${pair%%=*}" || die "${pair%%=*} is still absent after installing ${pair#*=}"
    done
}

# want WHAT=PACKAGE...: as need, but only returns 1 where something cannot be had.
want() { (need "$@") 2>/dev/null; }

present() {
    case $1 in
        lib:*) have gcc && [ "$(gcc -print-file-name="${1#lib:}")" != "${1#lib:}" ] ;;
        static:*) have "${1#static:}" && ! has_interpreter "$(PATH=$PATH:/usr/sbin:/sbin command -v "${1#static:}")" ;;
        *) have "$1" ;;
    esac
}

# has_interpreter FILE: whether an executable is dynamically linked.
has_interpreter() {
    case $(ldd "$1" 2>&1) in
        *'not a dynamic executable'* | *'statically linked'*) return 1 ;;
    esac
}

install_packages() {
    have apt-get || return 1
    note "installing $*"
    if [ -z "${apt_updated:-}" ]; then
        as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q >&2 </dev/null || return 1
        apt_updated=1
    fi
    without_daemons as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends "$@" >&2 </dev/null
}

# without_daemons CMD...: runs it while no package may start a service: dockerd
# and containerd are wanted as programs, which tests start for themselves. What
# said so before, if anything did, says it again afterwards, also when this is
# interrupted.
without_daemons() (
    rule=/usr/sbin/policy-rc.d
    # Somebody else's rule may be a link, and stays one.
    kept=$rule.kusabi-$$
    # shellcheck disable=SC2317 # called by the trap
    give_back() {
        as_root rm -f "$rule"
        if as_root test -e "$kept" || as_root test -L "$kept"; then
            as_root mv -T "$kept" "$rule"
        fi
    }
    if [ -e "$rule" ] || [ -L "$rule" ]; then
        as_root mv -T "$rule" "$kept" || exit 1
    fi
    trap give_back EXIT
    trap 'exit 1' INT TERM
    # 101: the action is forbidden (invoke-rc.d(8)).
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$rule" >/dev/null || exit 1
    as_root chmod 755 "$rule" || exit 1
    "$@"
)

# prepare_build: the C library that kusabi links, statically, and a compiler to
# find it with. Nothing else of C is needed.
prepare_build() {
    have "$cargo" || die "no cargo: install Rust $(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$top/Cargo.toml") or newer from https://rustup.rs"
    need gcc=gcc lib:libc.a=libc6-dev /usr/include/seccomp.h=libseccomp-dev lib:libseccomp.a=libseccomp-dev
    export LIBSECCOMP_LINK_TYPE=static
    LIBSECCOMP_LIB_PATH=$(dirname "$(gcc -print-file-name=libseccomp.a)")
    export LIBSECCOMP_LIB_PATH
}

# host_state: what a run may not change on the host, one sorted line each:
# mounts, the modes and numbers of /dev, and every cgroup, process and state
# directory that bears kusabi's name. Another run's (a KUSABI_TEST_PREFIX that is not
# ours) is not ours to watch.
host_state() {
    local prefix=${KUSABI_TEST_PREFIX:-kusabi-test}
    {
        cut -d' ' -f3- /proc/self/mountinfo | sed 's/^/mount /'
        find /dev -maxdepth 1 \( -type c -o -type b -o -type l \) ! -name 'loop*' \
            -printf 'node %p %M %U:%G\n'
        find /sys/fs/cgroup -type d -name '*kusabi*' -printf 'cgroup %p\n' 2>/dev/null || true
        find /run/kusabi /tmp -maxdepth 1 -name '*kusabi*' -printf 'file %p\n' 2>/dev/null || true
        find /run/kusabi -mindepth 1 -printf 'state %p\n' 2>/dev/null || true
        # Living processes with a cgroup of that name.
        grep -lE '/[^/]*kusabi' /proc/[0-9]*/cgroup 2>/dev/null | while IFS=/ read -r _ _ pid _; do
            if ! grep -qsE '^State:.[ZX]' "/proc/$pid/status"; then
                printf 'process %s %s\n' "$(cat "/proc/$pid/comm" 2>/dev/null)" \
                    "$(tail -1 "/proc/$pid/cgroup" 2>/dev/null)"
            fi
        done || true
    } | awk -v ours="$prefix" '
        # Lines of other runs name kusabi-test but not our prefix.
        /kusabi-test/ && index($0, ours) == 0 { next }
        { print }' | sort
}
