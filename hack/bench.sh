#!/usr/bin/env bash
# bench.sh [ROW] measures what users feel beside what they would use instead, on the lab and a Docker engine of its own, and prints tables.
# ROW is a part of a test's name: BenchImages/further. All of it takes about 50 minutes, and is written into docs/benchmarks.md.
# BENCH_ROUNDS=1 in the environment measures each only once, to try a row.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
row=${1:-}
bin/lab up
eval "$(bin/lab env)"
export PATH=$PWD/bin:$LAB_BIN:$PATH
hack/demo/python.sh "$LAB_CACHE" >/dev/null
[ -x "$LAB_CACHE/bench/bin/crane" ] || GOFLAGS= GOBIN=$LAB_CACHE/bench/bin go install github.com/google/go-containerregistry/cmd/crane@v0.22.1

# rows prints what the tests have to say to readers, as they say it.
rows() { sed -nE 's/^ *[a-z_]+_test\.go:[0-9]+: ([|-] .*)/\1/p' "$@"; }

mkdir -p bin
(
  cd test/e2e
  DOCKERD_FLAGS="--insecure-registry http://$LAB_REGISTRY" ../../hack/dockerd.sh "$LAB_CACHE" \
    go test -tags e2e,bench -count 1 -v -timeout 2h -parallel 4 -run "^Test${row:-Bench}" .
) | tee bin/bench.log | grep --line-buffered -E '_test\.go:[0-9]+: [|-] |^ *--- (FAIL|SKIP)|^(FAIL|ok)' | sed -uE 's/^ *[a-z_]+_test\.go:[0-9]+: //'

# page replaces what stands between two marks of docs/benchmarks.md by standard input.
page() {
  local text
  text=$(cat)
  MARK=$1 TEXT=$text awk '
    $0 == "<!-- end of " ENVIRON["MARK"] " -->" { inside = 0 }
    !inside
    $0 == "<!-- " ENVIRON["MARK"] " -->" { inside = 1; print ENVIRON["TEXT"] }' docs/benchmarks.md >bin/benchmarks.md
  cp bin/benchmarks.md docs/benchmarks.md
}

if [ -z "$row" ] && [ -z "${BENCH_ROUNDS:-}" ]; then
  rows bin/bench.log | grep '^| ' | { printf '| what | kubectl mlflow | instead | ratio | floor |\n|---|---|---|---|---|\n'; cat; } | page rows
  rows bin/bench.log | grep '^- ' | page notes
  page machine <<EOF
$(date -u +%Y-%m-%d). $(nproc) cores ($(sed -n 's/^model name\s*: //p' /proc/cpuinfo | head -n 1)), $(awk '/MemTotal/ {printf "%d", $2 / 1048576 + 1}' /proc/meminfo) GiB,
$(. /etc/os-release && echo "$PRETTY_NAME"), Linux $(uname -r | cut -d - -f 1); $(go version | cut -d ' ' -f 3); Kubernetes $("$LAB_KUBECTL" version -o json | sed -n 's/.*"gitVersion": "\(.*\)",/\1/p' | tail -n 1).
The registry, the Docker engine, the cluster and what is measured share this machine.
EOF
fi
