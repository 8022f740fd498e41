#!/usr/bin/env bash
# From a fresh clone to the table of results: environment, data, all stages.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh
# DVC runs the stages with the python that is first on PATH.
export PATH="$PWD/.venv/bin:$PATH" OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE
python -m inspo_core.code_hashes --check
python -m inspo_core.dvc_lock
dvc pull data.dvc
dvc repro
echo
cat reports/table.md
echo
echo "Tables and figures: reports/"
echo "Every run, in a browser: .venv/bin/mlflow ui --backend-store-uri sqlite:///mlflow.db"
