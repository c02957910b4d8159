"""Serves one MLflow model by MLflow's own scoring app, or by MLServer: /invocations and the Open Inference Protocol (V2) on one port.

launcher.py [--server mlflow|mlserver] [MODEL_DIR]
                               load the model, then listen on $PORT; exits 1 with the traceback last if loading fails
launcher.py --list-imports     import what serving needs, print the files of all modules, one per line
"""

import argparse
import gc
import importlib.util
import json
import os
import pathlib
import signal
import sys
import time
import traceback

MODEL_DIR = "/opt/ml/model"

# Seconds that a connection may be idle. Knative's queue-proxy keeps one for 90 s, and cannot send a POST again: were this server the
# first to close, as it is by default after 5 s, a request that comes just then would be lost.
KEEP_ALIVE = 120


def prepare():
    """Makes a read-only root filesystem and a user without a home do."""
    if not os.access(os.environ.get("HOME") or "/", os.W_OK):
        os.environ["HOME"] = "/tmp"
    for name, value in {
        "TMPDIR": "/tmp",
        "MPLCONFIGDIR": "/tmp/matplotlib",
        "NUMBA_CACHE_DIR": "/tmp/numba",
        "XDG_CACHE_HOME": "/tmp/cache",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }.items():
        os.environ.setdefault(name, value)


def import_server(server):
    """Imports the server. That makes hundreds of thousands of objects, which stay: looking for garbage among them, now and while
    the model is loaded, takes a tenth of the start's time."""
    gc.disable()
    import_ufuncs()
    if server == "mlserver":
        import mlserver_app  # noqa: F401
    else:
        import open_inference  # noqa: F401
        from mlflow.pyfunc import scoring_server  # noqa: F401
    gc.freeze()
    gc.enable()


def import_ufuncs():
    """Imports SciPy's functions before all else. skops, in whose format MLflow keeps scikit-learn's models, looks for each of them in all
    modules, in the order in which these were imported: behind two thousand others that is a fifth of the start's time."""
    if importlib.util.find_spec("skops"):
        import scipy.special  # noqa: F401


def load(server, model_dir, name, version):
    """Returns the app with the model behind it."""
    if server == "mlserver":
        import mlserver_app

        return mlserver_app.make(model_dir, name, version)
    import open_inference

    model = load_model(model_dir)
    app = make_app(model)
    open_inference.add_routes(app, model, name, version)
    return app


def load_model(model_dir):
    """Loads as MLflow's server does, but compares the environment with the model's requirements only where that may say why it
    cannot be loaded: it was made of them, and looking through all packages' files takes a twentieth of the start's time."""
    from mlflow.pyfunc import scoring_server

    config = os.environ.get(scoring_server.SERVING_MODEL_CONFIG)
    more = {"model_config": json.loads(config)} if config else {}
    try:
        return scoring_server.load_model(model_dir, suppress_warnings=True, **more)
    except Exception:
        from mlflow.utils.requirements_utils import warn_dependency_requirement_mismatches

        requirements = pathlib.Path(model_dir, "requirements.txt")
        if requirements.exists():
            warn_dependency_requirement_mismatches(requirements.read_text().splitlines())
        raise


def make_app(model):
    """Returns MLflow's app. That of MLflow 2.22 and of the first 3.x asks for a method that Starlette 1 dropped from applications,
    and nothing in its requirements keeps Starlette 1 away."""
    from fastapi import FastAPI
    from mlflow.pyfunc import scoring_server

    import time_limit

    if not hasattr(FastAPI, "route"):
        FastAPI.route = lambda app, *args, **more: app.router.route(*args, **more)
    app = scoring_server.init(model)
    time_limit.replace(app)
    return app


