"""The schema of MLflow's database: `migrate.py upgrade` brings it to the image's head, `migrate.py wait` waits until it is there.

Reads MLFLOW_BACKEND_STORE_URI and nothing else: an argument, as `mlflow db upgrade URL` takes it, would show the password to
whoever lists processes. Only `upgrade` changes the database; `wait` runs before each server, which otherwise would migrate by
itself, without a backup and beside other servers.
"""

import ast
import importlib.util
import os
import pathlib
import signal
import sys
import time
import traceback

import sqlalchemy as sa

PAUSE = 1  # seconds between two looks
DATABASE_UP = 600  # seconds that `upgrade` waits for the database to answer
HOPELESS = 65  # exit code of what another try would not mend; the Job makes none then
LOCK = 0x6D6C666C6F77  # "mlflow": a PostgreSQL advisory lock, so that two migrations never meet


def say(text):
    print(time.strftime("%H:%M:%S"), text, flush=True)


def hopeless(text):
    print(text, file=sys.stderr, flush=True)
    sys.exit(HOPELESS)


def reason(error):
    """The driver's own words in one line. Never SQLAlchemy's, which may quote the URI."""
    return " ".join(str(getattr(error, "orig", None) or type(error).__name__).split())


def image_revisions(folder="store/db_migrations/versions"):
    """The image's head, and all revisions that it knows.

    Read from the text of the scripts: importing them imports MLflow, four seconds before each start of a server.
    """
    package = importlib.util.find_spec("mlflow").submodule_search_locations[0]
    revisions, parents = set(), set()
    for script in pathlib.Path(package, folder).glob("*.py"):
        values = {}
        for node in ast.parse(script.read_text(encoding="utf-8")).body:
            name = getattr(node.targets[0], "id", None) if isinstance(node, ast.Assign) else None
            if name in ("revision", "down_revision"):
                values[name] = ast.literal_eval(node.value)
        if "revision" in values:
            revisions.add(values["revision"])
            parent = values["down_revision"]
            parents.update([parent] if isinstance(parent, str) else parent or [])
    heads = revisions - parents
    if len(heads) != 1:
        sys.exit(f"this image's migration scripts have {len(heads)} heads, want one: {sorted(heads)}")
    return heads.pop(), revisions


def database_revision(engine, table="alembic_version"):
    """The database's revision, or None where no migration has run."""
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table(table):
            return None
        return connection.execute(sa.text(f"SELECT version_num FROM {table}")).scalar()


def wait(engine):
    wait_for(engine, *image_revisions())


def wait_for(engine, head, known, **where):
    while True:
        try:
            current = database_revision(engine, **where)
        except sa.exc.SQLAlchemyError as error:
            say(f"waiting for the database: {reason(error)}")
        else:
            if current == head:
                say(f"the schema is at {head}, as this image wants it")
                return
            if current is None:
                say(f"waiting for the migration to {head}: the database has no schema yet")
            elif current in known:
                say(f"waiting for the migration to {head}: the schema is at {current}")
            else:
                say(f"the schema is at {current}, which this image does not know: the database belongs to a newer MLflow")
        time.sleep(PAUSE)


def connect(engine):
    """A connection, as soon as the database answers."""
    deadline = time.monotonic() + DATABASE_UP
    while True:
        try:
            return engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        except sa.exc.SQLAlchemyError as error:
            if time.monotonic() > deadline:
                sys.exit(f"the database did not answer within {DATABASE_UP} s: {reason(error)}")
            say(f"waiting for the database: {reason(error)}")
        time.sleep(PAUSE)


def lock(connection):
    """Keeps all others out until the connection ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_lock(:key)"), {"key": LOCK})


def upgrade(engine):
    head, known = image_revisions()
    with connect(engine) as guard:
        lock(guard)
        before = database_revision(engine)
        if before not in known | {None}:
            hopeless(f"the schema is at {before}, which this image does not know: the database belongs to a newer MLflow")
        if before != head:
            migrate(engine, before, head)
    if (after := database_revision(engine)) != head:
        sys.exit(f"the schema is at {after} after the migration, want {head}")
    report(head)
    say(f"the schema is at {head}")


def migrate(engine, before, head):
    """The steps of `mlflow db upgrade`, which takes the URI as an argument only."""
    from mlflow.store.db import utils

    say(f"migrating from {before or 'an empty database'} to {head}")
    if all(table.startswith("alembic_") for table in sa.inspect(engine).get_table_names()):
        utils._initialize_tables(engine)
    else:
        utils._upgrade_db(engine)


def report(head):
    """The head as the container's termination message, where Kubernetes gives one."""
    message = pathlib.Path("/dev/termination-log")
    if message.is_file():
        message.write_text(head, encoding="ascii")


def engine_of(variable):
    uri = os.environ.get(variable) or sys.exit(f"{variable} is not set")
    return sa.create_engine(uri, poolclass=sa.pool.NullPool)


def run(modes):
    """Runs the one of the functions that the command line names."""
    if len(sys.argv) != 2 or sys.argv[1] not in modes:
        sys.exit(f"usage: {os.path.basename(sys.argv[0])} {'|'.join(modes)}")
    # The first process of a container ignores SIGTERM unless it asks for it.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        modes[sys.argv[1]](engine_of("MLFLOW_BACKEND_STORE_URI"))
    except (sa.exc.OperationalError, sa.exc.InterfaceError, OSError):
        raise  # the database went away, or the like
    except Exception:
        hopeless(traceback.format_exc())


if __name__ == "__main__":
    run({"upgrade": upgrade, "wait": wait})
