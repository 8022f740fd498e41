#!/usr/bin/env bash
# Installs requirements at the versions of constraints.txt:  scripts/install.sh -e ".[test]"
# Needs uv on PATH and VIRTUAL_ENV set to the environment. Run by scripts/setup.sh and by the Dockerfile.
#   TORCH_BACKEND    PyTorch's build: cpu, auto, cu130 ... (default: auto where nvidia-smi works, cpu elsewhere; where PyTorch's own
#                    index cannot be read, PyPI's)
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
elif said=$(install --dry-run --torch-backend "$backend" "torch==$torch" 2>&1); then
    install --torch-backend "$backend" "torch==$torch"
else
    why="PyTorch's own package index cannot be read (${said##*cause: })"
    if [ -n "${TORCH_BACKEND:-}" ]; then
        echo "error: $why, and TORCH_BACKEND=$TORCH_BACKEND asks for a build of it; without TORCH_BACKEND it would be PyPI's" >&2
        exit 1
    fi
    echo "note: $why; taking PyPI's build, which on Linux has CUDA in it (2.7 GB to download, 4.5 GB on disk)" >&2
    install "torch==$torch"
fi
install "$@"
