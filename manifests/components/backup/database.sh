#!/usr/bin/env bash
# Dumps MLflow's databases into a folder of /backups, or restores them from the folder that /work/source names. Runs in the image of
# PostgreSQL, whose version has to be the server's or a later one.
#
# A backup is a folder mlflow-TIME with tracking.dump, auth.dump where there is basic-auth, the schema's revision, and SHA256SUMS.
# It has another name until it is whole.
set -euo pipefail

say() { printf '%s %s\n' "$(date -u +%H:%M:%S)" "$*"; }

# User and password are written as parts of a URI.
unescape() {
  local text=${1//\\/\\\\}
  printf '%b' "${text//%/\\x}"
}

export PGHOST=$DB_HOST PGPORT=$DB_PORT PGCONNECT_TIMEOUT=10
PGUSER=$(unescape "$DB_USER")
PGPASSWORD=$(unescape "$DB_PASSWORD")
export PGUSER PGPASSWORD

answers() {
  local i
  for i in {1..60}; do
    if psql --no-psqlrc --quiet --dbname "$DB_NAME" --command 'SELECT 1' >/dev/null; then return; fi
    say "waiting for the database ($i)"
    sleep 5
  done
  say "the database does not answer"
  exit 1
}

dump_one() { # DATABASE FILE
  say "dumping database $1"
  pg_dump --format=custom --no-owner --no-privileges --lock-wait-timeout=300000 --file "$2" --dbname "$1"
  pg_restore --list "$2" >/dev/null # reads it as a restore would
}

dump() {
  local name partial
  name=mlflow-$(date -u +%Y%m%dT%H%M%SZ)
  partial=/backups/.$name.partial
  find /backups -maxdepth 1 -name '.mlflow-*' -mmin +1440 -exec rm -rf {} + # of pods that were killed
  mkdir "$partial"
  dump_one "$DB_NAME" "$partial/tracking.dump"
  psql --no-psqlrc --tuples-only --no-align --dbname "$DB_NAME" --command 'SELECT version_num FROM alembic_version' >"$partial/schema"
  if [ -n "${AUTH_DB_NAME:-}" ]; then dump_one "$AUTH_DB_NAME" "$partial/auth.dump"; fi
  (cd "$partial" && sha256sum -- * >/work/SHA256SUMS && mv /work/SHA256SUMS .)
  sync
  mv "$partial" "/backups/$name"
  sync
  printf '%s' "$name" >/work/name
  say "backup $name: $(du -sh "/backups/$name" | cut -f1)"
}

# What newer versions of MLflow added would stay otherwise, and hold on to what is to be replaced.
clear_sql() {
  cat <<'SQL'
SET lock_timeout = '60s';
DO $$
DECLARE thing record;
BEGIN
  FOR thing IN SELECT format('%I.%I', schemaname, viewname) AS name FROM pg_views WHERE schemaname = 'public' LOOP
    EXECUTE 'DROP VIEW IF EXISTS ' || thing.name || ' CASCADE';
  END LOOP;
  FOR thing IN SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables WHERE schemaname = 'public' LOOP
    EXECUTE 'DROP TABLE IF EXISTS ' || thing.name || ' CASCADE';
  END LOOP;
  FOR thing IN SELECT format('%I.%I', schemaname, sequencename) AS name FROM pg_sequences WHERE schemaname = 'public' LOOP
    EXECUTE 'DROP SEQUENCE IF EXISTS ' || thing.name || ' CASCADE';
  END LOOP;
  FOR thing IN SELECT format('%I.%I', n.nspname, t.typname) AS name FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE n.nspname = 'public' AND t.typtype IN ('e', 'd') LOOP
    EXECUTE 'DROP TYPE IF EXISTS ' || thing.name || ' CASCADE';
  END LOOP;
END $$;
SET lock_timeout = 0;
SQL
}

# All or nothing: one transaction. As a file and not through a pipe: half of a script would be one, too.
restore_one() { # FILE DATABASE
  say "restoring database $2"
  clear_sql >/work/clear.sql
  # The first lines set what older servers do not know.
  pg_restore --no-owner --no-privileges --file=- "$1" | sed '1,40{/^SET transaction_timeout = /d;}' >/work/restore.sql
  psql --no-psqlrc --quiet --single-transaction --set ON_ERROR_STOP=1 --dbname "$2" --file /work/clear.sql --file /work/restore.sql >/dev/null
  rm /work/restore.sql
}

restore() {
  local from
  from=$(cat /work/source)
  restore_one "$from/tracking.dump" "$DB_NAME"
  if [ -n "${AUTH_DB_NAME:-}" ] && [ -f "$from/auth.dump" ]; then
    restore_one "$from/auth.dump" "$AUTH_DB_NAME"
  elif [ -n "${AUTH_DB_NAME:-}" ]; then
    say "there are no users in the backup: those that there are stay"
  fi
  basename "$from" >/dev/termination-log
  say "restored $(basename "$from"), whose schema is $(cat "$from/schema")"
}

case ${1:-} in
dump | restore)
  answers
  "$1"
  ;;
*)
  echo "usage: database.sh dump|restore" >&2
  exit 2
  ;;
esac
