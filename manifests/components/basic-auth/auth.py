"""The database of MLflow's basic-auth: `auth.py prepare` makes it and brings its schema to the image's head. `auth.py configure` waits
until it is there, and writes the configuration file that MLflow reads, with the database's password, into a volume in memory.

Reads MLFLOW_AUTH_STORE_URI, MLFLOW_BACKEND_STORE_URI and MLFLOW_AUTH_CONFIG_PATH.
"""

import configparser
import os
import pathlib
import sys

import sqlalchemy as sa

import migrate

REVISIONS = "server/auth/db/migrations/versions"
TABLE = "alembic_version_auth"


def prepare(tracking):
    auth = migrate.engine_of("MLFLOW_AUTH_STORE_URI")
    head, known = migrate.image_revisions(REVISIONS)
    with migrate.connect(tracking) as guard:
        migrate.lock(guard)
        create(guard, auth.url.database, auth.url.username)
        before = migrate.database_revision(auth, TABLE)
        if before not in known | {None}:
            migrate.hopeless(f"the users' schema is at {before}, which this image does not know: the database belongs to a newer MLflow")
        if before != head:
            upgrade(auth, before, head)
    migrate.say(f"the users' schema is at {head}")


def create(connection, name, user):
    if connection.execute(sa.text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": name}).scalar():
        return
    migrate.say(f"creating the database {name}")
    try:
        connection.execute(sa.text(f"CREATE DATABASE {connection.dialect.identifier_preparer.quote(name)}"))
    except sa.exc.SQLAlchemyError as error:
        sys.exit(f"the database {name} is not there, and cannot be created: {migrate.reason(error)}. Create it and let {user} own it")


def upgrade(auth, before, head):
    # Importing the package reads the configuration, which is not there yet: it reads its own instead.
    os.environ.pop("MLFLOW_AUTH_CONFIG_PATH", None)
    from mlflow.server.auth.db import utils

    migrate.say(f"migrating the users' schema from {before or 'an empty database'} to {head}")
    utils.migrate(auth, "head")


def configure(_):
    auth = migrate.engine_of("MLFLOW_AUTH_STORE_URI")
    migrate.wait_for(auth, *migrate.image_revisions(REVISIONS), table=TABLE)
    config = configparser.ConfigParser()
    config.read(pathlib.Path(__file__).with_name("basic_auth.ini"))
    config["mlflow"]["database_uri"] = os.environ["MLFLOW_AUTH_STORE_URI"].replace("%", "%%")
    path = os.environ["MLFLOW_AUTH_CONFIG_PATH"]
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        config.write(file)


if __name__ == "__main__":
    migrate.run({"prepare": prepare, "configure": configure})
