"""What users of mlflow-knative do, by its README, with the plugin of this repository: deployments.py TARGET NAMESPACE REPOSITORY.

The models are those of with-mlflow.py."""
import json
import os
import subprocess
import sys
import tempfile

import pandas
from mlflow.deployments import get_deploy_client
from mlflow.exceptions import MlflowException

target, namespace, repository = sys.argv[1:]
os.environ["MLFLOW_TRACKING_URI"] = os.environ["KUBECTL_MLFLOW_TEST_TRACKING_URI"]
columns = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]
flower = pandas.DataFrame([[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]], columns=columns)


def mlflow(*words):
    done = subprocess.run([sys.executable, "-m", "mlflow", "deployments", *words], stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0, (words, done)
    print(f"$ mlflow deployments {' '.join(words)}\n{done.stdout}", flush=True)
    return done.stdout


assert "image_repository" in mlflow("help", "--target", "knative")
said = mlflow(
    "create", "--target", target, "--name", "python", "--model-uri", "models:/iris/1",
    "--config", f"image_repository={repository}", "--config", "image_tag=v1", "--config", f"namespace={namespace}",
)
assert said == "\npython_function deployment python is created\n", said
with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
    flower.to_json(file)
    file.flush()
    first = json.loads(mlflow("predict", "--target", target, "--name", "python", "--input-path", file.name))["predictions"]
assert "model_uri: models:/iris/1\n" in mlflow("get", "--target", target, "--name", "python")

client = get_deploy_client(target)
assert client.predict("python", flower)["predictions"] == first and len(first) == 2, first
made = client.get_deployment("python")
try:
    client.create_deployment("python", "models:/iris/1", config={"namespace": namespace})
except MlflowException as e:
    assert "models:/iris/1" in str(e) and "hint:" in str(e), e
else:
    raise AssertionError("a name was taken twice")
assert client.update_deployment("python", "models:/iris/2", config={"namespace": namespace})["name"] == "python"
listed = {d["name"]: d for d in client.list_deployments() if d["namespace"] == namespace}
updated = listed["python"]
assert updated["model_uri"] == "models:/iris/2" and updated["generation"] > made["generation"] and updated["run_id"] and updated["url"], updated
assert len(client.predict("python", flower).get_predictions()) == 2
# mlflow-knative's own is among them, and its users may delete it here.
assert "left" in listed, listed
for name in ("left", "python"):
    client.delete_deployment(name, config={"namespace": namespace})
assert not {"left", "python"} & {d["name"] for d in client.list_deployments() if d["namespace"] == namespace}
