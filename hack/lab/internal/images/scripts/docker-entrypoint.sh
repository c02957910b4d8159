#!/bin/bash
# The entrypoint of the official PostgreSQL image, written anew to its contract: POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB,
# POSTGRES_INITDB_ARGS (each also as a file, NAME_FILE), POSTGRES_HOST_AUTH_METHOD and PGDATA. A database is made only where PGDATA
# is empty, by a server that listens on its unix socket alone.
set -euo pipefail

# setting NAME DEFAULT sets NAME from itself, from the file that NAME_FILE names, or to the default.
setting() {
  local name=$1 file=$1_FILE value=$2
  if [ -n "${!name:-}" ] && [ -n "${!file:-}" ]; then
    echo "$name and $file are both set" >&2
    exit 1
  fi
  if [ -n "${!name:-}" ]; then
    value=${!name}
  elif [ -n "${!file:-}" ]; then
    value=$(<"${!file}")
  fi
  printf -v "$name" %s "$value"
  unset "$file"
}

initialise() {
  if [ -z "$POSTGRES_PASSWORD" ] && [ "$POSTGRES_HOST_AUTH_METHOD" != trust ]; then
    echo 'The database is not initialised and POSTGRES_PASSWORD is not set.' >&2
    exit 1
  fi
  # shellcheck disable=SC2016 # expanded by eval, which splits the given arguments as the original does, quotes and all
  local initdb='initdb --pgdata="$PGDATA" --username="$POSTGRES_USER"'
  [ -z "$POSTGRES_PASSWORD" ] || initdb+=' --pwfile=<(printf "%s\n" "$POSTGRES_PASSWORD")'
  eval "$initdb $POSTGRES_INITDB_ARGS"
  printf '\nhost all all all %s\n' "${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}" >>"$PGDATA/pg_hba.conf"
  [ "$POSTGRES_DB" = postgres ] || create_database
}

create_database() {
  pg_ctl --pgdata="$PGDATA" --wait --options="-c listen_addresses=''" start
  printf 'CREATE DATABASE :"db";\n' |
    PGHOST='' PGPASSWORD=$POSTGRES_PASSWORD psql --no-psqlrc --no-password --quiet --set=ON_ERROR_STOP=1 --set=db="$POSTGRES_DB" --username="$POSTGRES_USER" --dbname=postgres
  pg_ctl --pgdata="$PGDATA" --wait --mode=fast stop
}

[ "${1:0:1}" != - ] || set -- postgres "$@"
[ "${1:-}" = postgres ] || exec "$@"

mkdir -p "$PGDATA"
if [ "$(id -u)" = 0 ]; then
  chown -R postgres:postgres "$PGDATA" /run/postgresql
  exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  chmod 0700 "$PGDATA"
  setting POSTGRES_USER postgres
  setting POSTGRES_DB "$POSTGRES_USER"
  setting POSTGRES_PASSWORD ''
  setting POSTGRES_INITDB_ARGS ''
  POSTGRES_HOST_AUTH_METHOD=${POSTGRES_HOST_AUTH_METHOD:-}
  initialise
fi
# The server does not need it any more, and what it starts would inherit it.
unset POSTGRES_PASSWORD
exec "$@"
