import datetime
import json
import signal
import subprocess
import sys
import threading

import mlflow
import numpy
import pandas
import pytest
from click.testing import CliRunner
from conftest import listed
from mlflow.deployments import PredictionsResponse, cli, get_deploy_client
from mlflow.exceptions import MlflowException

TARGET = "knative:/my-cluster"


@pytest.fixture
def client(program):
    return get_deploy_client(TARGET)


def mlflow_deployments(*words):
    """What `mlflow deployments` prints; it has to succeed."""
    result = CliRunner().invoke(cli.commands, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_lines_of_mlflow_knatives_readme(program):
    said = mlflow_deployments(
        *("create", "--target", TARGET, "--name", "iris", "--model-uri", "models:/iris/1"),
        *("--config", "image_repository=registry.example.com/iris", "--config", "image_tag=v1"),
    )
    assert program.call["argv"] == [
        *("deployments", "create", "--target=knative:/my-cluster", "--name=iris", "--model-uri=models:/iris/1", "--flavor=python_function"),
        *("--config=image_repository=registry.example.com/iris", "--config=image_tag=v1", "--config=namespace=default"),
    ]
    assert said == "\npython_function deployment iris is created\n"


def test_config_is_passed_on(client, program):
    config = {"image_repository": "r/iris", "image_tag": "v1", "namespace": "ml", "service_template": "a b;$(c).yaml"}
    made = client.create_deployment("iris", "models:/iris/1", config=config)
    assert [word for word in program.call["argv"] if word.startswith("--config=")] == [f"--config={key}={value}" for key, value in config.items()]
    assert made == {"name": "iris", "flavor": "python_function", "url": "http://iris.default.example.com"}


def test_the_flavor_is_the_programs_to_judge(client, program):
    client.create_deployment("iris", "models:/iris/1", flavor="onnx")
    assert "--flavor=onnx" in program.call["argv"]


def test_update(program):
    said = mlflow_deployments("update", "-t", TARGET, "--name", "iris", "-m", "models:/iris/2", "-C", "namespace=ml")
    assert program.call["argv"] == [
        *("deployments", "update", "--target=knative:/my-cluster", "--name=iris", "--model-uri=models:/iris/2", "--flavor=python_function"),
        "--config=namespace=ml",
    ]
    assert said == "Deployment iris is updated (with flavor python_function)\n"


def test_update_of_the_configuration_alone_keeps_the_model(client, program):
    program.lists(listed(), listed(namespace="ml", modelURI="models:/iris/7"))
    client.update_deployment("iris", config={"namespace": "ml"})
    assert "--model-uri=models:/iris/7" in program.call["argv"]


def test_delete(program):
    assert mlflow_deployments("delete", "-t", TARGET, "--name", "iris") == "Deployment iris is deleted\n"
    assert program.call["argv"] == ["deployments", "delete", "--target=knative:/my-cluster", "--name=iris", "--namespace=default"]
    mlflow_deployments("delete", "-t", TARGET, "--name", "iris", "-C", "namespace=ml")
    assert program.call["argv"][-1] == "--namespace=ml"


def test_list_is_of_all_namespaces_and_has_mlflow_knatives_keys(client, program):
    peers = {"namespace": "ml", "name": "wine", "ready": False, "reason": "no URL yet", "generation": 1}
    program.lists(listed(), peers)
    first, second = client.list_deployments()
    assert program.call["argv"] == ["deployments", "list", "--target=knative:/my-cluster", "--all-namespaces", "--output=json"]
    known = {"name": "iris", "namespace": "default", "url": "http://iris.default.example.com", "generation": 2, "run_id": "run1"}
    assert {**first, **known, "creation_timestamp": "2026-01-02T03:04:05Z", "model_uri": "models:/iris/1"} == first
    assert second["name"] == "wine" and second["url"] is None and second["run_id"] is None
    assert "'name': 'wine'" in mlflow_deployments("list", "-t", TARGET)


def test_get(program):
    program.lists(listed(), listed("wine"))
    assert "run_id: run1\n" in mlflow_deployments("get", "-t", TARGET, "--name", "iris")


@pytest.mark.parametrize("namespaces, says", [([], "none"), (["a", "b"], "a, b")])
def test_get_wants_one(client, program, namespaces, says):
    program.lists(*(listed(namespace=namespace) for namespace in namespaces))
    with pytest.raises(MlflowException, match=f"'iris'.*: {says}$"):
        client.get_deployment("iris")


@pytest.mark.parametrize(
    "inputs, body",
    [
        (pandas.DataFrame({"x": [1.5, None], "s": ["a", "b"]}, index=[7, 9]), {"dataframe_split": {"columns": ["x", "s"], "data": [[1.5, "a"], [None, "b"]]}}),
        (pandas.DataFrame({"x": [0.123456789012345]}), {"dataframe_split": {"columns": ["x"], "data": [[0.123456789012345]]}}),
        (pandas.DataFrame({"t": [datetime.datetime(2026, 1, 2)]}), {"dataframe_split": {"columns": ["t"], "data": [["2026-01-02T00:00:00.000"]]}}),
        (numpy.array([[1, 2]]), {"inputs": [[1, 2]]}),
        ({"x": numpy.array([1.5]), "n": numpy.int64(3)}, {"inputs": {"x": [1.5], "n": 3}}),
        ([[1, 2]], {"inputs": [[1, 2]]}),
        ({"dataframe_records": [{"x": 1}], "params": {"k": 2}}, {"dataframe_records": [{"x": 1}], "params": {"k": 2}}),
        ({"messages": [{"role": "user", "content": "Hi"}]}, {"messages": [{"role": "user", "content": "Hi"}]}),
        ('{"inputs": [1]}', {"inputs": [1]}),
    ],
)
def test_inputs_are_sent_as_mlflow_scores_them(client, program, inputs, body):
    program.lists(listed(namespace="ml"))
    answer = client.predict("iris", inputs)
    assert json.loads(program.call["stdin"]) == body
    assert program.call["argv"] == ["deployments", "predict", "--target=knative:/my-cluster", "--name=iris", "--namespace=ml", "--filename=-"]
    assert isinstance(answer, PredictionsResponse) and answer.get_predictions("ndarray").tolist() == [1, 2]


def test_predict_of_the_command_line(program, tmp_path):
    program.lists(listed())
    (tmp_path / "in.json").write_text('{"x": [1, 2]}')
    said = mlflow_deployments("predict", "-t", TARGET, "--name", "iris", "-I", str(tmp_path / "in.json"))
    assert json.loads(said) == {"predictions": [1, 2]}
    assert json.loads(program.call["stdin"]) == {"dataframe_split": {"columns": ["x"], "data": [[1], [2]]}}


def test_an_answer_that_is_no_prediction_is_given_as_it_is(client, program):
    program.lists(listed())
    program.answers("predict", '{"choices": []}')
    assert client.predict("iris", {"messages": []}) == {"choices": []}


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.predict(inputs=[1]),
        lambda client: client.predict("iris"),
        lambda client: client.create_deployment("iris", "models:/iris/1", endpoint="e"),
        lambda client: client.list_deployments(endpoint="e"),
    ],
)
def test_bad_input_is_an_exception_of_mlflows(client, program, call):
    program.lists(listed())
    with pytest.raises(MlflowException, match="required|endpoint"):
        call(client)
    assert all("predict" not in made["argv"] and "create" not in made["argv"] for made in program.calls)


