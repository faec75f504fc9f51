#!/usr/bin/env bash
# A SLURM cluster on one machine, as root and without systemd: munged, mariadbd, slurmdbd, slurmctld and two virtual
# nodes of 64 CPUs and 8 fake GPUs, with accounting. Everything lies in one folder and ends with `down`.
#   cluster.sh up FOLDER | down FOLDER | node FOLDER NAME      (node: starts one node's daemon again)
# The daemons' ports are fixed, so there is one such cluster at a time. Configuration must lie in /etc/slurm, because the
# SLURM plugin of Snakemake drops every SLURM_* variable: links there, never over a file that is not this script's.
set -euo pipefail
PACKAGES=(slurm-wlm slurmdbd munge mariadb-server)
NODES=2 GPUS=8 CPUS=64 MEMORY_MB=1000000 # SLURM is told not to compare them with the machine
COMMAND=${1:-} BASE=${2:-}
[ -n "$BASE" ] || { sed -n '2,6p' "$0"; exit 2; }
DATABASE_PORT=13306 CONTROLLER_PORT=16817 ACCOUNTING_PORT=16819 NODE_PORT=16900
HOST=$(hostname -s)

fail() { echo "cluster.sh: $*" >&2; exit 1; }

wait_for() { # wait_for SECONDS COMMAND…
  local end=$((SECONDS + $1)); shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || fail "still failing: $*; the daemons' logs are in $BASE/log"
    sleep 0.1
  done
}

stop() { # by pid file: SIGTERM, after 10 s SIGKILL
  [ -s "$1" ] || return 0
  local pid; pid=$(cat "$1")
  kill "$pid" 2>/dev/null || true
  for _ in $(seq 100); do [ -d "/proc/$pid" ] || break; sleep 0.1; done
  kill -KILL "$pid" 2>/dev/null || true
  rm -f "$1"
}

