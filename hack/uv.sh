#!/usr/bin/env bash
# uv.sh FOLDER prints a folder with uv: that of PATH, else FOLDER, where pip puts the version that the lab has.
set -euo pipefail

wheels=$(dirname "${BASH_SOURCE[0]}")/lab/internal/artifacts/wheels.go
if uv=$(command -v uv); then
  dirname "$uv"
  exit
fi
version=$(sed -n 's/.*\buvVersion *= "\(.*\)"/\1/p' "$wheels")
[ -x "$1/bin/uv" ] || {
  python=python3
  if ! "$python" -m pip --version >/dev/null 2>&1 && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    echo "Installing Debian's package python3-pip: uv comes from PyPI" >&2
    apt-get install --yes --no-install-recommends python3-pip >/dev/null
    python=/usr/bin/python3 # the first in PATH need not be Debian's
  fi
  "$python" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$1" "uv==$version" >&2
}
printf '%s\n' "$1/bin"
