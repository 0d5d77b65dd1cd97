#!/usr/bin/env bash
# Brings up a throw-away SLURM cluster of one node on 127.0.0.1, for tests.
#
#   eval "$(slurm/cluster/up.sh)"     # then sbatch, squeue, bench.grid --executor slurm … use it
#   slurm/cluster/down.sh --purge     # needs SLURM_TEST_DIR, which the eval above exports
#
# Real daemons, without systemd and control groups. All they have (key, sockets, logs, database, PIDs) is in
# SLURM_TEST_DIR. On a cluster that is up this only prints the exports; of one that is partly up, it starts
# what is missing.
#
# SLURM_TEST_DIR         folder of the cluster                 (a new one)
# SLURM_TEST_CPUS        CPUs the node claims to have          (nproc; may exceed it)
# SLURM_TEST_MEM_MB      memory the node claims to have        (3/4 of what there is)
# SLURM_TEST_ACCOUNTING  none | slurmdbd: with MariaDB, sacct  (none)
# SLURM_TEST_BASE_PORT   where the search for ports begins     (16817)
# SLURM_TEST_TIMEOUT     seconds that each daemon may take     (30)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=processes.sh
source "$here/processes.sh"
export PATH=$PATH:/usr/sbin:/sbin
umask 022

die() {
    log "FAILED: $*"
    [[ -z ${dir:-} ]] || for f in "$dir"/log/*.log; do
        [[ -s $f ]] && { printf -- '--- last lines of %s\n' "$f"; tail -n 15 "$f"; } >&2
    done
    exit 1
}

accounting=${SLURM_TEST_ACCOUNTING:-none}
cpus=${SLURM_TEST_CPUS:-$(nproc)}
mem=${SLURM_TEST_MEM_MB:-$(awk '/^MemTotal/ {print int($2 / 1024 * 3 / 4)}' /proc/meminfo)}
wait_s=${SLURM_TEST_TIMEOUT:-30}
[[ $accounting =~ ^(none|slurmdbd)$ ]] || die "SLURM_TEST_ACCOUNTING is '$accounting', not none or slurmdbd"
for number in SLURM_TEST_CPUS:$cpus SLURM_TEST_MEM_MB:$mem SLURM_TEST_TIMEOUT:$wait_s; do
    [[ ${number#*:} =~ ^[1-9][0-9]*$ ]] || die "${number%%:*} is '${number#*:}', not a positive integer"
done

# One at a time: two that look for ports at once would find the same. Daemons must not inherit the lock.
exec 9>>"${TMPDIR:-/tmp}/slurm-test-$UID.lock"
flock 9

"$here/install.sh" "$accounting" 9>&-

# --- folder -----------------------------------------------------------------------------
dir=${SLURM_TEST_DIR:-$(mktemp -d "${TMPDIR:-/tmp}/slurm-test.XXXXXX")}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd -P)
((${#dir} < 90)) || die "SLURM_TEST_DIR is too long for the path of a socket: $dir"
chmod 755 "$dir"       # munged refuses a socket in a folder that others may write to
mkdir -p "$dir"/{etc,log,run,ctld,slurmd}
pids=$dir/run/pids
conf=$dir/etc/slurm.conf
export SLURM_CONF=$conf
host=$(hostname -s)
user=$(id -un)

start() {              # start NAME COMMAND...
    local name=$1; shift
    ! alive "$name" || return 0
    setsid "$@" </dev/null >>"$dir/log/$name.log" 2>&1 9>&- &
    echo "$name $! $(started_at $!)" >>"$pids"
}
await() {              # await NAME WHAT COMMAND...: NAME must stay alive meanwhile
    local name=$1 what=$2 i; shift 2
    for ((i = 0; i < wait_s * 10; i++)); do
        ! "$@" >/dev/null 2>&1 || return 0
        alive "$name" || die "$name exited"
        sleep 0.1
    done
    die "$what: not within $wait_s s"
}
node_idle() { [[ $(timeout 5 sinfo -h -N -n "$host" -o %t | sort -u) =~ ^(idle|mix|alloc|comp)$ ]]; }
exports() { printf 'export SLURM_TEST_DIR=%q\nexport SLURM_CONF=%q\n' "$dir" "$conf"; }

if [[ -e $conf ]]; then   # what the cluster has is decided by its folder
    if [[ -e $dir/etc/slurmdbd.conf ]]; then accounting=slurmdbd; else accounting=none; fi
    if alive munged && { [[ $accounting == none ]] || { alive mariadbd && alive slurmdbd; }; } &&
        alive slurmctld && alive slurmd && node_idle; then
        log "already up in $dir"; exports; exit 0
    fi
fi

# --- configuration: written once, used again by a restart in the same folder ---------------
port=${SLURM_TEST_BASE_PORT:-16817}
free_port() { while (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do ((port += 1)); done; echo "$port"; }
if [[ ! -e $conf ]]; then
    ctld_port=$(free_port); ((port = ctld_port + 1))
    slurmd_port=$(free_port); ((port = slurmd_port + 1))
    (umask 077; head -c 128 /dev/urandom >"$dir/etc/munge.key")
    storage=AccountingStorageType=accounting_storage/none
    if [[ $accounting == slurmdbd ]]; then
        dbd_port=$(free_port); ((port = dbd_port + 1))
        sql_port=$(free_port)
        storage="AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$dbd_port
AccountingStoragePass=$dir/run/munge.socket"
        (umask 077; head -c 18 /dev/urandom | base64 >"$dir/etc/sql.pass"; cat >"$dir/etc/slurmdbd.conf" <<CONF
AuthType=auth/munge
AuthInfo=socket=$dir/run/munge.socket
DbdHost=$host
DbdAddr=127.0.0.1
DbdPort=$dbd_port
SlurmUser=$user
LogFile=$dir/log/slurmdbd.log
PidFile=$dir/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$sql_port
StorageLoc=slurm_acct_db
StorageUser=slurm
StoragePass=$(cat "$dir/etc/sql.pass")
CONF
        )
    fi
    # from 23.11 on a plugin for control groups is loaded unless this says no; 22.05 needs nothing
    version=$(slurmctld -V | sed 's/[^0-9]*\([0-9]*\)\.\([0-9]*\).*/\1\2/')
    ((10#$version < 2311)) || echo 'CgroupPlugin=disabled' >"$dir/etc/cgroup.conf"
    cat >"$conf.new" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$ctld_port
SlurmdPort=$slurmd_port
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
# a requeued job waits for cred_expire seconds (at least 5; by default 120)
AuthInfo=socket=$dir/run/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation=$dir/ctld
SlurmdSpoolDir=$dir/slurmd
SlurmctldPidFile=$dir/run/slurmctld.pid
SlurmdPidFile=$dir/run/slurmd.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.log
$storage
JobCompType=jobcomp/filetxt
JobCompLoc=$dir/log/jobcomp.txt
# plain processes: neither control groups nor binding to cores
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
# CPUs and memory are handed out; a job that takes more memory is killed
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=$((mem / cpus / 2))
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
JobAcctGatherParams=OverMemoryKill
SlurmdParameters=config_overrides
ReturnToService=2
# short delays, so that tests are quick; ended jobs are remembered, so that they are seen
SchedulerParameters=batch_sched_delay=0,sched_interval=5,bf_interval=5
KillWait=3
MinJobAge=3600
# jobs in "high" preempt those in "low": SIGTERM, and after the grace time back into the queue
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=$mem State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP PriorityTier=5 PreemptMode=OFF
PartitionName=low Nodes=$host MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=10
PartitionName=high Nodes=$host MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
CONF
    mv "$conf.new" "$conf"
fi

# --- daemons ------------------------------------------------------------------------------
trap '[[ $? == 0 ]] || "$here/down.sh" "$dir" >&2 9>&- || true' EXIT
start munged munged --foreground --key-file="$dir/etc/munge.key" --socket="$dir/run/munge.socket" \
    --pid-file="$dir/run/munged.pid" --seed-file="$dir/run/munged.seed" --log-file="$dir/log/munged-own.log" \
    --origin=127.0.0.1
await munged "munged" munge -S "$dir/run/munge.socket" -n -o /dev/null

if [[ $accounting == slurmdbd ]]; then
    sql_port=$(sed -n 's/^StoragePort=//p' "$dir/etc/slurmdbd.conf")
    password=$(cat "$dir/etc/sql.pass")
    if [[ ! -e $dir/sql/.ready ]]; then
        mkdir -p "$dir/sql"
        mariadb-install-db --no-defaults --user="$user" --datadir="$dir/sql" --skip-test-db \
            --auth-root-authentication-method=normal >"$dir/log/sql-install.log" 2>&1 || die "mariadb-install-db"
        (umask 077; cat >"$dir/etc/init.sql" <<SQL
CREATE DATABASE IF NOT EXISTS slurm_acct_db;
CREATE USER IF NOT EXISTS 'slurm'@'127.0.0.1' IDENTIFIED BY '$password';
CREATE USER IF NOT EXISTS 'slurm'@'localhost' IDENTIFIED BY '$password';
GRANT ALL ON slurm_acct_db.* TO 'slurm'@'127.0.0.1';
GRANT ALL ON slurm_acct_db.* TO 'slurm'@'localhost';
SQL
        )
        touch "$dir/sql/.ready"
    fi
    start mariadbd mariadbd --no-defaults --user="$user" --datadir="$dir/sql" --socket="$dir/run/sql.sock" \
        --bind-address=127.0.0.1 --port="$sql_port" --init-file="$dir/etc/init.sql" --skip-log-bin \
        --pid-file="$dir/run/mariadbd.pid" --innodb-buffer-pool-size=64M --innodb-log-file-size=32M \
        --innodb-flush-log-at-trx-commit=0 --innodb-lock-wait-timeout=900 --performance-schema=OFF
    MYSQL_PWD=$password await mariadbd "database" mariadb --no-defaults --protocol=tcp \
        -h127.0.0.1 -P"$sql_port" -uslurm -e "SELECT 1" slurm_acct_db
    start slurmdbd slurmdbd -D
    await slurmdbd "slurmdbd" sacctmgr -n show cluster
    [[ -n $(sacctmgr -n show cluster test format=cluster) ]] || sacctmgr -i add cluster test >&2
fi

start slurmctld slurmctld -D
await slurmctld "slurmctld" scontrol ping
start slurmd slurmd -D
await slurmd "node idle" node_idle
log "up in $dir: node $host, $cpus CPUs, $mem MB, accounting $accounting"
exports
