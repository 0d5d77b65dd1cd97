#!/usr/bin/env bash
# Installs what up.sh starts, as far as it is missing: Debian's or Ubuntu's packages of SLURM and munge,
# with the argument "slurmdbd" those of accounting too. Needs root, or sudo without a password.
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin

declare -A package=([munged]=munge [slurmctld]=slurmctld [slurmd]=slurmd [sbatch]=slurm-client)
[[ ${1:-none} != slurmdbd ]] ||
    package+=([slurmdbd]=slurmdbd [mariadbd]=mariadb-server-core [mariadb]=mariadb-client-core)
missing=()
for program in "${!package[@]}"; do
    command -v "$program" >/dev/null || missing+=("${package[$program]}")
done
((${#missing[@]})) || exit 0

die() { echo "slurm cluster: ${missing[*]} not installed: $*" >&2; exit 1; }
command -v apt-get >/dev/null || die "no apt-get here; install them by hand"
sudo=()
if ((EUID != 0)); then
    sudo=(sudo -n)
    "${sudo[@]}" true 2>/dev/null || die "that needs root, or sudo without a password"
fi
echo "slurm cluster: installing ${missing[*]}" >&2

# a policy of "never" keeps the packages from starting daemons of their own
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
    trap '"${sudo[@]}" rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee "$policy" >/dev/null
    "${sudo[@]}" chmod 755 "$policy"
fi
apt() { "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq "$@" >&2; }
add() { apt install -y --no-install-recommends "${missing[@]}"; }
add || { apt update && add; } || die "apt-get failed"
