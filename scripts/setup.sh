#!/usr/bin/env bash
# Makes .venv with everything that the project and its tests need; quick when nothing changed since the last time.
#   PYTHON           the Python 3.11 to use (default: python3.11, else python3)
#   TORCH_BACKEND    see scripts/install.sh
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { echo "error: $1" >&2; exit 1; }
apt="on Debian or Ubuntu: apt-get install"

stamp=.venv/.installed
wanted="$PWD ${TORCH_BACKEND:-} $(cat pyproject.toml constraints.txt scripts/install.sh | git hash-object --stdin)" \
    || fail "git is missing; $apt git"
if [ -x .venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then exit 0; fi

is_usable() { "$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info[:2] != (3, 11))' >/dev/null 2>&1; }
if ! is_usable .venv/bin/python; then
    for python in ${PYTHON:-python3.11 python3} ""; do
        if [ -n "$python" ] && is_usable "$python"; then break; fi
    done
    [ -n "$python" ] || fail "Python 3.11 with its venv module is missing; $apt python3.11 python3.11-venv (on Debian 12: python3 python3-venv), or name one: PYTHON=/path/to/python3.11 $0"
    "$python" -m venv --clear .venv
fi

export VIRTUAL_ENV="$PWD/.venv" PATH="$PWD/.venv/bin:$PATH"
python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
scripts/install.sh --editable ".[test]"
echo "$wanted" >"$stamp"
