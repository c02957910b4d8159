"""Saves the models that measure.py serves, each with a V2 request and what the model itself predicts for it.

    models.py FOLDER            all but mlflow2, and FOLDER/made.json
    models.py FOLDER mlflow2    the one that an MLflow 2.x saves
"""

import json
import sys
import warnings

warnings.filterwarnings("ignore")

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import ModelSignature, infer_signature
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression


class Upper(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input["s"].str.upper()


class Sum(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input.sum(axis=1).to_numpy() * (params or {}).get("factor", 1)


def main(where, only=None):
    frame, target = load_iris(return_X_y=True, as_frame=True)
    model = LogisticRegression(max_iter=1000).fit(frame, target)
    matrix = LogisticRegression(max_iter=1000).fit(frame.to_numpy(), target)
    signature = infer_signature(frame, model.predict_proba(frame))

    def save(name, fitted, signature=None):
        mlflow.sklearn.save_model(fitted, f"{where}/{name}", pyfunc_predict_fn="predict_proba", signature=signature)

    if only:
        save(only, model, signature)
        return
    save("columns", model, signature)
    save("unsigned", matrix)
    save("tensor", matrix, infer_signature(frame.to_numpy(), matrix.predict_proba(frame.to_numpy())))
    save("inputs_only", model, ModelSignature(inputs=signature.inputs))
    texts = pd.DataFrame({"s": ["a", "b"]})
    mlflow.pyfunc.save_model(f"{where}/text", python_model=Upper(), signature=infer_signature(texts, Upper().predict(None, texts)))
    mlflow.pyfunc.save_model(
        f"{where}/pyfunc", python_model=Sum(), signature=infer_signature(frame, np.zeros(3), params={"factor": 1.0})
    )

    def columns(rows):
        part = frame.iloc[[i % len(frame) for i in range(rows)]]
        return {"inputs": [{"name": c, "shape": [rows, 1], "datatype": "FP64", "data": part[c].tolist()} for c in part]}

    one = frame.iloc[[0]]
    tensor = {"parameters": {"content_type": "np"},
              "inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP64", "data": one.to_numpy().ravel().tolist()}]}
    strings = {"name": "s", "shape": [2, 1], "datatype": "BYTES", "data": ["a", "b"]}
    requests = {
        "columns": columns(1), "thousand": columns(1000), "unsigned": tensor, "tensor": tensor, "inputs_only": columns(1),
        "mlflow2": columns(1), "text": {"inputs": [strings]}, "pyfunc": columns(1) | {"parameters": {"factor": 2.0}},
    }
    proba = model.predict_proba(one).ravel().tolist()
    expected = {
        "columns": proba, "mlflow2": proba, "inputs_only": proba, "text": ["A", "B"],
        "tensor": matrix.predict_proba(one.to_numpy()).ravel().tolist(),
        "unsigned": matrix.predict_proba(one.to_numpy()).ravel().tolist(),
        "pyfunc": (one.sum(axis=1) * 2.0).tolist(),
    }
    with open(f"{where}/made.json", "w") as out:
        json.dump({"requests": requests, "expected": expected}, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
