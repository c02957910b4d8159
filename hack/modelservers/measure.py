"""Measures model servers side by side, on this machine: what they add to a model's environment, how they start, and how they answer.

    python hack/modelservers/measure.py WORK [--runs 5] [--seconds 3]

uv is on PATH, and Linux below: processor time and memory are read from /proc. WORK keeps environments and models between runs.
Servers take turns within each run; the tables, in Markdown on standard output, have medians over the runs. Processor seconds are
beside the clock's, because they say the same on a busy machine.
"""

import argparse
import concurrent.futures
import http.client
import json
import os
import pathlib
import signal
import socket
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).parent
LAUNCHER = HERE.parent.parent / "pkg/internal/servingruntime/launcher/launcher.py"
PYTHON = "3.12"  # the newest that MLServer takes
MLFLOW = "mlflow==3.17.2"
KSERVE = "kserve==0.21.0"
MLSERVER = ["mlserver==1.7.1", "mlserver-mlflow==1.7.1"]
# mlserver is MLServer as `--model-server mlserver` composes it, mlserver start is its own command, without worker processes: with
# them it does not start beside uvloop 0.22 and later. kserve is its shortest custom model.
SERVERS = {
    "mlflow": ("mlflow", [str(LAUNCHER), "--server", "mlflow"]),
    "mlserver": ("mlserver", [str(LAUNCHER), "--server", "mlserver"]),
    "mlserver start": ("mlserver", ["-c", "from mlserver.cli import main; main()", "start"]),
    "kserve": ("kserve", [str(HERE / "kserve_server.py")]),
}
MODELS = ["columns", "unsigned", "text", "pyfunc", "tensor", "inputs_only", "mlflow2"]
PATIENCE = 180  # seconds until a server has to be ready
TICKS = os.sysconf("SC_CLK_TCK")


def sh(*command, **more):
    return subprocess.run([str(c) for c in command], check=True, stdout=subprocess.PIPE, text=True, **more).stdout


def environment(work, name, requirements):
    """A virtual environment, made once; where the requirements clash, what uv says instead of its path."""
    folder = work / "environments" / name
    if not (folder / "made").exists():
        sh("uv", "venv", "--quiet", "--clear", "--python", PYTHON, folder)
        made = subprocess.run(
            ["uv", "pip", "install", "--quiet", "--compile-bytecode", "--python", str(folder / "bin/python"), *requirements],
            stderr=subprocess.PIPE, text=True,
        )
        if made.returncode != 0:
            return None, " ".join(made.stderr.split())
        (folder / "made").touch()
    return folder, ""


def size(folder):
    """Packages, and megabytes without bytecode, which not every image has."""
    site = next((folder / "lib").glob("python*/site-packages"))
    sizes = [f.stat().st_size for f in site.rglob("*") if f.is_file() and f.suffix != ".pyc"]
    return len(list(site.glob("*.dist-info"))), sum(sizes) / 1e6


