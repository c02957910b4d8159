"""What a data scientist does with a tracking server at MLFLOW_TRACKING_URI, and no credentials but those of the server.

client.py log          log a run with a parameter, a metric, a file and a model, and register the model; print {"run", "artifacts", "version"}
client.py check RUN    read all of it back; exit 1 where it is not what was logged
"""

import json
import pathlib
import sys
import tempfile

NAME = "doubles"
POINTS, ANSWERS = [[1.0], [2.0], [3.0]], [2.0, 4.0, 6.0]
TEXT = "written through the server\n" * 1000


def log() -> None:
    import mlflow
    from sklearn.linear_model import LinearRegression

    mlflow.set_experiment(NAME)
    with mlflow.start_run() as run:
        mlflow.log_param("slope", 2)
        mlflow.log_metric("error", 0.25)
        mlflow.log_text(TEXT, "notes/text.txt")
        # Requirements are named: to find them out, MLflow would load the model once more in a process of its own.
        info = mlflow.sklearn.log_model(
            LinearRegression().fit(POINTS, ANSWERS), name="model", registered_model_name=NAME, pip_requirements=["scikit-learn"]
        )
    json.dump({"run": run.info.run_id, "artifacts": run.info.artifact_uri, "version": str(info.registered_model_version)}, sys.stdout)


def check(run_id: str) -> int:
    import mlflow

    run = mlflow.get_run(run_id)
    with tempfile.TemporaryDirectory() as folder:
        file = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="notes/text.txt", dst_path=folder)
        text = pathlib.Path(file).read_text()
    answers = mlflow.sklearn.load_model(f"models:/{NAME}/1").predict([[10.0]])
    got = {
        "param": run.data.params.get("slope"),
        "metric": run.data.metrics.get("error"),
        "text": text == TEXT,
        "model": round(float(answers[0]), 6),
    }
    want = {"param": "2", "metric": 0.25, "text": True, "model": 20.0}
    if got != want:
        print(f"read {got}, logged {want}", file=sys.stderr)
    return 0 if got == want else 1


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["log"]:
            log()
        case ["check", run]:
            sys.exit(check(run))
        case _:
            sys.exit(__doc__)
