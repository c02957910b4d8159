"""The plugin mlflow-knative at work: peer.py VERB NAMESPACE [NAME [MODEL IMAGE]]. Standard output is what the verb returns, as JSON, or its failure.

Docker is not at work: IMAGE stands for what it would have built and pushed."""
import json
import sys

from mlflow.deployments import get_deploy_client
from mlflow.exceptions import MlflowException
from mlflow_knative import deployment_client

verb, namespace, *words = sys.argv[1:]
config = {"namespace": namespace}
if len(words) == 3:
    image = words.pop()
    config["image_repository"], config["image_tag"] = image.rsplit(":", 1)
    deployment_client.get_model_as_image = lambda *_, **__: image
client = get_deploy_client("knative:/")
arguments = {} if verb in ("list_deployments", "get_deployment") else {"config": config}
try:
    print(json.dumps({"returned": getattr(client, verb)(*words, **arguments)}))
except MlflowException as e:
    print(json.dumps({"failed": str(e)}))
