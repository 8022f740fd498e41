#!/usr/bin/env bash
# All that needs a GPU, in under six minutes: the tests of tests/algorithms/test_cuda.py, then the measurements of benchmarks/gpu.py.
#     benchmarks/gpu.sh
#     benchmarks/gpu.sh --device cpu --quick      tries both without a GPU
# It takes the arguments of benchmarks/gpu.py. The project need not be installed, and nothing is downloaded.
#   PYTHON    a Python, 3.11 or newer, with PyTorch 2.6 or newer, numpy, pydantic, pyyaml, safetensors and pytest (default: python3)
#   OUT       folder of gpu-results.json (default: this one)
set -euo pipefail
if [ -n "${OUT:-}" ]; then OUT=$(realpath "$OUT"); export OUT; fi
cd "$(dirname "$0")/.."

python=${PYTHON:-python3} device=cuda
case " $* " in *" --device cpu "* | *" --device=cpu "*) device=cpu ;; esac
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1

# The measurements are worth more time than what a test that hangs would take.
tests=0
INSPO_TEST_DEVICE=$device timeout --kill-after=5 150 "$python" -m pytest -s -q -p no:cacheprovider --confcutdir=tests/algorithms \
    tests/algorithms/test_cuda.py || tests=$?
[ "$tests" = 0 ] || echo "error: the tests ended with status $tests (124: they took longer than 150 s)" >&2

"$python" -m benchmarks.gpu --seconds $((330 - SECONDS)) "$@"
exit "$tests"
