import json
import os
import sys

import mlflow
import pytest

# What stands for kubectl-mlflow: it writes down how it was called, and says what the test has laid down.
PROGRAM = """#!{python}
import json, os, pathlib, sys
folder = pathlib.Path({folder!r})
call = {{"argv": sys.argv[1:], "stdin": sys.stdin.read(), "tracking": os.environ.get("MLFLOW_TRACKING_URI")}}
with (folder / "calls").open("a") as calls:
    calls.write(json.dumps(call) + "\\n")
words = [word for word in sys.argv[1:] if not word.startswith("-") and word != "mlflow"]
answer = json.loads((folder / (words[-1] + ".json")).read_text())
sys.stdout.write(answer["out"])
sys.stderr.write(answer["err"])
sys.exit(answer["code"])
"""


class Program:
    """A double of kubectl-mlflow."""

    def __init__(self, folder):
        self.folder = folder
        self.answers("create", "http://iris.default.example.com\n")
        self.answers("update", "http://iris.default.example.com\n")
        self.answers("delete", "service.serving.knative.dev/iris deleted\n")
        self.answers("predict", '{"predictions": [1, 2]}\n')
        self.lists()

    def install(self, name):
        path = self.folder / name
        path.write_text(PROGRAM.format(python=sys.executable, folder=str(self.folder)))
        path.chmod(0o755)
        return str(path)

    def answers(self, verb, out="", err="", code=0):
        (self.folder / f"{verb}.json").write_text(json.dumps({"out": out, "err": err, "code": code}))

    def lists(self, *deployments):
        self.answers("list", json.dumps({"items": deployments}))

    @property
    def calls(self):
        path = self.folder / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def call(self):
        return self.calls[-1]


@pytest.fixture
def program(tmp_path, monkeypatch):
    """The double, as KUBECTL_MLFLOW names it; nothing of the machine's is found."""
    double = Program(tmp_path)
    monkeypatch.setenv("KUBECTL_MLFLOW", double.install("kubectl-mlflow-double"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: "file:///nowhere")
    return double


def listed(name="iris", namespace="default", **more):
    """A deployment, as kubectl mlflow deployments list -o json has it."""
    return {
        "namespace": namespace,
        "name": name,
        "modelURI": "models:/iris/1",
        "version": "1",
        "runID": "run1",
        "url": f"http://{name}.{namespace}.example.com",
        "ready": True,
        "generation": 2,
        "created": "2026-01-02T03:04:05Z",
        "traffic": [{"revisionName": f"{name}-00001", "percent": 100}],
        **more,
    }


@pytest.fixture
def path_of(monkeypatch):
    """Makes folders all that is on PATH."""
    return lambda *folders: monkeypatch.setenv("PATH", os.pathsep.join(map(str, folders)))
