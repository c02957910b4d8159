"""Runs a command beside a real MLflow server whose registry has two versions of a model iris, the first with the alias champion.

    python hack/with-mlflow.py COMMAND ARGUMENT...

The interpreter has mlflow and scikit-learn. The command finds the server in KUBECTL_MLFLOW_TEST_TRACKING_URI and the interpreter
in KUBECTL_MLFLOW_TEST_PYTHON. Exits as the command does.
"""

import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

PATIENCE = 120  # seconds until the server has to answer


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url + "/health", timeout=5) as response:
            return response.status == 200
    except (urllib.error.URLError, OSError):
        return False


def main(command: list[str]) -> int:
    # Its thread writes to os.environ, on which a request that is being made at the same time may fail with a KeyError.
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        with open(work / "server.log", "wb") as log:
            server = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
                 "--backend-store-uri", f"sqlite:///{work}/mlflow.db", "--artifacts-destination", str(work / "artifacts")],
                cwd=work, stdout=log, stderr=log, start_new_session=True,
                env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            )
        try:
            until = time.monotonic() + PATIENCE
            while not answers(url):
                if server.poll() is not None or time.monotonic() > until:
                    print((work / "server.log").read_text(), file=sys.stderr)
                    print("with-mlflow.py: MLflow's server did not start", file=sys.stderr)
                    return 1
                time.sleep(0.2)
            env = os.environ | {"MLFLOW_TRACKING_URI": url}
            demo = pathlib.Path(__file__).parent / "demo" / "iris.py"
            alias = "from mlflow import MlflowClient; MlflowClient().set_registered_model_alias('iris', 'champion', '1')"
            for step in [str(demo), "train", folder], ["-c", alias]:
                done = subprocess.run([sys.executable, *step], env=env, cwd=work, capture_output=True, text=True)
                if done.returncode != 0:
                    print(done.stdout, done.stderr, f"with-mlflow.py: {step[0]}: exit {done.returncode}", sep="\n", file=sys.stderr)
                    return 1
            env = os.environ | {"KUBECTL_MLFLOW_TEST_TRACKING_URI": url, "KUBECTL_MLFLOW_TEST_PYTHON": sys.executable}
            return subprocess.run(command, env=env).returncode
        finally:
            try:
                os.killpg(server.pid, 15)
            except ProcessLookupError:
                pass
            server.wait()


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1:]))
