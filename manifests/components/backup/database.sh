#!/usr/bin/env bash
# Dumps MLflow's databases into a folder of /backups, or restores them from the folder that /work/source names. `holds` tells what
# would be lost then, and `receive` makes a backup of a dump that comes in at stdin. Runs in the image of PostgreSQL, whose version has
# to be the server's or a later one.
#
# A backup is a folder mlflow-TIME with tracking.dump, auth.dump where there is basic-auth, the schema's revision, and SHA256SUMS.
# It has another name until it is whole.
set -euo pipefail

volume=${BACKUP_VOLUME:-/backups} work=${BACKUP_WORK:-/work}

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

# A new folder for a backup, whose name it sets.
begin() {
  name=mlflow-$(date -u +%Y%m%dT%H%M%SZ)
  partial=$volume/.$name.partial
  find "$volume" -maxdepth 1 -name '.mlflow-*' -mmin +1440 -exec rm -rf {} + # of pods that were killed
  mkdir "$partial"
}

# The backup is whole.
finish() {
  (cd "$partial" && sha256sum -- * >"$work"/SHA256SUMS && mv "$work"/SHA256SUMS .)
  sync
  mv "$partial" "$volume/$name"
  sync
  printf '%s' "$name" >"$work"/name
  say "backup $name: $(du -sh "$volume/$name" | cut -f1)"
}

dump() {
  answers
  begin
  dump_one "$DB_NAME" "$partial/tracking.dump"
  psql --no-psqlrc --tuples-only --no-align --dbname "$DB_NAME" --command 'SELECT version_num FROM alembic_version' >"$partial/schema"
  if [ -n "${AUTH_DB_NAME:-}" ]; then dump_one "$AUTH_DB_NAME" "$partial/auth.dump"; fi
  finish
}

# Takes DUMP_SIZE bytes whose SHA-256 is DUMP_SHA256.
receive() {
  begin
  trap 'rm -rf "$partial"' EXIT
  head -c "$DUMP_SIZE" >"$partial/tracking.dump"
  if ! printf '%s  %s\n' "$DUMP_SHA256" "$partial/tracking.dump" | sha256sum --check --status; then
    say "the dump did not arrive whole: $(stat -c %s "$partial/tracking.dump") of $DUMP_SIZE bytes, or others"
    exit 1
  fi
  pg_restore --list "$partial/tracking.dump" >/dev/null
  pg_restore --data-only --table=alembic_version --file=- "$partial/tracking.dump" | sed -n '/^COPY /{n;p;}' >"$partial/schema"
  if ! grep -q '^[0-9a-f]' "$partial/schema"; then
    say "the dump is of no database of MLflow: it has no revision in a table alembic_version"
    exit 1
  fi
  finish
}

# The tables with rows that a new MLflow does not have, and how many (a million at most), the fullest first; and what is to be restored.
holds() {
  answers
  local from=
  if [ -f "$work/source" ]; then
    from=$(cat "$work/source")
    printf 'backup\t%s\n' "$(basename "$from")"
  fi
  {
    ask "$DB_NAME" <<'SQL'
SELECT format('SELECT %L, %L, count(*) FROM (SELECT FROM public.%I %s LIMIT 1000000) AS rows HAVING count(*) > 0', 'rows', c.relname, c.relname,
  CASE c.relname WHEN 'experiments' THEN $$WHERE NOT (experiment_id = 0 AND name = 'Default')$$ WHEN 'workspaces' THEN $$WHERE name <> 'default'$$ END)
FROM pg_class c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
  AND c.relname NOT IN ('alembic_version', 'alembic_version_auth', 'jobs', 'job_locks', 'scheduler_leases')
\gexec
SQL
    # The first user is the admin, whom MLflow makes. The permissions are those of users.
    if [ -n "${AUTH_DB_NAME:-}" ] && [ -f "$from/auth.dump" ]; then
      ask "$AUTH_DB_NAME" <<'SQL'
SELECT $$SELECT 'rows', 'users', count(*) FROM (SELECT FROM public.users ORDER BY id OFFSET 1 LIMIT 1000000) AS rows HAVING count(*) > 0$$
WHERE to_regclass('public.users') IS NOT NULL
\gexec
SQL
    fi
  } | sort -t $'\t' -k 3,3nr
}

ask() { # DATABASE: what stdin asks
  psql --no-psqlrc --quiet --tuples-only --no-align --field-separator=$'\t' --set ON_ERROR_STOP=1 --dbname "$1"
}

# What newer versions of MLflow added would stay otherwise, and hold on to what is to be replaced. What belongs to an extension stays.
clear_sql() {
  cat <<'SQL'
SET lock_timeout = '60s';
SET client_min_messages = warning;
DO $$
DECLARE statement text;
BEGIN
  FOREACH statement IN ARRAY ARRAY(
    SELECT format('DROP %s IF EXISTS public.%I CASCADE',
      CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.relname)
    FROM pg_class c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
    ORDER BY c.relkind = 'S' -- those of columns go with their tables
  ) || ARRAY(
    SELECT format('DROP ROUTINE IF EXISTS %s CASCADE', p.oid::regprocedure)
    FROM pg_proc p
    WHERE p.pronamespace = 'public'::regnamespace
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
  ) || ARRAY(
    SELECT format('DROP TYPE IF EXISTS public.%I CASCADE', t.typname)
    FROM pg_type t
    WHERE t.typnamespace = 'public'::regnamespace AND t.typtype IN ('e', 'd')
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e')
  ) LOOP
    EXECUTE statement;
  END LOOP;
END $$;
RESET client_min_messages;
SET lock_timeout = 0;
SQL
}

# The admin's password stays the one that the Secret says: MLflow makes an admin, but does not change one.
keep_admin_sql() {
  cat <<'SQL'
CREATE TEMPORARY TABLE kept_admin (username text, password_hash text) ON COMMIT DROP;
DO $$
BEGIN
  IF to_regclass('public.users') IS NOT NULL THEN
    EXECUTE $keep$INSERT INTO pg_temp.kept_admin SELECT username, password_hash FROM public.users WHERE username = 'admin'$keep$;
  END IF;
END $$;
SQL
}

admin_again_sql() {
  cat <<'SQL'
DO $$
BEGIN
  IF to_regclass('public.users') IS NOT NULL THEN
    EXECUTE $again$UPDATE public.users AS u SET password_hash = k.password_hash FROM pg_temp.kept_admin AS k WHERE u.username = k.username$again$;
  END IF;
END $$;
SQL
}

# All or nothing: one transaction. As a file and not through a pipe: half of a script would be one, too.
restore_one() { # FILE DATABASE
  say "restoring database $2"
  { keep_admin_sql; clear_sql; } >"$work"/clear.sql
  # The first lines set what older servers do not know.
  pg_restore --no-owner --no-privileges --file=- "$1" | sed '1,40{/^SET transaction_timeout = /d;}' >"$work"/restore.sql
  admin_again_sql >"$work"/admin.sql
  psql --no-psqlrc --quiet --single-transaction --set ON_ERROR_STOP=1 --dbname "$2" \
    --file "$work/clear.sql" --file "$work/restore.sql" --file "$work/admin.sql" >/dev/null
  rm "$work/restore.sql"
}

restore() {
  local from
  answers
  from=$(cat "$work/source")
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
dump | receive | holds | restore)
  "$1"
  ;;
*)
  echo "usage: database.sh dump|receive|holds|restore" >&2
  exit 2
  ;;
esac
