"""The demo's data scientist: trains two versions of a model, logs them to MLflow, and checks what the cluster answers.

iris.py train DIR        log and register two versions of "iris" at MLFLOW_TRACKING_URI;
                         write DIR/request.json and what each version predicts for it, DIR/expected-N.json
iris.py check FILE       compare an answer of /invocations on standard input with FILE; exit 1 where they differ
"""

import json
import pathlib
import sys

MODEL = "iris"
TOLERANCE = 1e-6


def train(directory: pathlib.Path) -> None:
    import mlflow
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    features, target = load_iris(return_X_y=True, as_frame=True)
    request = features.iloc[[0, 60, 120]]
    (directory / "request.json").write_text(
        json.dumps({"dataframe_split": request.to_dict(orient="split", index=False)})
    )
    mlflow.set_experiment(MODEL)
    # Probabilities, not classes: two versions that agree on the class still answer differently, so a stale one shows.
    for number, strength in (("1", 0.05), ("2", 50.0)):
        model = LogisticRegression(C=strength, max_iter=1000).fit(features, target)
        with mlflow.start_run(run_name=f"C={strength}"):
            mlflow.log_param("C", strength)
            mlflow.log_metric("accuracy", model.score(features, target))
            info = mlflow.sklearn.log_model(
                model,
                name="model",
                registered_model_name=MODEL,
                pyfunc_predict_fn="predict_proba",
                input_example=features.head(2),
            )
        version = str(info.registered_model_version)
        if version != number:
            # A further run of the demo on the same MLflow: versions go on counting, the last two are deployed.
            print(f"logged as version {version}", file=sys.stderr)
        (directory / f"expected-{number}.json").write_text(
            json.dumps({"predictions": model.predict_proba(request).tolist()})
        )
        (directory / f"uri-{number}").write_text(f"models:/{MODEL}/{version}")
        print(f"models:/{MODEL}/{version}")


def check(file: pathlib.Path) -> int:
    expected = json.loads(file.read_text())["predictions"]
    answer = json.load(sys.stdin)["predictions"]
    same = len(answer) == len(expected) and all(
        len(got) == len(want) and all(abs(g - w) <= TOLERANCE for g, w in zip(got, want))
        for got, want in zip(answer, expected)
    )
    if not same:
        print(f"the cluster answers {answer}, the model itself {expected}", file=sys.stderr)
    return 0 if same else 1


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["train", directory]:
            train(pathlib.Path(directory))
        case ["check", file]:
            sys.exit(check(pathlib.Path(file)))
        case _:
            sys.exit(__doc__)
