"""What a pod like MLflow's can do. `kubectl mlflow check` runs it in one.

`check.py all SECONDS SECONDS` tries the artifact store and the database, each for so long where what is wrong may pass. `check.py door
HOST PORT` tells whether a port is open to the pod that it runs in. Both print one JSON object a line: check, state (pending, ok, failed),
and what is known. Nothing of what is written stays, and no password is printed.
"""

import json
import os
import pathlib
import socket
import sys
import tempfile
import threading
import time
import urllib.parse
import uuid

PAUSE = 10  # seconds between two tries
TOKENS = 45  # seconds in which a new pod may be without Google's tokens
NETWORK = 15  # seconds in which a network may not answer yet
TALK = threading.Lock()


def say(check, state, **known):
    with TALK:
        print(json.dumps({"check": check, "state": state, **known}), flush=True)


class Trouble(Exception):
    """What is wrong, and for how many seconds it may be so before it is believed; None is as long as there is patience."""

    def __init__(self, reason, detail, passing=0):
        super().__init__(detail)
        self.reason, self.passing = reason, passing


def one_line(text):
    return " ".join(str(text).split())[:500]


def insist(check, patience, attempt):
    """Tries until it works or is hopeless. attempt returns what is known then."""
    began = time.monotonic()
    while True:
        try:
            return say(check, "ok", **attempt())
        except Trouble as trouble:
            left = patience if trouble.passing is None else min(patience, trouble.passing)
            known = {"reason": trouble.reason, "detail": one_line(trouble), **getattr(attempt, "known", {})}
            if time.monotonic() - began + PAUSE > left:
                return say(check, "failed", **known)
            say(check, "pending", **known)
        except Exception as error:
            return say(check, "failed", reason="Other", detail=one_line(f"{type(error).__name__}: {error}"), **getattr(attempt, "known", {}))
        time.sleep(PAUSE)


def causes(error):
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def status_of(error):
    """The HTTP status in an error of whichever store's library, or None."""
    for each in causes(error):
        answer = getattr(each, "response", None)
        if isinstance(answer, dict):  # S3's
            answer = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
        for status in (getattr(each, "code", None), getattr(each, "status_code", None), getattr(answer, "status_code", None), answer):
            try:
                if 400 <= int(status) < 600:
                    return int(status)
            except (TypeError, ValueError):
                pass
    return None


class Artifacts:
    def __init__(self):
        self.uri = os.environ["DEFAULT_ARTIFACT_ROOT"]
        self.google = self.uri.startswith("gs://")
        self.double = os.environ.get("STORAGE_EMULATOR_HOST")
        self.known = {"where": self.uri}

    def __call__(self):
        if self.google:
            self.reach()
            self.known["identity"] = self.identity()
        try:
            self.round_trip()
        except Exception as error:
            raise self.explain(error) from error
        return self.known

    def reach(self):
        """Google's library would try for two minutes."""
        if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
            return
        at = urllib.parse.urlsplit(self.double or "https://storage.googleapis.com")
        try:
            socket.create_connection((at.hostname, at.port or (80 if at.scheme == "http" else 443)), timeout=NETWORK).close()
        except socket.gaierror as error:
            raise Trouble("NameNotFound", f"{at.hostname}: {error.strerror}", NETWORK) from error
        except OSError as error:
            raise Trouble("Unreachable", f"{at.hostname}: {error}", NETWORK) from error

    def identity(self):
        """Whom Google sees. MLflow goes on as anonymous where it finds nobody to be, and says nothing."""
        import google.auth
        import google.auth.exceptions
        import google.auth.transport.requests

        try:
            credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/devstorage.read_write"])
        except google.auth.exceptions.DefaultCredentialsError:
            return "anonymous"
        name = getattr(credentials, "service_account_email", None)
        if name in (None, "default") and not self.double:
            try:
                credentials.refresh(google.auth.transport.requests.Request())
            except google.auth.exceptions.GoogleAuthError as error:
                raise Trouble("NoToken", error, None) from error
            name = getattr(credentials, "service_account_email", None)
        return name or type(credentials).__name__

    def round_trip(self):
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        store, folder, text = get_artifact_repository(self.uri), f"kubectl-mlflow-check-{uuid.uuid4().hex}", uuid.uuid4().hex
        with tempfile.TemporaryDirectory() as here:
            file = pathlib.Path(here, "check")
            file.write_text(text, encoding="ascii")
            self.known["step"] = "write"
            store.log_artifact(str(file), folder)
            try:
                self.known["step"] = "read"
                back = pathlib.Path(store.download_artifacts(f"{folder}/check", os.path.join(here, "")))
                if back.read_text(encoding="ascii") != text:
                    raise Trouble("Other", "what was read is not what was written")
            finally:
                step, self.known["step"] = self.known["step"], "delete"
                store.delete_artifacts(folder)
                self.known["step"] = step
        del self.known["step"]

    def explain(self, error):
        if isinstance(error, Trouble):
            return error
        status, detail = status_of(error), f"{type(error).__name__}: {error}"
        anonymous = self.known.get("identity") == "anonymous"
        if anonymous and (status in (401, 403) or "Anonymous" in detail):
            return Trouble("Anonymous", detail, TOKENS)
        if any(type(each).__name__ == "RefreshError" for each in causes(error)):
            return Trouble("NoToken", detail, None)
        if status in (401, 403):
            return Trouble("Forbidden", detail, None)
        if status == 404:
            return Trouble("BucketNotFound", detail)
        if status is None and isinstance(error, OSError) and "://" not in self.uri:
            return Trouble("NotWritable", detail)
        return Trouble("Other", detail)


