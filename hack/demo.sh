#!/usr/bin/env bash
# The main job, start to end, on the lab cluster: install MLflow, log two versions of a model, deploy one after the other,
# and hold each answer of the cluster against the model's own. Leaves the lab up. The exit code tells the truth.
#
# Run by `make demo`, which builds bin/ first, and by the first e2e test.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin=$PWD/bin
began=$EPOCHREALTIME
timings=()

say() { printf '\n\033[1m%s\033[0m\n' "$*" >&2; }
since() { awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }'; }
# run shows a command the way a person would type it, then does it.
run() {
  printf '$ %s\n' "$*" >&2
  "$@"
}
# phase LABEL COMMAND... notes how long the command took.
phase() {
  local label=$1 start=$EPOCHREALTIME
  shift
  "$@"
  timings+=("$(printf '%-46s %7s s' "$label" "$(since "$start")")")
}

work=$(mktemp -d)
forward=
finish() {
  [ -z "$forward" ] || kill "$forward" 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT

say "A Kubernetes cluster with Knative, from packages (first time: about 10 minutes, later: under one)"
phase "cluster up" "$bin/lab" up
eval "$("$bin/lab" env)"
export PATH="$bin:$LAB_BIN:$PATH"
unset MLFLOW_TRACKING_URI

say "Install MLflow"
phase "kubectl mlflow check --pre" run kubectl mlflow check --pre
phase "kubectl mlflow install" run kubectl mlflow install
phase "kubectl mlflow wait" run kubectl mlflow wait

say "Train and log two versions of a model, with MLflow's own client"
client() { python=$(hack/demo/python.sh "$LAB_CACHE"); }
phase "Python client (mlflow, scikit-learn)" client
printf '$ kubectl mlflow port-forward :5000 &\n' >&2
mkfifo "$work/url"
kubectl mlflow port-forward :5000 >"$work/url" &
forward=$!
read -r url <"$work/url"
# The thread of MLflow's telemetry writes to os.environ, on which a request that is being made may fail.
export MLFLOW_TRACKING_URI=$url MLFLOW_DISABLE_TELEMETRY=true
phase "train and log two versions" run "$python" hack/demo/iris.py train "$work"
# From here on the plugin finds MLflow on the cluster by itself.
unset MLFLOW_TRACKING_URI

deploy_and_predict() {
  local number=$1 start=$EPOCHREALTIME
  run kubectl mlflow deploy iris "$(cat "$work/uri-$number")" \
    --image-repository "$LAB_REGISTRY/models/iris" --base-image "$LAB_BASE_IMAGE"
  run kubectl mlflow predict iris -f "$work/request.json" >"$work/answer.json"
  "$python" hack/demo/iris.py check "$work/expected-$number.json" <"$work/answer.json"
  printf 'The answer is the one of %s itself, %s s after the command was typed.\n' "$(cat "$work/uri-$number")" "$(since "$start")" >&2
}
say "Deploy version 1: its environment is built once"
phase "deploy version 1 to first correct prediction" deploy_and_predict 1
say "Deploy version 2: its environment is known"
phase "deploy version 2 to first correct prediction" deploy_and_predict 2

say "Done in $(since "$began") s"
printf '%s\n' "${timings[@]}" >&2
cat >&2 <<EOT

The lab stays up. To look around:
  eval "\$(bin/lab env)"; export PATH="$bin:\$LAB_BIN:\$PATH"
  kubectl mlflow port-forward            # MLflow's web page on http://127.0.0.1:5000
  kubectl get ksvc iris                  # what Knative serves
  kubectl mlflow deploy --help
Remove it with: make demo-down
EOT
