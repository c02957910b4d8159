#!/usr/bin/env bash
# Two folders with archives of a release hold the same files, whoever packed them: same.sh FOLDER FOLDER
set -euo pipefail

# content FOLDER lists what is in its archives, with checksums.
content() (
  cd "$1"
  for archive in kubectl-mlflow_*.tar.gz kubectl-mlflow_*.zip; do
    temp=$(mktemp -d)
    case $archive in
    *.zip) python3 -m zipfile -e "$archive" "$temp" ;;
    *) tar -xzf "$archive" -C "$temp" ;;
    esac
    (cd "$temp" && find . -type f -exec sha256sum {} + | sort -k 2 | sed "s|^|$archive |")
    rm -rf "$temp"
  done
)

diff <(content "$1") <(content "$2")
