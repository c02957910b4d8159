#!/usr/bin/env bash
# python.sh CACHE prints a Python that has MLflow's client and scikit-learn, in a folder of CACHE, where uv makes it if it is not there.
set -euo pipefail

venv=$1/demo/venv-mlflow-3.17.2-scikit-learn-1.7.2
"$(dirname "${BASH_SOURCE[0]}")/../venv.sh" "$venv" 3.11 mlflow==3.17.2 scikit-learn==1.7.2
printf '%s\n' "$venv/bin/python"
