#!/usr/bin/env bash
# Installs requirements at the versions of constraints.txt:  scripts/install.sh -e ".[test]"
# Needs uv on PATH and VIRTUAL_ENV set to the environment. Run by scripts/setup.sh and by the Dockerfile.
#   TORCH_BACKEND    PyTorch's build: cpu, auto, cu130 ... (default: auto where nvidia-smi works, cpu elsewhere)
#   UV_FIND_LINKS    folder with wheels; a CPU build of PyTorch in it is preferred to a download (default: PIP_FIND_LINKS)
set -euo pipefail
cd "$(dirname "$0")/.."

torch=$(sed -n 's/^torch==//p' constraints.txt)
backend=${TORCH_BACKEND:-$(nvidia-smi >/dev/null 2>&1 && echo auto || echo cpu)}
wheels=${UV_FIND_LINKS:-${PIP_FIND_LINKS:-}}
if [ -n "$wheels" ]; then export UV_FIND_LINKS=${wheels// /,}; fi
install() { uv pip install --compile-bytecode --constraint constraints.txt "$@"; }

# PyTorch goes first and alone: resolved with the rest, it would come from PyPI with gigabytes of CUDA libraries.
if [ "$backend" = cpu ] && [ -n "$wheels" ] && install --dry-run "torch==$torch+cpu" >/dev/null 2>&1; then
    install "torch==$torch+cpu"
else
    install --torch-backend "$backend" "torch==$torch"
fi
install "$@"
