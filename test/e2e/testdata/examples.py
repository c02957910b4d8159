"""The models that README and the tutorials name, in the registry at MLFLOW_TRACKING_URI: iris to version 4, wine to version 7."""

import mlflow
import pandas
from sklearn.linear_model import LinearRegression

x = pandas.DataFrame({"x": [0.0, 1.0, 2.0, 3.0]})
requirements = None
for name, versions, slope in (("iris", 3, 2.0), ("iris", 1, 3.0), ("wine", 7, 4.0)):
    # Found out once: for that, MLflow loads the model in a process of its own.
    model = mlflow.sklearn.log_model(
        LinearRegression().fit(x, slope * x["x"]), name=name, input_example=x.head(2), pip_requirements=requirements
    )
    requirements = requirements or mlflow.pyfunc.get_model_dependencies(model.model_uri)
    for _ in range(versions):
        mlflow.register_model(model.model_uri, name)
mlflow.MlflowClient().set_registered_model_alias("iris", "champion", "3")
