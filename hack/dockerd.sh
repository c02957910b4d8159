#!/usr/bin/env bash
# dockerd.sh CACHE COMMAND... runs COMMAND with DOCKER_HOST set to a Docker engine that lives as long as COMMAND does: Debian 12's, unpacked
# into CACHE and not installed, with a data directory of its own, no network and no rules in the host's firewall. DOCKERD_FLAGS are more flags.
set -euo pipefail

cache=$1
shift
root=$cache/docker/root
if [ ! -x "$root/usr/sbin/dockerd" ]; then
  rm -rf "$cache/docker/new"
  mkdir -p "$cache/docker/new/packages" "$cache/docker/new/root"
  (
    cd "$cache/docker/new/packages"
    apt-get --quiet=2 download docker.io containerd runc libdevmapper1.02.1 || { apt-get --quiet=2 update && apt-get --quiet=2 download docker.io containerd runc libdevmapper1.02.1; }
  ) >&2
  for package in "$cache"/docker/new/packages/*.deb; do dpkg-deb -x "$package" "$cache/docker/new/root"; done
  rm -rf "$root" && mv "$cache/docker/new/root" "$root"
  rm -rf "$cache/docker/new"
fi

here=$(mktemp -d)
daemon=
finish() {
  local rc=$?
  trap - EXIT
  if [ -n "$daemon" ]; then
    kill "$daemon" 2>/dev/null || true
    wait "$daemon" 2>/dev/null || true
  fi
  # The daemon binds its data directory to itself.
  while read -r _ mount _; do
    case $mount in "$here"/*) umount "$mount" 2>/dev/null || true ;; esac
  done < <(tac /proc/mounts)
  rm -rf "$here"
  exit "$rc"
}
trap finish EXIT
trap 'exit 130' INT TERM

export DOCKER_HOST=unix://$here/docker.sock
PATH=$root/usr/bin:$root/usr/sbin:$PATH LD_LIBRARY_PATH=$root/usr/lib/x86_64-linux-gnu:$root/lib/x86_64-linux-gnu \
  "$root/usr/sbin/dockerd" --host "$DOCKER_HOST" --data-root "$here/data" --exec-root "$here/exec" --pidfile "$here/pid" \
  --iptables=false --ip6tables=false --bridge=none ${DOCKERD_FLAGS:-} >"$here/log" 2>&1 &
daemon=$!
# Its socket is there when it is ready.
for _ in {1..300}; do
  if [ -S "$here/docker.sock" ] || ! kill -0 "$daemon" 2>/dev/null; then break; fi
  sleep 0.2
done
if ! [ -S "$here/docker.sock" ]; then
  echo "dockerd did not start:" >&2
  tail -n 20 "$here/log" >&2
  exit 1
fi
"$@"
