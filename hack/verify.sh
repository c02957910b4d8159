#!/usr/bin/env bash
# Looks at everything that can be wrong without running a test, and reports all of it, not only the first.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
failed=()
# check NAME COMMAND...
check() {
  local name=$1 out
  shift
  if out=$("$@" 2>&1); then
    printf 'ok    %s\n' "$name"
  else
    printf 'FAIL  %s\n%s\n' "$name" "$(sed 's/^/      /' <<<"$out")"
    failed+=("$name")
  fi
}

modules=$(git ls-files --cached --others --exclude-standard -- go.mod '*/go.mod' | xargs -n 1 dirname)
formatted() {
  local files
  files=$(git ls-files --cached --others --exclude-standard -- '*.go' | xargs gofmt -l) && [ -z "$files" ] ||
    { echo "not formatted (make generate does it): $files"; return 1; }
}
lint() { (cd "$1" && "$OLDPWD/bin/tools/golangci-lint" run --config "$OLDPWD/.golangci.yml" ./...); }
tidy() { (cd "$1" && go mod tidy -diff); }
reference() {
  local fresh rc=0
  fresh=$(mktemp -d)
  go run ./hack/gendocs "$fresh" && diff -r docs/reference "$fresh" || rc=1
  rm -rf "$fresh"
  [ "$rc" = 0 ] || echo "docs/reference is not what the commands say: make generate"
  return "$rc"
}
scripts() {
  local rc=0
  while read -r script; do bash -n "$script" || rc=1; done < <(git ls-files --cached --others --exclude-standard -- '*.sh' .ci/run)
  return "$rc"
}

python() {
  git ls-files --cached --others --exclude-standard -- '*.py' | python3 -c '
import ast, pathlib, sys
for name in sys.stdin.read().split():
    ast.parse(pathlib.Path(name).read_text(), name)'
}

check "gofmt" formatted
# The other modules hold no code of their own, or only a list of what is to be compiled.
for m in . hack/lab hack/lab/addons/google test/e2e test/oidcprovider; do check "lint $m" lint "$m"; done
for m in $modules; do check "go mod tidy $m" tidy "$m"; done
check "docs/reference" reference
check "krew.yaml" go run ./hack/dist -check krew.yaml
check "shell scripts" scripts
check "Python" python

if [ ${#failed[@]} -gt 0 ]; then
  printf '%d checks failed: %s\n' ${#failed[@]} "$(IFS=,; echo "${failed[*]}")" >&2
  exit 1
fi
