"""The target `knative` of MLflow's deployments: what it says is done by the program kubectl-mlflow."""

import json
import subprocess
import sys

from mlflow.deployments import BaseDeploymentClient, PredictionsResponse
from mlflow.exceptions import MlflowException

from kubectl_mlflow_deployments.program import run

FLAVOR = "python_function"
NAMESPACE = "default"  # not the kubeconfig context's: scripts of mlflow-knative's users count on it

# A dict with one of these is a request of MLflow's model server already.
REQUEST_KEYS = {"dataframe_split", "dataframe_records", "instances", "inputs", "messages", "prompt", "input"}


class KnativeDeploymentClient(BaseDeploymentClient):
    """Deploys to the Knative of the kubeconfig context in the target URI, knative:/CONTEXT; knative:/ is the current context."""

    def create_deployment(self, name, model_uri, flavor=None, config=None, endpoint=None):
        """Deploy a model under a name that is free."""
        return self._deploy("create", name, model_uri, flavor, config, endpoint)

    def update_deployment(self, name, model_uri=None, flavor=None, config=None, endpoint=None):
        """Give a deployment another model; without model_uri another configuration alone."""
        if model_uri is None:
            model_uri = self._find(name, _namespace(config))["model_uri"] or ""
        return self._deploy("update", name, model_uri, flavor, config, endpoint)

    def delete_deployment(self, name, config=None, endpoint=None):
        """Take a deployment down."""
        _no_endpoint(endpoint)
        self._run("delete", f"--name={name}", f"--namespace={_namespace(config)}")

    def list_deployments(self, endpoint=None):
        """The deployments of all namespaces, mlflow-knative's among them."""
        _no_endpoint(endpoint)
        return [_described(item) for item in json.loads(self._run("list", "--all-namespaces", "--output=json"))["items"]]

    def get_deployment(self, name, endpoint=None):
        """The one deployment of this name; MLflow has no way to say its namespace."""
        _no_endpoint(endpoint)
        return self._find(name)

    def predict(self, deployment_name=None, inputs=None, endpoint=None):
        """The answer of a deployment to a DataFrame, an array, a dict or list of them, or a request of MLflow's as dict or JSON."""
        _no_endpoint(endpoint)
        if not deployment_name:
            raise MlflowException.invalid_parameter_value("a deployment name is required")
        namespace = self._find(deployment_name)["namespace"]
        answer = self._run("predict", f"--name={deployment_name}", f"--namespace={namespace}", "--filename=-", body=_request(inputs))
        return PredictionsResponse(json.loads(answer))

    def _deploy(self, verb, name, model_uri, flavor, config, endpoint):
        _no_endpoint(endpoint)
        flavor = flavor or FLAVOR
        pairs = {**(config or {}), "namespace": _namespace(config)}
        url = self._run(
            verb, f"--name={name}", f"--model-uri={model_uri}", f"--flavor={flavor}", *(f"--config={key}={value}" for key, value in pairs.items())
        )
        return {"name": name, "flavor": flavor, "url": url.strip()}

    def _find(self, name, namespace=None):
        found = [d for d in self.list_deployments() if d["name"] == name and namespace in (None, d["namespace"])]
        if len(found) != 1:
            places = ", ".join(d["namespace"] for d in found) or "none"
            raise MlflowException.invalid_parameter_value(f"there must be one deployment '{name}', and there is one in the namespaces: {places}")
        return found[0]

    def _run(self, verb, *arguments, body=None):
        return run(["deployments", verb, f"--target={self.target_uri}", *arguments], body)


def run_local(name, model_uri, flavor=None, config=None):
    """Serve a model on this machine, as `mlflow models serve` in this environment, until it is interrupted."""
    config = config or {}
    if (flavor or FLAVOR) != FLAVOR:
        raise MlflowException.invalid_parameter_value(f"only the flavor '{FLAVOR}' is served")
    command = ["models", "serve", f"--model-uri={model_uri}", "--env-manager=local"]
    subprocess.run(
        [sys.executable, "-m", "mlflow", *command, f"--host={config.get('host', 'localhost')}", f"--port={config.get('port', 8080)}"], check=True
    )


def target_help():
    """What `mlflow deployments help` prints."""
    return """Knative, by the program kubectl-mlflow: the environment variable KUBECTL_MLFLOW names it, else it is found on PATH.

Target URI: knative:/CONTEXT, where CONTEXT is one of `kubectl config get-contexts`; knative:/ is the current one.

Config of create and update:
  image_repository   Repository that images go to. Default: $KUBECTL_MLFLOW_IMAGE_REPOSITORY, else the one that is in use
  image_tag          One more tag of the image. What is deployed is its digest
  namespace          Namespace of the deployment. Default: default
  service_template   File with a Knative Service that the deployment stands on: $name, $namespace and $image are filled in
Config of delete:
  namespace          as above
Config of run-local:
  host, port         Where to listen. Default: localhost, 8080

All else, as resources, scale, canaries and rollbacks: kubectl mlflow --help"""


def _namespace(config):
    return (config or {}).get("namespace") or NAMESPACE


def _no_endpoint(endpoint):
    if endpoint:
        raise MlflowException.invalid_parameter_value("the target knative has no endpoints: leave 'endpoint' out")


def _described(item):
    """A deployment with the keys that mlflow-knative gives it, and more."""
    described = {key: item.get(key) for key in ("name", "namespace", "url", "generation", "ready", "reason", "version", "traffic")}
    described.update(creation_timestamp=item.get("created"), run_id=item.get("runID"), model_uri=item.get("modelURI"))
    return described


def _request(inputs):
    if inputs is None:
        raise MlflowException.invalid_parameter_value("inputs are required")
    if isinstance(inputs, (str, bytes)):
        return inputs
    if hasattr(inputs, "to_json"):  # a DataFrame; the default precision would be ten digits
        return '{"dataframe_split": %s}' % inputs.to_json(orient="split", index=False, date_format="iso", double_precision=15)
    if not isinstance(inputs, dict) or not REQUEST_KEYS & inputs.keys():
        inputs = {"inputs": inputs}
    return json.dumps(inputs, default=lambda value: value.tolist())
