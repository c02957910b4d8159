"""The program kubectl-mlflow: where it is, and how it is asked."""

import os
import shutil
import subprocess
import sys
import tempfile

import mlflow
from mlflow.exceptions import MlflowException


def run(arguments, body=None):
    """What the program prints. Its talk goes to standard error as it comes; its failure is an MlflowException's message."""
    # Files, not pipes: neither side waits for the other to read.
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stdout:
        stdin.write(body.encode() if isinstance(body, str) else body or b"")
        stdin.seek(0)
        # Ctrl-C comes once, from here, and lets the program end in order.
        with subprocess.Popen(
            [*_program(), *arguments], stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, env=_environment(), encoding="utf-8", errors="replace", start_new_session=True
        ) as process:
            try:
                failure = _listen(process.stderr)
            except BaseException:
                process.terminate()
                raise
        if process.returncode:
            raise MlflowException("\n".join(failure) or f"kubectl-mlflow ended with exit code {process.returncode}")
        stdout.seek(0)
        return stdout.read().decode()


def _listen(stderr):
    """Passes talk on until the program says what went wrong: that is the exception's to say."""
    failure = []
    for line in stderr:
        if failure or line.startswith("error: "):
            failure.append(line.rstrip("\n"))
        else:
            sys.stderr.write(line)
    return failure


def _program():
    named = os.environ.get("KUBECTL_MLFLOW")
    if named:
        return [named]
    if found := shutil.which("kubectl-mlflow"):
        return [found]
    if found := shutil.which("kubectl"):
        return [found, "mlflow"]
    raise MlflowException("there is no kubectl-mlflow on PATH: install it, or let the environment variable KUBECTL_MLFLOW name it")


def _environment():
    """The program's: it reads the model from the server that MLflow is set to, also by mlflow.set_tracking_uri."""
    environment = dict(os.environ)
    uri = mlflow.get_tracking_uri()
    if uri.startswith(("http://", "https://")):
        environment["MLFLOW_TRACKING_URI"] = uri
    return environment