check() {
  local missing=() package
  for package in "${PACKAGES[@]}"; do dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package"); done
  [ ${#missing[@]} -eq 0 ] || fail "Debian packages are missing: ${missing[*]}. As root:
    apt-get update && apt-get install --yes --no-install-recommends ${missing[*]}"
  [ "$(id -u)" -eq 0 ] || fail "the daemons run as root: start it as root, in a container for instance"
  local file
  for file in slurm gres slurmdbd; do
    file=/etc/slurm/$file.conf
    if [ -L "$file" ] && [ ! -e "$file" ]; then rm "$file"; fi # of a cluster of this script whose folder is gone
    [ ! -e "$file" ] || fail "$file is there ($(readlink -f "$file")): this machine belongs to a cluster, use another one;
    where it is an earlier cluster of this script, end that: cluster.sh down FOLDER"
  done
}

configure() {
  mkdir -p "$BASE"/{etc,run,log,spool,state,devices,munge,mysql} /etc/slurm
  chmod 755 "$BASE" "$BASE/run"
  chmod 700 "$BASE/munge"
  dd if=/dev/urandom bs=1024 count=1 of="$BASE/munge/key" status=none
  chmod 600 "$BASE/munge/key"
  local n
  for n in $(seq 0 $((GPUS - 1))); do [ -e "$BASE/devices/gpu$n" ] || mknod "$BASE/devices/gpu$n" c 1 3; done # /dev/null
  cat >"$BASE/etc/slurmdbd.conf" <<C
AuthType=auth/munge
AuthInfo=socket=$BASE/run/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=$ACCOUNTING_PORT
SlurmUser=root
LogFile=$BASE/log/slurmdbd.log
PidFile=$BASE/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$DATABASE_PORT
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
C
  chmod 600 "$BASE/etc/slurmdbd.conf"
  # cred_expire is how long a requeued job waits (default 120 s); CR_LLN takes the emptier node first
  cat >"$BASE/etc/slurm.conf" <<C
ClusterName=virtual
SlurmctldHost=$HOST(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$BASE/run/munge.socket,cred_expire=10
CredType=cred/munge
SlurmctldPort=$CONTROLLER_PORT
SlurmctldPidFile=$BASE/run/slurmctld.pid
SlurmdPidFile=$BASE/run/slurmd.%n.pid
SlurmctldLogFile=$BASE/log/slurmctld.log
SlurmdLogFile=$BASE/log/slurmd.%n.log
SlurmdSpoolDir=$BASE/spool/%n
StateSaveLocation=$BASE/state
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=5
ReturnToService=2
SlurmdTimeout=60
InactiveLimit=0
MinJobAge=300
KillWait=30
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=5,bf_interval=5,batch_sched_delay=1,requeue_delay=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory,CR_LLN
DefMemPerCPU=1000
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort=$ACCOUNTING_PORT
AccountingStoragePass=$BASE/run/munge.socket
AccountingStorageTRES=gres/gpu,gres/gpu:h100
AccountingStorageEnforce=associations,limits
AccountingStoreFlags=job_comment
SlurmdParameters=config_overrides
NodeName=DEFAULT CPUs=$CPUS Boards=1 SocketsPerBoard=1 CoresPerSocket=$CPUS ThreadsPerCore=1 RealMemory=$MEMORY_MB Gres=gpu:h100:$GPUS
NodeName=node[1-$NODES] NodeHostname=$HOST NodeAddr=127.0.0.1 Port=[$((NODE_PORT + 1))-$((NODE_PORT + NODES))]
PartitionName=DEFAULT Nodes=ALL DefaultTime=00:10:00 MaxTime=5-00:00:00 State=UP
PartitionName=main Default=YES PriorityTier=1 PreemptMode=REQUEUE
PartitionName=urgent PriorityTier=10 PreemptMode=OFF
C
  cat >"$BASE/etc/gres.conf" <<C
AutoDetect=off
NodeName=node[1-$NODES] Name=gpu Type=h100 File=$BASE/devices/gpu[0-$((GPUS - 1))]
C
  for n in slurm gres slurmdbd; do ln -s "$BASE/etc/$n.conf" "/etc/slurm/$n.conf"; done
}

start_database() {
  local socket=$BASE/run/mysql.sock
  mariadb-install-db --user=root --datadir="$BASE/mysql" --auth-root-authentication-method=socket --skip-test-db \
    >"$BASE/log/mysql-install.log" 2>&1
  nohup mariadbd --no-defaults --user=root --datadir="$BASE/mysql" --socket="$socket" --pid-file="$BASE/run/mariadbd.pid" \
    --port="$DATABASE_PORT" --bind-address=127.0.0.1 --innodb-buffer-pool-size=128M --innodb-lock-wait-timeout=900 \
    --log-error="$BASE/log/mariadbd.log" >/dev/null 2>&1 </dev/null &
  wait_for 60 mariadb-admin --no-defaults --socket="$socket" -uroot ping
  mariadb --no-defaults --socket="$socket" -uroot -e "CREATE DATABASE slurm_acct_db;
    CREATE USER 'slurm'@'localhost' IDENTIFIED BY 'slurm'; CREATE USER 'slurm'@'127.0.0.1' IDENTIFIED BY 'slurm';
    GRANT ALL ON slurm_acct_db.* TO 'slurm'@'localhost'; GRANT ALL ON slurm_acct_db.* TO 'slurm'@'127.0.0.1';"
}

start_node() {
  mkdir -p "$BASE/spool/$1"
  slurmd -N "$1"
}

up() {
  check
  [ ! -e "$BASE/etc" ] || fail "$BASE is in use: cluster.sh down $BASE"
  trap 'status=$?; [ $status -eq 0 ] || down; exit $status' EXIT
  configure
  munged --key-file="$BASE/munge/key" --socket="$BASE/run/munge.socket" --pid-file="$BASE/run/munged.pid" \
    --log-file="$BASE/log/munged.log" --seed-file="$BASE/munge/seed" --force 2>"$BASE/log/munged.err"
  wait_for 30 munge -S "$BASE/run/munge.socket" -n
  start_database
  slurmdbd
  wait_for 60 sacctmgr -n show cluster
  sacctmgr -i add cluster virtual >"$BASE/log/sacctmgr.log"
  sacctmgr -i add account lab Description=lab Organization=lab >>"$BASE/log/sacctmgr.log"
  sacctmgr -i add user root Account=lab >>"$BASE/log/sacctmgr.log"
  slurmctld
  wait_for 60 scontrol ping
  local n
  for n in $(seq "$NODES"); do start_node "node$n"; done
  wait_for 60 sh -c "[ \$(sinfo -h -N -p main -t idle -o %N | wc -l) -eq $NODES ]"
}

down() {
  local file
  scancel --user=root 2>/dev/null || true
  for file in "$BASE"/run/slurmd.*.pid; do stop "$file"; done
  for file in slurmctld slurmdbd mariadbd munged; do stop "$BASE/run/$file.pid"; done
  for file in slurm gres slurmdbd; do
    file=/etc/slurm/$file.conf
    case $(readlink "$file") in "$BASE"/*) rm "$file" ;; esac
  done
}

case $COMMAND in
  up) up ;;
  down) down ;;
  node) start_node "$3" ;;
  *) fail "unknown command: $COMMAND" ;;
esac
