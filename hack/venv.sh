#!/usr/bin/env bash
# venv.sh FOLDER PYTHON PACKAGE... makes a virtual environment by uv, if it is not there. PYTHON is a version, or a program.
set -euo pipefail

venv=$1 python=$2
shift 2
[ -x "$venv/bin/python" ] && exit
# What an interrupted run left would be in the way.
rm -rf "$venv.new"
uv venv --quiet --python "$python" "$venv.new"
# Without bytecode, where the environment forbids to write it, each import of MLflow takes ten seconds and more.
VIRTUAL_ENV=$venv.new uv pip install --quiet --compile-bytecode "$@"
# A venv's console scripts name its folder; only the interpreter is used here, which may be moved.
rm -rf "$venv" && mv "$venv.new" "$venv"