def serve(server, model_dir):
    began = time.monotonic()
    prepare()
    # As process 1 of a container, a process that is not told otherwise ignores SIGTERM.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    name = os.environ.get("KUBECTL_MLFLOW_MODEL_NAME", "model")
    port = int(os.environ.get("PORT", "8080"))
    try:
        import_server(server)
        app = load(server, model_dir, name, os.environ.get("KUBECTL_MLFLOW_MODEL_VERSION", ""))
        import uvicorn

        listener = uvicorn.Server(
            uvicorn.Config(app, host="0.0.0.0", port=port, log_level="warning", access_log=False, timeout_keep_alive=KEEP_ALIVE)
        )
    except Exception:
        # The end of the log is what Kubernetes keeps of a container that died: nothing may come after the traceback.
        sys.stdout.flush()
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    print(f"loaded {name} in {time.monotonic() - began:.1f} s, listening on port {port}", file=sys.stderr, flush=True)
    listener.run()
    # A server that nobody asked to stop has failed.
    sys.exit(0 if listener.should_exit else 1)


def list_imports():
    """Imports what serve imports, and the flavours whose libraries are installed, and prints the modules' files."""
    prepare()
    required = [
        "mlflow.pyfunc.scoring_server",
        "mlflow.pyfunc.utils.serving_data_parser",
        "open_inference",
        "fastapi",
        "uvicorn",
    ]
    # Parts that are imported when the first request, or the first model, needs them.
    optional = [
        "anyio._backends._asyncio",
        "uvicorn.lifespan.off",
        "uvicorn.lifespan.on",
        "uvicorn.loops.asyncio",
        "uvicorn.loops.auto",
        "uvicorn.protocols.http.auto",
        "uvicorn.protocols.websockets.auto",
        "cloudpickle",
        "mlflow.pyfunc.model",
        "mlflow.store.artifact.local_artifact_repo",
    ]
    flavors = {
        "sklearn": "sklearn",
        "xgboost": "xgboost",
        "lightgbm": "lightgbm",
        "catboost": "catboost",
        "statsmodels": "statsmodels",
        "onnxruntime": "onnx",
        "prophet": "prophet",
        "spacy": "spacy",
        "torch": "pytorch",
        "tensorflow": "tensorflow",
        "transformers": "transformers",
        "sentence_transformers": "sentence_transformers",
    }
    for module in required:
        importlib.import_module(module)
    for library, flavor in flavors.items():
        if importlib.util.find_spec(library) is not None:
            optional += [library, "mlflow." + flavor]
    if importlib.util.find_spec("mlserver") is not None:
        optional.append("mlserver_app")
    for module in optional:
        try:
            importlib.import_module(module)
        except Exception as e:
            print(f"{module}: {e}", file=sys.stderr)
    for use in (use_server, use_sklearn):
        try:
            use()
        except Exception as e:
            print(f"{use.__name__}: {e}", file=sys.stderr)
    for file in sorted({getattr(m, "__file__", None) or "" for m in list(sys.modules.values())}):
        if file.endswith(".py"):
            print(file)


def use_server():
    """Makes the app once: FastAPI imports further parts when routes are added."""
    from mlflow.models import Model

    import open_inference

    class Nothing:
        metadata = Model()

        def predict(self, data, params=None):
            return data

    open_inference.add_routes(make_app(Nothing()), Nothing(), "nothing", "")


def use_sklearn():
    """Predicts and reads once: scikit-learn imports further parts at the first DataFrame, skops at the first model."""
    import pandas
    from sklearn.linear_model import LogisticRegression

    data = pandas.DataFrame({"x": [0.0, 1.0]})
    fitted = LogisticRegression().fit(data, [0, 1])
    fitted.predict(data)
    import skops.io

    skops.io.loads(skops.io.dumps(fitted))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("model_dir", nargs="?", default=MODEL_DIR)
    parser.add_argument("--server", choices=["mlflow", "mlserver"], default="mlflow")
    parser.add_argument("--list-imports", action="store_true")
    arguments = parser.parse_args()
    if arguments.list_imports:
        list_imports()
    else:
        serve(arguments.server, arguments.model_dir)
