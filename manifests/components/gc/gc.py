"""Removes for good what was deleted in MLflow long ago: `mlflow gc`, which takes the database's URI as an argument only. Called from
here, nobody who lists processes sees the password in it.
"""

import os

from mlflow.cli import gc

gc(
    ["--backend-store-uri", os.environ["MLFLOW_BACKEND_STORE_URI"], "--older-than", os.environ["GC_OLDER_THAN"]],
    prog_name="mlflow gc",
)
