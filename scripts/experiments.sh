#!/usr/bin/env bash
# All experiments that are reported, and the page of their results: many hours for two cores. What is finished is not run again, and what was
# stopped goes on.      scripts/experiments.sh            all
#                       scripts/experiments.sh ablations  one, and its section of the page
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH" OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE
if [ $# = 0 ]; then set -- headline agents ablations; fi
python -m inspo_core.dvc_lock
dvc pull data.dvc
for name; do
    python -m pipelines.local "experiments/$name.yaml"
done
python -m inspo_core.publish.page "${@/#/runs/}" --out docs/results.md
