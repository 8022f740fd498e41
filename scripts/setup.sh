#!/usr/bin/env bash
# Makes .venv with everything that the project and its tests need; quick when nothing changed since the last time.
#   PYTHON           the Python to use, 3.11 to 3.13 (default: that of .venv; else the first that works of python3, python3.13,
#                    python3.12, python3.11; else one that uv finds or fetches)
#   TORCH_BACKEND    see scripts/install.sh (default: that of .venv)
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { echo "error: $1" >&2; exit 1; }
apt="on Debian or Ubuntu: apt-get install"
# pyenv leaves commands on PATH that only say that there is no such Python: only running one tells.
is_usable() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' >/dev/null 2>&1; }

settings="${PYTHON:-} ${TORCH_BACKEND:-}"
files=$(cat pyproject.toml constraints.txt scripts/install.sh | git hash-object --stdin) || fail "git is missing; $apt git"
if ! said=$(git rev-parse --show-toplevel 2>&1) || [ "$said" != "$(pwd -P)" ]; then
    fail "$PWD is not the folder of a git repository, without which DVC runs nothing (git says: ${said%%$'\n'*}); get the project with git clone"
fi
if ! git var GIT_COMMITTER_IDENT >/dev/null 2>&1; then
    echo "note: git has no name and address for commits, without which \`dvc exp run\` fails; git config --global user.name NAME and user.email ADDRESS set them" >&2
fi
stamp() { echo "$PWD $(.venv/bin/python --version 2>/dev/null) $files"; }

# uv knows the certificates that it brings; those that this machine was given count too.
if [ -e /etc/ssl/certs/ca-certificates.crt ]; then export UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-true}"; fi
PATH=${PATH//"$PWD/.venv/bin:"/}  # an environment that is made anew is not made with itself
made_with=$(cat .venv/.settings 2>/dev/null || true)
if [ -x .venv/bin/uv ] && is_usable .venv/bin/python && { [ "$settings" = " " ] || [ "$settings" = "$made_with" ]; }; then
    if [ "$(cat .venv/.installed 2>/dev/null)" = "$(stamp)" ]; then exit 0; fi
else
    names=(python3 python3.13 python3.12 python3.11)
    if [ -n "${PYTHON:-}" ]; then names=("$PYTHON"); fi
    python=
    for name in "${names[@]}"; do
        if is_usable "$name"; then python=$(command -v "$name") && break; fi
    done
    if [ -n "${PYTHON:-}" ] && [ -z "$python" ]; then fail "PYTHON=$PYTHON is not a Python 3.11, 3.12 or 3.13 that runs"; fi

    # uv makes the environment, since Debian's Python may lack what venv needs. Any Python with venv or pip can get uv.
    if ! uv --version >/dev/null 2>&1; then
        work=$(mktemp -d)
        trap 'rm -rf "$work"' EXIT
        for with in "${python:-python3}" python3 ""; do
            [ -n "$with" ] || fail "neither uv nor a Python with venv or pip is here; $apt python3 python3-venv"
            if "$with" -c 'import ensurepip, venv' 2>/dev/null; then "$with" -m venv "$work/venv" && with=$work/venv/bin/python && break; fi
            if "$with" -c 'import pip' 2>/dev/null; then break; fi
        done
        "$with" -m pip install --quiet --disable-pip-version-check --target "$work/uv" --constraint constraints.txt uv
        PATH=$work/uv/bin:$PATH
    fi
    rm -rf .venv
    uv venv --quiet ${python:+--python "$python"} .venv \
        || fail "Python 3.11, 3.12 or 3.13 is missing, and uv could not fetch one; $apt python3 python3-venv, or name one with PYTHON="
    echo "$(.venv/bin/python --version), of ${python:-uv}, in .venv"
fi

export VIRTUAL_ENV="$PWD/.venv" PATH="$PWD/.venv/bin:$PATH"
uv pip install --quiet --constraint constraints.txt uv
scripts/install.sh --editable ".[test]"
echo "$settings" >.venv/.settings
stamp >.venv/.installed
