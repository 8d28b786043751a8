#!/usr/bin/env bash
#SBATCH --job-name=duo-oracle
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --signal=B:TERM@120
# sbatch docs/cluster/slurm.sh MODEL DATA --out s3://BUCKET/runs/big: a Ray of the job's own nodes, and one search on it. Two minutes
# before the job's time ends the search is told, writes what it has, and the same command goes on from there.
set -uo pipefail

search=
trap 'if [ -n "$search" ]; then kill -TERM "$search"; else exit 143; fi' TERM
trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 20000))
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN RAY_USAGE_STATS_ENABLED=0
RAY_AUTH_TOKEN=$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')  # whoever reaches the port could run code otherwise

node() { srun --nodes="$1" --ntasks="$1" "${@:2}" --num-cpus="$SLURM_CPUS_PER_TASK" --block & }
node 1 --nodelist="$head" ray start --head --port="$port" --include-dashboard=false
ray=$!
until ray status --address="$head:$port" >/dev/null 2>&1; do
  kill -0 "$ray" 2>/dev/null || { echo "slurm.sh: Ray did not start on $head:$port; its own lines are above" >&2; exit 1; }
  sleep 1
done
others=$((SLURM_JOB_NUM_NODES - 1))
if [ "$others" -gt 0 ]; then node "$others" --exclude="$head" ray start --address="$head:$port"; fi

duo-oracle search "$@" --address "$head:$port" &
search=$!
wait "$search"; status=$?
if kill -0 "$search" 2>/dev/null; then wait "$search"; status=$?; fi  # the first wait ended with the signal
exit "$status"
