#!/bin/bash
# Sets up what the test world needs on this machine: Debian packages, then root folders and image tars in a cache.
# Run as root (`make world` does, through sudo where needed). Safe to run again: quick when everything is there.
# Nothing here is fatal: what could not be had is printed, and the fixture that needs it skips with its reason.
set -u -o pipefail
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
here=$(cd "$(dirname "$0")" && pwd)
cache=${OUTRIDER_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/outrider-tests}
# Raise the number in that file when the recipe of a root folder changes: old caches are then not taken for new ones.
recipe=$(cat "$here/recipe.txt")

say() { printf 'world: %s\n' "$*"; }

[ "$(id -u)" = 0 ] || { say "needs root: use 'make world'"; exit 1; }
mkdir -p "$cache/roots" "$cache/images" "$cache/logs" || exit 1
# One installer at a time: a second one waits, then finds everything done.
exec 9>"$cache/install.lock"
flock 9

missing_packages() {
    grep -v '^#' "$here/packages.txt" | while read -r package; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q ' installed$' || echo "$package"
    done
}

install_packages() {
    local missing package policy=/usr/sbin/policy-rc.d made_policy=
    missing=$(missing_packages)
    [ -n "$missing" ] || return 0
    say "installing" $missing
    if [ ! -e $policy ]; then
        # The fixtures start their own servers: the machine's must not be started by installing them.
        printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy && made_policy=yes
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    local log="$cache/logs/apt.log"
    apt-get -q update >"$log" 2>&1 || say "apt-get update failed; going on with the lists that are there"
    apt-get -q -y --no-install-recommends install $missing </dev/null >>"$log" 2>&1 || for package in $missing; do
        apt-get -q -y --no-install-recommends install "$package" </dev/null >>"$log" 2>&1 || say "MISSING: package $package (see $log)"
    done
    if [ -n "$made_policy" ]; then rm -f $policy; trap - EXIT; fi
}

# The first plain Debian mirror in the machine's apt sources (the security archive has no whole suites).
debian_mirror() {
    local found
    found=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
        grep -v '^[[:space:]]*#' | grep -oE 'https?://[^] ]*/debian/?( |$)')
    found=${found%%[[:space:]]*}
    echo "${found:-http://deb.debian.org/debian}"
}

bootstrap() { # NAME SUITE PACKAGES: a root folder, whole or absent
    local name=$1 suite=$2 packages=$3 root=$cache/roots/$1-$recipe temp
    [ -d "$root" ] && return 0
    temp=$root.part.$$
    say "making root folder $name ($suite, $packages)"
    mkdir -p "$cache/debs-$suite"
    debootstrap --variant=minbase --include="$packages" --cache-dir="$cache/debs-$suite" \
        "$suite" "$temp" "$(debian_mirror)" >"$cache/logs/$name.log" 2>&1 9>&- ||
        { tail -n 5 "$cache/logs/$name.log"; rm -rf "$temp"; say "MISSING: root folder $name"; return 1; }
    # Documentation and package lists are most of the files and no test looks at them.
    rm -rf "$temp"/var/cache/apt/* "$temp"/var/lib/apt/lists/* \
        "$temp"/usr/share/{doc,man,locale,info} "$temp"/var/log/*
    # A container engine brings its own hosts and resolv.conf, but wants the places to be there.
    printf '127.0.0.1 localhost\n' >"$temp/etc/hosts"
    : >"$temp/etc/resolv.conf"
    chmod 755 "$temp"
    mv -T "$temp" "$root"
}

bare_root() { # nopython: a shell and the usual small tools, and no Python at all
    local root=$cache/roots/nopython-$recipe temp
    [ -d "$root" ] && return 0
    temp=$root.part.$$
    mkdir -p "$temp"/{bin,etc,proc,sys,dev,tmp,root} && chmod 1777 "$temp/tmp" &&
        cp "$(command -v busybox)" "$temp/bin/busybox" &&
        chroot "$temp" /bin/busybox --install -s /bin ||
        { rm -rf "$temp"; say "MISSING: root folder nopython"; return 1; }
    printf 'root:x:0:0:root:/root:/bin/sh\n' >"$temp/etc/passwd"
    printf 'root:x:0:\n' >"$temp/etc/group"
    mv -T "$temp" "$root"
}

image() { # NAME: the root folder as a tar that docker and podman import
    local tar=$cache/images/$1-$recipe.tar
    [ -s "$tar" ] && return 0
    tar --numeric-owner --exclude=./dev/* -C "$cache/roots/$1-$recipe" -cf "$tar.part.$$" . && mv "$tar.part.$$" "$tar" ||
        { rm -f "$tar.part.$$"; say "MISSING: image $1"; return 1; }
}

users() { # accounts the servers log in to; without a usable password, but not locked: sshd refuses locked ones
    local name
    for name in outrider-a outrider-b outrider-c outrider-n outrider-p; do
        id "$name" >/dev/null 2>&1 || { useradd -m -s /bin/bash "$name" && usermod -p '*' "$name"; } || say "MISSING: user $name"
    done
    ! getent group docker >/dev/null || usermod -aG docker outrider-b
}

rm -rf "$cache"/roots/*.part.* "$cache"/images/*.part.*
install_packages
users
{ bare_root && image nopython; } &
{ bootstrap apptainer sid apptainer,python3-minimal; } &
{ bootstrap pybox bookworm python3 && image pybox; bootstrap pyslim bookworm python3-minimal && image pyslim; } &
wait
rm -rf "$cache"/debs-*
for name in pybox pyslim nopython apptainer; do
    [ -d "$cache/roots/$name-$recipe" ] || say "not there: $name (see $cache/logs/$name.log)"
done
say "ready in ${SECONDS}s, cache in $cache"
