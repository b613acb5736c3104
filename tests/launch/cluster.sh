#!/usr/bin/env bash
# cluster.sh - a real Slurm "cluster" on the loopback of this machine, for a test: no systemd, no database.
#
#   cluster.sh start STATE   two nodes of four processors; prints the SLURM_CONF to use when both are idle
#   cluster.sh stop STATE    cancels its jobs and stops the daemons that it started, by their pid
#
# Needs root and Debian's slurm-wlm, slurm-wlm-basic-plugins, munge. Key, sockets, spool and logs lie under
# STATE (absolute); nothing in /etc is touched. Ports: $CLUSTER_PORT (16817) and the two after it.
set -u
[ $# = 2 ] || exit 2
state=$2
port=${CLUSTER_PORT:-16817}
export SLURM_CONF=$state/slurm.conf LC_ALL=C PATH=$PATH:/usr/sbin:/sbin

fail() {
    echo "cluster.sh: $*" >&2
    stop
    exit 1
}

# alive PIDFILE NAME: its pid, when that program runs and belongs to this cluster.
alive() {
    local pid
    pid=$(cat "$1" 2>/dev/null) && [ -n "$pid" ] || return 1
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2" ] || return 1
    grep -zq -- "$state" "/proc/$pid/cmdline" "/proc/$pid/environ" 2>/dev/null && echo "$pid"
}

# A daemon that ended may stay a zombie for a while: the letter of its state tells.
runs() {
    case $(sed 's/^.*) //; s/ .*//' "/proc/$1/stat" 2>/dev/null) in '' | Z | X) return 1 ;; esac
}

end() {
    local pid i
    pid=$(alive "$1" "$2") || return 0
    kill -TERM "$pid" 2>/dev/null
    for ((i = 0; i < 100; i++)); do
        runs "$pid" || return 0
        sleep 0.1
    done
    kill -KILL "$pid" 2>/dev/null
}

stop() {
    local node comm pid
    if alive "$state/slurmctld.pid" slurmctld >/dev/null; then
        timeout 10 scancel --user=root >/dev/null 2>&1
        timeout 10 scancel --signal=KILL --full --user=root >/dev/null 2>&1
        for ((node = 0; node < 50; node++)); do
            [ -n "$(timeout 5 squeue -h 2>/dev/null)" ] || break
            sleep 0.2
        done
    fi
    end "$state/slurmctld.pid" slurmctld
    for node in 1 2; do end "$state/slurmd.n$node.pid" slurmd; done
    # slurmd leaves the processes of steps behind, by design.
    # shellcheck disable=SC2013
    for comm in $(grep -l '^slurmstepd' /proc/[0-9]*/comm 2>/dev/null); do
        pid=${comm#/proc/}
        pid=${pid%/comm}
        grep -zq -- "SLURM_CONF=$SLURM_CONF" "/proc/$pid/environ" 2>/dev/null && kill -KILL "$pid"
    done
    end "$state/munged.pid" munged
}

is_ready() { [ "$(timeout 5 sinfo -h -N -p batch -o %t 2>/dev/null | grep -c '^idle$')" = 2 ]; }

write_configuration() {
    local memory node
    # Hybrid hosts have no cgroup/v2 of their own; linuxproc and task/none use none at all.
    echo 'CgroupPlugin=cgroup/v1' >"$state/cgroup.conf"
    cat >"$SLURM_CONF" <<C
ClusterName=local
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued job waits this long, two minutes unless said.
AuthInfo=socket=$state/run/munge.socket,cred_expire=5
StateSaveLocation=$state/spool/ctld
SlurmdSpoolDir=$state/spool/%n
SlurmctldPidFile=$state/slurmctld.pid
SlurmdPidFile=$state/slurmd.%n.pid
SlurmctldLogFile=$state/log/slurmctld.log
SlurmdLogFile=$state/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
TmpFS=$state/tmp/%n
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
InactiveLimit=0
KillWait=30
MinJobAge=300
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=2,batch_sched_delay=0,sched_min_interval=100000
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SlurmdParameters=config_overrides
C
    memory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.8)}' /proc/meminfo)
    for node in 1 2; do
        mkdir -p "$state/tmp/n$node" "$state/spool/n$node"
        echo "NodeName=n$node NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=$((port + node)) CPUs=4" \
            "Boards=1 Sockets=1 CoresPerSocket=4 ThreadsPerCore=1 RealMemory=$memory State=UNKNOWN" >>"$SLURM_CONF"
    done
    # No default partition: a job must name one.
    cat >>"$SLURM_CONF" <<'C'
PartitionName=batch Nodes=n[1-2] Default=NO MaxTime=INFINITE DefaultTime=10 State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=30
PartitionName=urgent Nodes=n[1-2] Default=NO MaxTime=INFINITE DefaultTime=10 State=UP PriorityTier=10 PreemptMode=OFF
C
}

start() {
    local node i
    for ((node = 0; node < 3; node++)); do
        (exec 3<>"/dev/tcp/127.0.0.1/$((port + node))") 2>/dev/null && fail "port $((port + node)) is in use"
    done
    mkdir -p "$state/log" "$state/spool/ctld" "$state/munge" "$state/run"
    chmod 0755 "$state" "$state/munge"
    (umask 077 && head -c 128 /dev/urandom >"$state/munge/key")
    write_configuration
    munged --force --key-file="$state/munge/key" --socket="$state/run/munge.socket" \
        --pid-file="$state/munged.pid" --log-file="$state/log/munged.log" --seed-file="$state/munge/seed" \
        >"$state/log/munged.out" 2>&1 || fail "munged did not start: $(cat "$state/log/munged.out")"
    slurmctld -c -f "$SLURM_CONF" >"$state/log/slurmctld.out" 2>&1 ||
        fail "slurmctld did not start: $(cat "$state/log/slurmctld.out")"
    for node in 1 2; do
        slurmd -N "n$node" -c -f "$SLURM_CONF" >"$state/log/slurmd.out" 2>&1 ||
            fail "slurmd did not start: $(cat "$state/log/slurmd.out")"
    done
    for ((i = 0; i < 150; i++)); do
        is_ready && echo "$SLURM_CONF" && return
        sleep 0.2
    done
    fail "the nodes did not become idle: $(tail -n 5 "$state"/log/*.log)"
}

case $1 in
start) start ;;
stop) stop ;;
*) exit 2 ;;
esac
