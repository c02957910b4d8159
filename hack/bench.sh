#!/usr/bin/env bash
# bench.sh [ROW] measures what users feel beside what they would use instead, on the lab and a Docker engine of its own, and prints tables.
# ROW is a part of a test's name: BenchImages/further, BenchRedeploy. All of it takes about 20 minutes.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin/lab up
eval "$(bin/lab env)"
export PATH=$PWD/bin:$LAB_BIN:$PATH
hack/demo/python.sh "$LAB_CACHE" >/dev/null
[ -x "$LAB_CACHE/bench/bin/crane" ] || GOFLAGS= GOBIN=$LAB_CACHE/bench/bin go install github.com/google/go-containerregistry/cmd/crane@v0.22.1
cd test/e2e
DOCKERD_FLAGS="--insecure-registry http://$LAB_REGISTRY" ../../hack/dockerd.sh "$LAB_CACHE" \
  go test -tags e2e,bench -count 1 -v -timeout 60m -run "Test${1:-Bench}" . | tee ../../bin/bench.log |
  grep -E '^\s*[a-z_]+test\.go:[0-9]+: (\||[0-9]+ MiB)|^\s*--- (FAIL|SKIP)|^(FAIL|ok)|_test.go:[0-9]+: [^|]' | sed -E 's/^\s*[a-z_]+_test\.go:[0-9]+: \|/|/'
