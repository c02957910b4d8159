"""A data scientist's script, as one has it before there is a cluster: it trains a model and registers it at MLFLOW_TRACKING_URI."""

import mlflow.sklearn
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

features, target = load_iris(return_X_y=True, as_frame=True)
model = LogisticRegression(max_iter=1000).fit(features, target)
mlflow.sklearn.log_model(model, name="iris", registered_model_name="iris", input_example=features.head(2))
