#!/usr/bin/env bash
# python.sh CACHE prints a Python that has MLflow's client and scikit-learn, in a folder of CACHE, where uv makes it if it is not there.
set -euo pipefail

venv=$1/demo/venv-mlflow-3.17.2-scikit-learn-1.7.2
[ -x "$venv/bin/python" ] || {
  # What an interrupted run left would be in the way.
  rm -rf "$venv.new"
  uv venv --quiet --python 3.11 "$venv.new"
  # Without bytecode, where the environment forbids to write it, each import of MLflow takes ten seconds and more.
  VIRTUAL_ENV=$venv.new uv pip install --quiet --compile-bytecode mlflow==3.17.2 scikit-learn==1.7.2
  # A venv's console scripts name its folder; only the interpreter is used here, which may be moved.
  rm -rf "$venv" && mv "$venv.new" "$venv"
}
printf '%s\n' "$venv/bin/python"
