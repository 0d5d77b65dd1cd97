#!/usr/bin/env bash
# Installs Debian packages for tests, where a program is not on PATH: PROGRAM PACKAGE... Needs root, or sudo without
# a password.
set -euo pipefail
program=$1
shift
! command -v "$program" >/dev/null || exit 0
die() { echo "$program is not installed: $*" >&2; exit 1; }
command -v apt-get >/dev/null || die "no apt-get here; install it by hand${BY_HAND:-}"
sudo=()
if ((EUID != 0)); then
    sudo=(sudo -n)
    "${sudo[@]}" true 2>/dev/null || die "that needs root, or sudo without a password"
fi
# One at a time: apt-get fails where another one works, and slurm/cluster/up.sh installs under this lock.
exec 9>>"${TMPDIR:-/tmp}/slurm-test-$UID.lock"
flock 9
apt() { "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq "$@" >&2 9>&-; }
add() { apt install -y --no-install-recommends "$@"; }
add "$@" || { apt update && add "$@"; } || die "apt-get failed"
