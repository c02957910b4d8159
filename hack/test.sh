#!/usr/bin/env bash
# Runs tiers of tests, one after the other whatever becomes of each, and sums them up in the last line.
#
#   hack/test.sh unit api e2e release long
#
# bin/ has been built before (make does it). CI=true in the environment turns skipped e2e tests into failures.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
results=bin/test
tags=kustomize_disable_go_plugin_support
rm -rf "$results"
mkdir -p "$results"

must_run=()
if [ "${CI:-}" = true ]; then must_run=(-must-run test/e2e); fi

say() { printf '\n== %s\n' "$*" >&2; }

# gotest NAME FOLDER ARGUMENT... runs go test of one module, within the command of beside, and keeps its events.
beside=()
gotest() {
  local name=$1 folder=$2 rc=0
  shift 2
  (cd "$folder" && "${beside[@]}" go test -json "$@") | tee "$results/$name.json" | bin/testsum "${must_run[@]}" || rc=1
  # Where go did not come as far as a test, no event tells of it.
  [ -s "$results/$name.json" ] || broken "$folder" "go test" "go test printed nothing"
  return "$rc"
}
# broken PACKAGE TEST REASON counts a failure that happened outside of go test; skipped counts what could not run.
broken() { bin/testsum -event fail "$@" | tee -a "$results/outside.json" | bin/testsum >&2 || true; }
skipped() { bin/testsum -event skip "$@" | tee -a "$results/outside.json" | bin/testsum "${must_run[@]}" >&2 || true; }

# tagged TAG lists the packages that have tests with a build tag, and tests TAG is a pattern of their names.
tagged() { git grep -l --untracked "^//go:build.*\\<$1\\>" -- 'pkg/**_test.go' | xargs -r -n 1 dirname | sort -u | sed 's|^|./|'; }
tests() {
  git grep -l --untracked "^//go:build.*\\<$1\\>" -- 'cmd/**_test.go' 'pkg/**_test.go' | xargs -r sed -n 's/^func \(Test[A-Z][A-Za-z0-9]*\)(.*/\1/p' |
    paste -sd '|' | sed 's/.*/^(&)$/'
}

# race sets the flag of the race detector, which needs a C compiler.
race=() cgo=0
find_race() {
  if ! command -v "${CC:-gcc}" >/dev/null && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    say "Installing Debian's packages gcc and libc6-dev: the race detector needs a C compiler"
    apt-get install --yes --no-install-recommends gcc libc6-dev >/dev/null ||
      { apt-get update >/dev/null && apt-get install --yes --no-install-recommends gcc libc6-dev >/dev/null; } || true
  fi
  if command -v "${CC:-gcc}" >/dev/null; then
    race=(-race)
    cgo=1
  else
    say "NOT looking for data races: there is no C compiler ('${CC:-gcc}') here"
  fi
}

unit() {
  find_race
  say "Unit tests, golden files and command line stories (first time: the race detector's build takes some minutes)"
  # The longest first: it would be alone at the end.
  CGO_ENABLED=$cgo gotest unit . "${race[@]}" -tags "$tags" -shuffle on ./pkg/trackingserver ./...
  say "Unit tests of the lab"
  gotest lab hack/lab -shuffle on ./...
  gotest addons hack/lab/addons/google -shuffle on ./...
  plugin
}

# plugin, a part of unit, runs the tests of the Python package, against a double of the program.
plugin() (
  local uv python
  say "Tests of the Python plugin for mlflow deployments"
  if ! uv=$(hack/uv.sh "$PWD/bin/uv") || ! python=$(PATH=$uv:$PATH hack/modelservers/python.sh "$PWD/bin" deployments); then
    broken python pytest "no Python with MLflow: see above"
    return
  fi
  PYTEST_EVENTS=$results/python.json PYTHONPATH=hack PYTHONDONTWRITEBYTECODE=1 "$python" -m pytest -q -p pytest_events -p no:cacheprovider python/tests >&2
  [ -s "$results/python.json" ] || broken python pytest "pytest ran no test: see above"
)

# api [ARGUMENT...] runs them with more arguments for go test.
api() {
  local profile=(--profile api --name test)
  if [ "$(uname -s)" != Linux ]; then
    say "NOT RUN: the tests against a kube-apiserver. They boot one on this machine, and need Linux for it"
    skipped test/api api "needs Linux: this is $(uname -s)"
    return
  fi
  say "Tests against a kube-apiserver (first time: building it takes about 5 minutes)"
  if ! bin/lab up "${profile[@]}"; then
    broken test/api "lab up" "bin/lab up ${profile[*]} failed: see above"
    return
  fi
  local kubeconfig
  if kubeconfig=$(bin/lab kubeconfig "${profile[@]}"); then
    # The tests that want one carry the tag, or are stories that ask for one. Unit tests of the same packages have been run.
    # Those that are parallel wait most of the time.
    # shellcheck disable=SC2046 # a list of words
    KUBECTL_MLFLOW_TEST_KUBECONFIG=$kubeconfig gotest api . -tags "$tags,api" -count 1 -parallel 4 -timeout 30m -run "$(tests api)|^TestScript$" "$@" \
      ./cmd/kubectl-mlflow $(tagged api)
  else
    broken test/api "lab kubeconfig" "bin/lab kubeconfig ${profile[*]} failed: see above"
  fi
  bin/lab down "${profile[@]}" || broken test/api "lab down" "bin/lab down ${profile[*]} failed: see above"
}

