#!/usr/bin/env bash
# python.sh CACHE mlserver|clients|oidc|deployments|peer prints a Python with MLServer, with real clients of the Open Inference Protocol, with
# an MLflow that asks an OpenID provider who may read it, with MLflow's client and this repository's plugin for it, or with the plugin
# mlflow-knative, for the tests of these; it is in a folder of CACHE, where uv makes it if it is not there.
set -euo pipefail

version=3.11
case $2 in
mlserver) packages=(mlflow==3.17.2 scikit-learn==1.7.2 mlserver==1.7.1 mlserver-mlflow==1.7.1) ;;
clients) packages=(kserve==0.21.0 'tritonclient[http]==2.73.0') ;;
oidc)
  packages=(mlflow==3.17.2 mlflow-oidc-auth==11.0.2 mlflow-oidc-client==0.2.4)
  version=3.12 # in 3.11 a class of its own has a default that is not allowed there
  # uv sees the one version of pyenv that is active, and would download another.
  if pyenv=$(pyenv latest "$version" 2>/dev/null); then version=$(PYENV_VERSION=$pyenv pyenv which python); fi
  ;;
deployments) packages=(mlflow-skinny==3.17.2 pandas==2.3.3 pytest==8.4.2) ;;
# Newer ones of MLflow, requests and Python it does not work with.
peer) packages=(mlflow-knative==0.4.3 mlflow-skinny==3.12.0 'requests<2.32' 'pandas<3') ;;
*) exit 2 ;;
esac
venv=$1/modelservers/$(printf '%s\n' "${packages[@]}" | sha256sum | cut -c 1-12)
hack=$(dirname "${BASH_SOURCE[0]}")/..
"$hack/venv.sh" "$venv" "$version" "${packages[@]}"
# The plugin is as the tree has it now.
[ "$2" != deployments ] || VIRTUAL_ENV=$venv uv pip install --quiet --no-deps --reinstall "$hack/../python"
printf '%s\n' "$venv/bin/python"
