#!/usr/bin/env bash
# Start a run, or go on with it where it exists: for batch systems that start a job again.
#   RAY_ADDRESS_TO_JOIN=auto tune_or_resume.sh /shared/runs/resnet --dataset cifar10 ...
# The first argument is the run's folder; the others say what to tune, and count at the start only.
set -euo pipefail
run=$1
shift
address=${RAY_ADDRESS_TO_JOIN:-auto}
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
if [ -e "$run/spec.json" ]; then
    set -- --resume "$run"
else
    set -- --storage-path "$(dirname "$run")" --name "$(basename "$run")" "$@"
fi
exec "${PYTHON:-python}" "$project/scripts/tune_resnet.py" --address "$address" "$@"