# e2e SUITE ARGUMENT... boots the lab, unless it is up, and leaves it as it was found.
e2e() {
  local name=$1 up=0
  shift
  if [ "$(uname -s)" != Linux ] || [ "$(id -u)" != 0 ]; then
    say "NOT RUN: the end-to-end tests. They boot a cluster on this machine, and need Linux and root for it"
    skipped test/e2e "$name" "needs Linux and root: this is $(uname -s), uid $(id -u)"
    return
  fi
  say "End-to-end tests on a cluster (first time: building it takes about 10 minutes)"
  if bin/lab status >/dev/null 2>&1; then up=1; fi
  if [ "$name" = e2e ]; then lab_life "$up"; fi
  if bin/lab up; then
    # Two at a time: one waits for its pods most of the time. More would be too much for one node.
    gotest "$name" test/e2e -tags e2e -count 1 -parallel 2 -timeout 60m "$@" ./...
    if [ "$name" = e2e ]; then real; fi
  else
    broken test/e2e "lab up" "bin/lab up failed: see above"
  fi
  if [ "$up" = 0 ]; then
    bin/lab down || broken test/e2e "lab down" "bin/lab down failed: see above"
  fi
}

# release makes the archive of this platform twice, and has krew install it under the oldest and the newest kubectl.
release() {
  if [ "$(uname -s)" != Linux ]; then
    say "NOT RUN: the tests of a release. The kubectls that they use are Linux's"
    skipped hack/dist release "needs Linux: this is $(uname -s)"
    return
  fi
  say "Tests of a release: the same bytes twice, krew, kubectl old and new, other platforms (first time about 5 minutes)"
  gotest release . -tags "$tags,release" -count 1 -run 'TestRelease|TestOtherPlatforms' -timeout 30m ./hack/dist
}

# lab_life boots clusters, wounds and kills them, and looks for what is left of them on this machine.
lab_life() {
  if [ "$1" = 1 ]; then
    say "NOT RUN: the tests of the lab's own life. The lab is up, and they would end it (bin/lab down)"
    skipped hack/lab life "the lab is up"
    return
  fi
  say "Tests of the lab's own life: up, wounded, killed, down without a trace"
  # One package at a time: they share the machine's one full lab.
  gotest lab-life hack/lab -tags lab -count 1 -p 1 -timeout 60m . ./internal/cluster
}

# real runs the tests against the Python programs that the plugin works with, mlflow and uv, in the demo's environment.
real() (
  local python lab_env
  if ! lab_env=$(bin/lab env); then
    broken test/e2e "lab env" "bin/lab env failed: see above"
    return
  fi
  eval "$lab_env"
  for python in "$LAB_CACHE"/demo/venv-*/bin/python; do :; done # the last one
  if [ ! -x "$python" ]; then
    broken test/e2e "real programs" "no Python with mlflow in $LAB_CACHE/demo: hack/demo.sh makes it"
    return
  fi
  export PATH=$LAB_BIN:$PATH
  local mlserver clients oidc
  if ! mlserver=$(hack/modelservers/python.sh "$LAB_CACHE" mlserver) || ! clients=$(hack/modelservers/python.sh "$LAB_CACHE" clients) ||
    ! oidc=$(hack/modelservers/python.sh "$LAB_CACHE" oidc); then
    broken test/e2e "real programs" "hack/modelservers/python.sh failed: see above"
    return
  fi
  export KUBECTL_MLFLOW_TEST_MLSERVER_PYTHON=$mlserver KUBECTL_MLFLOW_TEST_CLIENTS_PYTHON=$clients KUBECTL_MLFLOW_TEST_OIDC_PYTHON=$oidc
  say "Tests against the real mlflow, MLServer, uv, Docker, an OpenID provider and clients of the Open Inference Protocol"
  local beside=(hack/dockerd.sh "$LAB_CACHE" "$python" hack/with-mlflow.py)
  # shellcheck disable=SC2046 # a list of words
  KUBECTL_MLFLOW_TEST_LAUNCHER=$PWD/pkg/internal/servingruntime/launcher \
    gotest real . -tags "$tags,real" -count 1 -timeout 40m -run "$(tests real)" $(tagged real)
)

for tier in "$@"; do
  case $tier in
  unit | plugin | api | release) "$tier" ;;
  e2e) e2e e2e ;;
  long)
    api -tags "$tags,api,long" -timeout 1h # the last -tags counts
    e2e long -tags e2e,long -timeout 10h
    ;;
  *)
    echo "no tier $tier: unit, plugin, api, e2e, release, long" >&2
    exit 2
    ;;
  esac
done
say "All of it: $*"
exec bin/testsum -quiet "${must_run[@]}" "$results"/*.json