class Server:
    """One server on a model, in a process group of its own."""

    def __init__(self, command, python, model, log):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        env = os.environ | {
            "PORT": str(self.port), "KUBECTL_MLFLOW_MODEL_NAME": "m", "MODEL_DIR": str(model), "MLSERVER_DEBUG": "false", "MLSERVER_PARALLEL_WORKERS": "0",
            "MLSERVER_MODEL_IMPLEMENTATION": "mlserver_mlflow.MLflowRuntime", "MLSERVER_MODEL_NAME": "m",
            "MLSERVER_MODEL_URI": str(model), "MLSERVER_HTTP_PORT": str(self.port), "MLSERVER_GRPC_PORT": str(self.port + 1),
            "MLSERVER_METRICS_PORT": str(self.port + 2), "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        self.log = log
        self.began = time.monotonic()
        with open(log, "wb") as out:
            self.process = subprocess.Popen(
                [str(python), *command, str(model)],
                cwd=log.parent, env=env, stdout=out, stderr=out, start_new_session=True,
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        except ProcessLookupError:
            self.process.wait()

    def ready(self):
        """Seconds until it was ready; None where it never was."""
        while self.process.poll() is None and time.monotonic() - self.began < PATIENCE:
            try:
                if ask(self.port, "GET", "/v2/models/m/ready")[0] == 200:
                    return time.monotonic() - self.began
            except OSError:
                pass
            time.sleep(0.01)
        return None

    def processes(self):
        """All processes of the group: /proc/PID/stat's fifth field."""
        for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[2]) == self.process.pid:
                yield stat.parent, fields

    def cpu(self):
        return sum((int(f[11]) + int(f[12])) / TICKS for _, f in self.processes())

    def memory(self):
        """Proportional set size in megabytes: pages that processes share count once."""
        total = 0
        for folder, _ in self.processes():
            rollup = (folder / "smaps_rollup").read_text()
            total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
        return total * 1024 / 1e6


def ask(port, method, path, body=None, connection=None):
    c = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    c.request(method, path, body, {"Content-Type": "application/json"})
    response = c.getresponse()
    answer = response.status, response.read()
    if connection is None:
        c.close()
    return answer


def load(server, clients, seconds, body):
    """Latencies in ms, sorted, of clients that ask one after the other, each on its connection; requests/s; processor ms each."""

    def client():
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        took = []
        while time.monotonic() < until:
            start = time.perf_counter()
            status, answer = ask(server.port, "POST", "/v2/models/m/infer", body, connection)
            took.append((time.perf_counter() - start) * 1000)
            if status != 200:
                raise RuntimeError(f"{status} {answer[:500]}")
        connection.close()
        return took

    began, used = time.monotonic(), server.cpu()
    until = began + seconds
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        took = sorted(sum((f.result() for f in [pool.submit(client) for _ in range(clients)]), []))
    return took, len(took) / (time.monotonic() - began), (server.cpu() - used) * 1000 / len(took)


def measure(name, work, folder, requests, seconds):
    """One start of one server, with all that is measured of it."""
    with Server(SERVERS[name][1], folder / "bin/python", work / "models/columns", work / f"{name}.log") as server:
        ready = server.ready()
        if ready is None:
            raise RuntimeError(f"{name} did not start: {server.log.read_text()[-2000:]}")
        m = {"ready, s": ready, "ready, CPU s": server.cpu(), "memory when ready, MB": server.memory()}
        m["processes"] = len(list(server.processes()))
        one = json.dumps(requests["columns"])
        load(server, 1, 1, one)
        for clients in (1, 8):
            took, rate, cpu = load(server, clients, seconds, one)
            m |= {f"p50, {clients} client{'s'[:clients > 1]}, ms": statistics.median(took),
                  f"p99, {clients} client{'s'[:clients > 1]}, ms": took[int(len(took) * 0.99)],
                  f"requests/s, {clients} client{'s'[:clients > 1]}": rate, f"CPU ms a request, {clients} client{'s'[:clients > 1]}": cpu}
        took, _, cpu = load(server, 1, seconds, json.dumps(requests["thousand"]))
        m |= {"p50 of 1000 rows, ms": statistics.median(took), "CPU ms for 1000 rows": cpu, "memory after, MB": server.memory()}
        return m


def loads(name, work, folder, model, request, expected):
    """Whether a server loads a model and answers a V2 request as the model itself does, in a word or two."""
    with Server(SERVERS[name][1], folder / "bin/python", work / "models" / model, work / f"{name}-{model}.log") as server:
        if server.ready() is None:
            lines = server.log.read_text().strip().splitlines()
            return "does not load: " + next((x for x in reversed(lines) if "Error" in x), lines[-1])[:120]
        status, answer = ask(server.port, "POST", "/v2/models/m/infer", json.dumps(request))
        if status != 200:
            return f"answers {status}: {answer.decode()[:120]}"
        got = json.loads(answer)["outputs"][0]["data"]
        same = got == expected if isinstance(expected[0], str) else all(abs(a - b) < 1e-9 for a, b in zip(got, expected, strict=True))
        return "yes" if same else f"answers {got}, not {expected}"


def table(header, rows):
    print("| " + " | ".join(header) + " |\n|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(f"{x:.3g}" if isinstance(x, float) and x < 100 else f"{x:.0f}" if isinstance(x, float) else str(x)
                                 for x in row) + " |")
    print(flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="how long each load lasts")
    a = parser.parse_args()
    work = a.work.resolve()
    (work / "models").mkdir(parents=True, exist_ok=True)
    maker, problem = environment(work, "maker", [MLFLOW, "scikit-learn"])
    maker2, problem2 = environment(work, "maker2", ["mlflow==2.22.5", "scikit-learn"])
    if problem or problem2:
        sys.exit(problem or problem2)
    if not (work / "models/made.json").exists():
        sh(maker / "bin/python", HERE / "models.py", work / "models", cwd=work)
        sh(maker2 / "bin/python", HERE / "models.py", work / "models", "mlflow2", cwd=work)
    made = json.loads((work / "models/made.json").read_text())
    requests, expected = made["requests"], made["expected"]

    environments, sizes = {}, {}
    added = {"mlflow": [], "mlserver": MLSERVER, "kserve": [KSERVE]}
    for kind, more in added.items():
        for model, name in (("columns", kind), ("mlflow2", kind + "-2")):
            pins = ["-r", str(work / "models" / model / "requirements.txt")]
            environments[name], problem = environment(work, name, [*pins, *more])
            if problem:
                print(f"{kind} beside the requirements of {model}: {problem}\n")
                # Without the pins, to measure it all the same.
                environments[name], problem = environment(work, name + "-unpinned", [MLFLOW if name == kind else "mlflow==2.22.5",
                                                                                      "scikit-learn", *more])
                if problem:
                    sys.exit(problem)
        sizes[kind] = size(environments[kind])
    alone = sizes["mlflow"]
    table(["added to the environment", "packages", "MB"],
          [[k, p - alone[0], mb - alone[1]] for k, (p, mb) in sizes.items() if k != "mlflow"] + [["(mlflow, in all)", *alone]])

    runs = {name: [] for name in SERVERS}
    for run in range(a.runs + 1):
        for name, (kind, _) in SERVERS.items():
            m = measure(name, work, environments[kind], requests, a.seconds if run else 1)
            if run:  # the first start warms the disk's cache
                runs[name].append(m)
                print(f"run {run}, {name}: {m}", file=sys.stderr)
    table([f"medians of {a.runs}", *SERVERS],
          [[what, *(statistics.median(m[what] for m in runs[name]) for name in SERVERS)] for what in runs["mlflow"][0]])

    rows = []
    for model in MODELS:
        row = [model]
        for name, (kind, _) in SERVERS.items():
            folder = environments[kind + "-2" if model == "mlflow2" else kind]
            row.append(loads(name, work, folder, model, requests[model], expected[model]))
        rows.append(row)
    table(["model", *SERVERS], rows)


if __name__ == "__main__":
    main()
