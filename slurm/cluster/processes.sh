# Sourced: which processes are this cluster's. A line of $pids is "name PID start-time".

log() { printf 'slurm cluster: %s\n' "$*" >&2; }

# Start time of a PID, so that a reused PID is never taken for ours; none for a zombie.
started_at() {
    local s
    s=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    read -ra s <<<"${s##*) }"
    [[ ${s[0]} != Z ]] && echo "${s[19]}"
}

running() { [[ $(started_at "$1" || true) == "$2" ]]; }   # running PID START-TIME

# recorded NAME: PID and start time of each daemon of that name that was started here and still runs
recorded() {
    local name pid time
    while read -r name pid time; do
        if [[ $name == "$1" ]] && running "$pid" "$time"; then echo "$pid $time"; fi
    done < <(cat "$pids" 2>/dev/null)
}

alive() { [[ -n $(recorded "$1") ]]; }