class Database:
    def __init__(self):
        import sqlalchemy

        self.sa = sqlalchemy
        uri = os.environ["MLFLOW_BACKEND_STORE_URI"]
        self.engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.pool.NullPool)
        self.known = {"where": f"{self.engine.url.host}:{self.engine.url.port}/{self.engine.url.database}", "identity": self.engine.url.username}

    def __call__(self):
        try:
            with self.engine.connect() as connection:
                connection.execute(self.sa.text("SELECT 1"))
                there = self.sa.inspect(connection).has_table("alembic_version")
                current = connection.execute(self.sa.text("SELECT version_num FROM alembic_version")).scalar() if there else None
        except self.sa.exc.SQLAlchemyError as error:
            # The driver's own words, never SQLAlchemy's, which may quote the URI.
            detail = one_line(getattr(error, "orig", None) or type(error).__name__)
            for words, reason in (("password authentication failed", "PasswordRefused"), ("does not exist", "DatabaseMissing")):
                if words in detail:
                    raise Trouble(reason, detail) from None
            raise Trouble("NoAnswer", detail, None) from None
        head = self.head()
        if current is None:
            raise Trouble("SchemaMissing", f"the database has no schema; this MLflow wants {head}")
        if current != head:
            raise Trouble("SchemaOther", f"the schema is at {current}; this MLflow wants {head}")
        return {**self.known, "schema": current}

    def head(self):
        from alembic.script import ScriptDirectory
        from mlflow.store.db import utils

        return ScriptDirectory.from_config(utils._get_alembic_config("sqlite://")).get_current_head()


def everything(artifacts, database):
    # Here, since two threads must not import a package at once.
    import mlflow.store.artifact.artifact_repository_registry  # noqa: F401
    import mlflow.store.db.utils  # noqa: F401

    def tried(check, make, patience):
        try:
            attempt = make()
        except Exception as error:
            return say(check, "failed", reason="Other", detail=one_line(f"{type(error).__name__}: {error}"))
        insist(check, patience, attempt)

    threads = [
        threading.Thread(target=tried, args=("artifacts", Artifacts, float(artifacts))),
        threading.Thread(target=tried, args=("database", Database, float(database))),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def door(host, port):
    """Two looks: a policy may reach the node a moment after the pod."""
    for last in (False, True):
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except socket.gaierror as error:
            return say("door", "failed", detail=one_line(f"{host}: {error}"))
        except OSError as error:
            return say("door", "closed", detail=one_line(error))
        if not last:
            time.sleep(3)
    say("door", "open")


if __name__ == "__main__":
    {"all": everything, "door": door}[sys.argv[1]](*sys.argv[2:])
