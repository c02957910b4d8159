"""Keeps backups, which database.sh makes, on the volume /backups or, where BACKUP_DESTINATION is set, wherever MLflow keeps artifacts.

`backup.py store` sends the one that /work/name names there, and removes the oldest so that BACKUP_KEEP stay. `backup.py fetch` finds
BACKUP_NAME, or the newest, checks it, and writes into /work/source where it is: a backup of a schema that this MLflow does not know is refused. `backup.py list` prints names and sizes in bytes, the newest last.
A backup without SHA256SUMS is none: that file is sent last and deleted first.
"""

import hashlib
import os
import pathlib
import re
import shutil
import sys
import time

VOLUME = pathlib.Path(os.environ.get("BACKUP_VOLUME", "/backups"))
SCHEMAS = os.environ.get("BACKUP_SCHEMAS", "/opt/mlflow-schema")  # the folder of migrate.py, which knows MLflow's schemas
WORK = pathlib.Path(os.environ.get("BACKUP_WORK", "/work"))
NAME = re.compile(r"mlflow-\d{8}T\d{6}Z")
SUMS = "SHA256SUMS"


def say(text):
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


def report(text):
    """A termination message, where Kubernetes takes one."""
    message = pathlib.Path("/dev/termination-log")
    if message.is_file():
        message.write_text(text, encoding="ascii")


def refuse(text):
    report(text)
    sys.exit(text)


class Volume:
    """Backups where database.sh puts them."""

    def folders(self):
        return sorted(path.name for path in VOLUME.iterdir() if NAME.fullmatch(path.name))

    def files(self, name):
        return {path.name: path.stat().st_size for path in (VOLUME / name).iterdir()}

    def store(self, name):
        pass

    def fetch(self, name):
        return VOLUME / name

    def delete(self, name):
        (VOLUME / name / SUMS).unlink(missing_ok=True)
        shutil.rmtree(VOLUME / name)


class Destination:
    """Backups in a store of MLflow's artifacts, a bucket for instance."""

    def __init__(self, uri):
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        self.artifacts = get_artifact_repository(uri)

    def files(self, name=None):
        return {pathlib.PurePosixPath(info.path).name: info.file_size for info in self.artifacts.list_artifacts(name)}

    def folders(self):
        return sorted(name for name in self.files() if NAME.fullmatch(name))

    def store(self, name):
        local = VOLUME / name
        for path in sorted(local.iterdir(), key=lambda path: path.name == SUMS):
            self.artifacts.log_artifact(str(path), name)
        there = self.files(name)
        for path in local.iterdir():
            if path.name not in there or there[path.name] != path.stat().st_size:
                sys.exit(f"{path.name} did not arrive whole")

    def fetch(self, name):
        self.artifacts.download_artifacts(name, str(WORK))
        return WORK / name

    def delete(self, name):
        self.artifacts.delete_artifacts(f"{name}/{SUMS}")
        self.artifacts.delete_artifacts(name)


def place():
    uri = os.environ.get("BACKUP_DESTINATION")
    return Destination(uri) if uri else Volume()


def check(folder):
    """Ends where what is in folder is not what was dumped."""
    for line in (folder / SUMS).read_text(encoding="utf-8").splitlines():
        wanted, name = line.split("  ", 1)
        with open(folder / name, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != wanted:
                refuse(f"{name} of {folder.name} is damaged: it is not what was dumped")


def known(folder):
    """Ends where the backup is of a newer MLflow than this one."""
    schema = folder / "schema"
    if not schema.is_file():
        return
    sys.path.append(SCHEMAS)
    import migrate

    revision = schema.read_text(encoding="ascii").strip()
    if revision and revision not in migrate.image_revisions()[1]:
        refuse(f"the schema of {folder.name} is {revision}, which this MLflow does not know: it is of a newer one")


def store():
    name = (WORK / "name").read_text(encoding="ascii")
    keep = max(int(os.environ.get("BACKUP_KEEP", "1")), 1)
    check(VOLUME / name)
    backups = place()
    backups.store(name)
    say(f"{name} is stored")
    report(name)
    names = backups.folders()
    whole = [each for each in names if SUMS in backups.files(each)]
    if name not in whole:
        sys.exit(f"{name} is not among the backups that there are")
    oldest = whole[-keep:][0]
    for each in names:
        if each < oldest:
            backups.delete(each)
            say(f"{each} is removed: {keep} are kept")


def fetch():
    backups = place()
    name = os.environ.get("BACKUP_NAME")
    whole = [each for each in backups.folders() if SUMS in backups.files(each)]
    if not whole:
        refuse("there are no backups")
    if name and name not in whole:
        refuse(f"there is no backup {name}; there are: {', '.join(whole)}")
    name = name or whole[-1]
    folder = backups.fetch(name)
    check(folder)
    known(folder)
    (WORK / "source").write_text(str(folder), encoding="utf-8")
    say(f"{name} is whole")


def list_all():
    backups = place()
    for name in backups.folders():
        files = backups.files(name)
        if SUMS in files:
            print(name, sum(files.values()), sep="\t")


if __name__ == "__main__":
    modes = {"store": store, "fetch": fetch, "list": list_all}
    if len(sys.argv) != 2 or sys.argv[1] not in modes:
        sys.exit(f"usage: backup.py {'|'.join(modes)}")
    modes[sys.argv[1]]()
