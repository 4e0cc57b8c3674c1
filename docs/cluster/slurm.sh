#!/usr/bin/env bash
#SBATCH --job-name=tune-resnet
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=2
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@120
# Two minutes before its time ends the job gets SIGTERM: the trials save, and it is queued again.
#
#   RUN=/shared/runs/resnet sbatch docs/cluster/slurm.sh --dataset cifar10 --data-dir /shared/data
#
# RUN: the run's folder, on storage that all nodes see. PROJECT: this project, likewise.
# PORT: where the head of Ray listens; let two jobs on one node have different ones. HEAD_IP: its
# address, if the first one of the first node is not in the network that the nodes share.
set -euo pipefail
RUN=${RUN:?give the folder of the run, on shared storage, as RUN=...}
PROJECT=${PROJECT:-${SLURM_SUBMIT_DIR:-$PWD}}
PORT=${PORT:-6379}
cd "$PROJECT"
export PATH="$PROJECT/.venv/bin:$PATH"

# A token for this job alone: without one, everybody on the network could run code on its nodes.
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN

# This script runs on the first node, and so does the head of Ray.
head=${HEAD_IP:-$(hostname -I | awk '{print $1}')}
address=$head:$PORT
export head address PORT

# shellcheck disable=SC2016  # expanded on the nodes
srun --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 bash -c '
    common=(--num-cpus="$SLURM_CPUS_PER_TASK" --disable-usage-stats --block)
    if [ "$SLURM_PROCID" = 0 ]; then
        exec ray start --head --node-ip-address="$head" --port="$PORT" \
            --include-dashboard=false "${common[@]}"
    fi
    until (echo >"/dev/tcp/$head/$PORT") 2>/dev/null; do sleep 1; done
    exec ray start --address="$address" "${common[@]}"
' &
nodes=$!

alive() { ray status --address "$address" 2>/dev/null | grep -c '^ 1 node_' || true; }
until [ "$(alive)" -ge "$SLURM_JOB_NUM_NODES" ]; do
    kill -0 "$nodes"  # ends this script if Ray did not start
    sleep 1
done

RAY_ADDRESS_TO_JOIN=$address bash docs/cluster/tune_or_resume.sh "$RUN" "$@" &
driver=$!
trap 'kill -TERM "$driver"' TERM
code=0
wait "$driver" || code=$?
while kill -0 "$driver" 2>/dev/null; do  # the wait above was ended by the signal
    code=0
    wait "$driver" || code=$?
done

kill -TERM "$nodes" 2>/dev/null || true
wait "$nodes" || true
if [ "$code" = 130 ]; then  # interrupted in order: go on with it in another allocation
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
