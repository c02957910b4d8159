"""Models for tests of deployments, in directories: versions.py DIR.

DIR/1 to DIR/3 are one classifier that was trained three ways; DIR/broken fails at every request, DIR/missing imports what its requirements
lack, and the file of DIR/corrupt is none. All have the same environment.
Standard output is one JSON object: a request, and what each version predicts for it."""
import json
import pathlib
import shutil
import sys

import mlflow
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

directory = pathlib.Path(sys.argv[1])
features, target = load_iris(return_X_y=True, as_frame=True)
request = features.iloc[[60]]
expected = {}
requirements = None
for number, strength in (("1", 0.05), ("2", 1.0), ("3", 50.0)):
    model = LogisticRegression(C=strength, max_iter=1000).fit(features, target)
    mlflow.sklearn.save_model(
        model, directory / number, pyfunc_predict_fn="predict_proba", input_example=features.head(2), pip_requirements=requirements
    )
    requirements = requirements or str(directory / number / "requirements.txt")
    expected[number] = model.predict_proba(request).tolist()


class Broken(mlflow.pyfunc.PythonModel):
    """It loads, and has nothing to answer with outside of this machine."""

    def __init__(self, table: str):
        self.table = table

    def predict(self, context, model_input, params=None):
        if not pathlib.Path(self.table).exists():
            raise ValueError("the lookup table is not here")
        return model_input


mlflow.pyfunc.save_model(
    directory / "broken", python_model=Broken(str(directory)), input_example=features.head(2), pip_requirements=requirements
)
class Missing(mlflow.pyfunc.PythonModel):
    """It imports, when it is loaded, what it does not require."""

    def load_context(self, context):
        if pathlib.Path("/opt/mlflow").exists():
            import tabulator_that_nobody_required  # noqa: F401

    def predict(self, context, model_input, params=None):
        return model_input


mlflow.pyfunc.save_model(
    directory / "missing", python_model=Missing(), input_example=features.head(2), pip_requirements=requirements
)
shutil.copytree(directory / "1", directory / "corrupt")
for file in (directory / "corrupt").glob("model.*"):
    file.write_bytes(b"no model")
body = {"dataframe_split": request.to_dict(orient="split", index=False)}
print(json.dumps({"request": json.dumps(body), "expected": expected}))