def test_a_failure_says_what_the_program_says_and_talk_is_passed_on(client, program, capfd):
    program.answers("create", "", "Building the environment\nerror: models:/iris/9: there is no version 9\nhint: the newest is 3\n", 2)
    with pytest.raises(MlflowException) as failure:
        client.create_deployment("iris", "models:/iris/9")
    assert str(failure.value) == "error: models:/iris/9: there is no version 9\nhint: the newest is 3"
    assert capfd.readouterr().err == "Building the environment\n"


def test_a_failure_without_words(client, program):
    program.answers("create", code=130)
    with pytest.raises(MlflowException, match="exit code 130"):
        client.create_deployment("iris", "models:/iris/9")


@pytest.mark.parametrize("uri, child", [("https://mlflow.example.com", "https://mlflow.example.com"), ("sqlite:///x", None)])
def test_the_tracking_server_is_mlflows(client, program, monkeypatch, uri, child):
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: uri)
    client.create_deployment("iris", "models:/iris/1")
    assert program.call["tracking"] == child


def test_the_program_is_found_on_path(client, program, monkeypatch, tmp_path, path_of):
    monkeypatch.delenv("KUBECTL_MLFLOW")
    path_of(tmp_path / "empty")
    with pytest.raises(MlflowException, match="KUBECTL_MLFLOW"):
        client.list_deployments()
    path_of(tmp_path)
    program.install("kubectl")
    client.list_deployments()
    assert program.call["argv"][:2] == ["mlflow", "deployments"]
    program.install("kubectl-mlflow")
    client.list_deployments()
    assert program.call["argv"][0] == "deployments"


@pytest.fixture
def heeds_interrupts():
    """What a shell runs in the background ignores them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_ends_the_program_in_order(client, program, tmp_path, monkeypatch, heeds_interrupts):
    script = tmp_path / "slow"
    script.write_text(f"#!/bin/sh\ntrap 'echo ended >{tmp_path}/ended; exit 130' TERM\necho waiting >&2\nfor i in $(seq 300); do sleep 0.1; done\n")
    script.chmod(0o755)
    monkeypatch.setenv("KUBECTL_MLFLOW", str(script))

    class Interrupting:
        def write(self, text):
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(sys, "stderr", Interrupting())
    with pytest.raises(KeyboardInterrupt):
        client.list_deployments()
    assert (tmp_path / "ended").read_text() == "ended\n"


def test_more_than_a_pipe_holds_comes_through(client, program):
    program.lists(listed())
    program.answers("predict", json.dumps({"predictions": ["y" * (1 << 20)]}), "talk\n" * (1 << 17))
    answers = []
    asking = threading.Thread(target=lambda: answers.append(client.predict("iris", ["x" * (1 << 20)])), daemon=True)
    asking.start()
    asking.join(60)
    assert len(answers[0]["predictions"][0]) == 1 << 20


def test_run_local_serves_with_this_environments_mlflow(program, monkeypatch):
    ran = []
    monkeypatch.setattr(subprocess, "run", lambda command, check: ran.append(command))
    mlflow_deployments("run-local", "-t", "knative", "--name", "iris", "-m", "models:/iris/1", "-C", "port=5001")
    assert ran == [[sys.executable, "-m", "mlflow", "models", "serve", "--model-uri=models:/iris/1", "--env-manager=local", "--host=localhost", "--port=5001"]]


def test_help_names_all_of_mlflow_knatives_config():
    said = mlflow_deployments("help", "-t", "knative")
    assert all(word in said for word in ["knative:/CONTEXT", "image_repository", "image_tag", "namespace", "service_template", "KUBECTL_MLFLOW"])
