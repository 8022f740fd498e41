#!/usr/bin/env bash
# Sets the environment up and runs the tests; arguments go to pytest:  scripts/test.sh -m slow
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH" OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE
exec python -m pytest "$@"
