#!/bin/sh
# Makes the virtual environment named by the first argument and installs this folder into it, editable, with all extras.
# Called by make. PYTHON names the interpreter to start from.
#
# uv installs this stack in a fifth of pip's time, so it is used when it is there or can be had; pip does the same work
# where uv fails (an index that only pip is set up for, say). Bytecode is compiled now: where PYTHONDONTWRITEBYTECODE is
# set, every later start would compile torch again.
set -eu

venv=$1
python=${PYTHON:-python3}
requirement='.[all,dev]'
# W&B's own check of sweep files, for the tests. It asks for an old numpy, which nothing that we call needs; what it
# does need is in the extra dev.
without_dependencies='sweeps>=0.3'

fail() {
    echo "error: $1" >&2
    exit 1
}

command -v "$python" >/dev/null 2>&1 ||
    fail "there is no '$python'; install Python 3.10 or newer, or name yours: make PYTHON=/path/to/python3 ..."
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    fail "Python 3.10 or newer is needed, '$python' is $("$python" --version 2>&1); name another: make PYTHON=python3.12 ..."

uv=''
if uv --version >/dev/null 2>&1; then uv=uv; fi

# A virtual environment whose interpreter is gone is made anew.
if ! "$venv/bin/python" -c '' 2>/dev/null; then
    echo "making $venv with $("$python" --version)"
    rm -rf "$venv"
    # Debian and Ubuntu keep the venv module in a package of its own; uv does without it.
    "$python" -m venv "$venv" 2>/dev/null ||
        { [ -n "$uv" ] && uv venv --quiet --seed --clear --python "$(command -v "$python")" "$venv"; } ||
        fail "'$python -m venv' does not work; on Debian and Ubuntu: apt install python3-venv"
fi

if [ -z "$uv" ] && "$venv/bin/python" -m pip install --quiet --disable-pip-version-check uv 2>/dev/null; then
    uv=$venv/bin/uv
fi
if [ -n "$uv" ] && "$uv" pip install --python "$venv/bin/python" --compile-bytecode --editable "$requirement" &&
    "$uv" pip install --python "$venv/bin/python" --no-deps "$without_dependencies"; then
    exit 0
fi
echo "installing with pip, which takes some minutes"
"$venv/bin/python" -m pip install --disable-pip-version-check --compile --editable "$requirement"
"$venv/bin/python" -m pip install --disable-pip-version-check --no-deps "$without_dependencies"
