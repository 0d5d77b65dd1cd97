#!/usr/bin/env bash
# Takes down the cluster that up.sh brought up: ends its jobs, then its daemons.
#
#   down.sh [--purge] [DIR]      DIR: $SLURM_TEST_DIR unless given; --purge removes it too
#
# Signals go to nothing but daemons whose PID and start time up.sh recorded, and the jobs of their node.
# Doing it twice is fine.
set -euo pipefail
# shellcheck source=processes.sh
source "$(dirname "$0")/processes.sh"
purge=
[[ ${1:-} != --purge ]] || { purge=1; shift; }
dir=${1:-${SLURM_TEST_DIR:-}}
[[ -n $dir ]] || { echo "usage: $0 [--purge] DIR (or set SLURM_TEST_DIR)" >&2; exit 2; }
[[ -d $dir ]] || { log "nothing at $dir"; exit 0; }
dir=$(cd "$dir" && pwd -P)
pids=$dir/run/pids
export SLURM_CONF=$dir/etc/slurm.conf

stop() {               # stop NAME SECONDS: TERM, then KILL
    local pid time i
    while read -r pid time; do
        kill -TERM "$pid" 2>/dev/null || true
        for ((i = 0; i < $2 * 10; i++)); do running "$pid" "$time" || continue 2; sleep 0.1; done
        log "$1 ($pid) had to be killed"
        kill -KILL "$pid" 2>/dev/null || true
    done < <(recorded "$1")
}
# Jobs' own daemons are nobody's children; what tells whose they are is the log that they hold open.
steps() {
    local p fd
    for p in $(pgrep -x slurmstepd || true); do
        for fd in /proc/"$p"/fd/*; do
            [[ $(readlink "$fd" 2>/dev/null) != "$dir/log/slurmd.log" ]] || { echo "$p"; break; }
        done
    done
}
family() {             # family PID: it and all its descendants
    local child
    echo "$1"
    for child in $(pgrep -P "$1" || true); do family "$child"; done
}

# Jobs outlive slurmd, so they end first: by SLURM where it answers, and by force.
if alive slurmctld && alive slurmd; then
    for ((i = 0; i < 20; i++)); do
        jobs=$(timeout 5 squeue -h -o %A 2>/dev/null) || break
        [[ -n $jobs ]] || break
        ((i % 5)) || sort -u <<<"$jobs" | timeout 5 xargs scancel 2>/dev/null || true
        sleep 0.5
    done
fi
for daemon in slurmd slurmctld; do stop "$daemon" 15; done
for step in $(steps); do
    log "killing the job of slurmstepd $step"
    for pid in $(family "$step"); do kill -KILL "$pid" 2>/dev/null || true; done
done
for daemon in slurmdbd mariadbd munged; do stop "$daemon" 15; done
rm -f "$pids"
if [[ -n $purge && -f $dir/etc/slurm.conf ]]; then rm -rf -- "$dir"; fi
log "down"
