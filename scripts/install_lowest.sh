#!/bin/sh
# Makes the virtual environment named by the first argument with the lowest version of everything that setup.cfg allows,
# this folder editable among it. Called by make. PYTHON names the interpreter to start from, which the lowest versions
# must have wheels for: 3.10 to 3.12.
set -eu

venv=$1
python=${PYTHON:-python3}

fail() {
    echo "error: $1" >&2
    exit 1
}

"$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' ||
    fail "the lowest versions are for Python 3.10 to 3.12, '$python' is $("$python" --version 2>&1); name another: make PYTHON=python3.12 test-lowest"

# `make install` puts one into .venv where there is none.
uv=''
for found in uv .venv/bin/uv; do
    if [ -z "$uv" ] && "$found" --version >/dev/null 2>&1; then uv=$found; fi
done
[ -n "$uv" ] || fail "the lowest versions are resolved by uv, which is not there: pip install uv, or make install"

"$venv/bin/python" -c '' 2>/dev/null ||
    "$uv" venv --quiet --clear --python "$(command -v "$python")" "$venv"
# lowest-direct: the lowest of what setup.cfg names; what those ask for in turn is resolved as usual, since nobody
# states bounds that were checked.
"$uv" pip install --python "$venv/bin/python" --resolution lowest-direct --compile-bytecode --editable '.[all,dev]'
"$uv" pip install --python "$venv/bin/python" --no-deps 'sweeps>=0.3'
