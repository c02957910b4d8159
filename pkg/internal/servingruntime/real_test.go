//go:build real

package servingruntime_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/servingruntime"
)

// makeModels logs models of the kinds that differ for the server, and what each predicts itself.
const makeModels = `
import json, sys, time, uuid, warnings
warnings.filterwarnings("ignore")
import mlflow, numpy as np, pandas as pd
from mlflow.models import ModelSignature, infer_signature
from mlflow.types import ColSpec, Schema
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
where = sys.argv[1]
frame, target = load_iris(return_X_y=True, as_frame=True)
rows = frame.iloc[[0, 60, 120]]
columns = LogisticRegression(max_iter=1000).fit(frame, target)
matrix = LogisticRegression(max_iter=1000).fit(frame.to_numpy(), target)
class Text(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        factor = (params or {}).get("factor", 2)
        return pd.DataFrame({"upper": model_input["s"].str.upper(), "times": model_input["n"] * factor})
class Echo(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        if params["begun"]:
            open(params["begun"] + "/" + uuid.uuid4().hex, "w").close()
        time.sleep(params["seconds"])
        if params["fails"]:
            raise RuntimeError("the model is broken")
        return model_input
text = pd.DataFrame({"s": ["a", "b"], "n": [1, 2]})
mlflow.sklearn.save_model(columns, where + "/columns", pyfunc_predict_fn="predict_proba",
    signature=infer_signature(frame, columns.predict_proba(frame)))
mlflow.sklearn.save_model(matrix, where + "/tensor", pyfunc_predict_fn="predict_proba",
    signature=infer_signature(frame.to_numpy(), matrix.predict_proba(frame.to_numpy())))
mlflow.sklearn.save_model(matrix, where + "/unsigned")
mlflow.pyfunc.save_model(where + "/text", python_model=Text(),
    signature=infer_signature(text, Text().predict(None, text), params={"factor": 2}))
types = ["boolean", "integer", "long", "float", "double", "string", "datetime", "binary"]
mlflow.pyfunc.save_model(where + "/echo", python_model=Echo(), signature=ModelSignature(
    inputs=Schema([ColSpec(t, t) for t in types] + [ColSpec("double", "optional", required=False)]),
    outputs=Schema([ColSpec(t, t) for t in types]), params=infer_signature(text, params={"seconds": 0.0, "fails": False, "begun": ""}).params))
json.dump({
    "rows": rows.to_numpy().tolist(),
    "columns": {c: rows[c].tolist() for c in rows},
    "proba": columns.predict_proba(rows).ravel().tolist(),
    "tensor": matrix.predict_proba(rows.to_numpy()).ravel().tolist(),
    "unsigned": matrix.predict(rows.to_numpy()).tolist(),
}, open(where + "/expected.json", "w"))
`

type tensor struct {
	Name     string `json:"name"`
	Shape    []int  `json:"shape"`
	Datatype string `json:"datatype"`
	Data     any    `json:"data"`
}

// TestTheLauncherAnswersAsTheModelDoes serves models with a real MLflow and holds what it answers against the models' own
// predictions. KUBECTL_MLFLOW_TEST_PYTHON is an interpreter with mlflow and scikit-learn.
func TestTheLauncherAnswersAsTheModelDoes(t *testing.T) {
	python := interpreter(t, "KUBECTL_MLFLOW_TEST_PYTHON", "mlflow and scikit-learn")
	work := saved(t, python)
	var expected struct {
		Rows                    [][]float64
		Columns                 map[string][]float64
		Proba, Tensor, Unsigned []float64
	}
	content, err := os.ReadFile(filepath.Join(work, "expected.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(content, &expected); err != nil {
		t.Fatal(err)
	}
	launcher := command{python, unpackLauncher(t), servingruntime.MLflow}
	matrix := tensor{"x", []int{3, 4}, "FP64", expected.Rows}

	t.Run("columns", func(t *testing.T) {
		url := start(t, launcher, filepath.Join(work, "columns")).url
		inputs := inputsOf(expected.Columns)
		for what, request := range map[string][]tensor{"one input per column": inputs, "one matrix": {matrix}} {
			got := infer(t, url, map[string]any{"id": "7", "inputs": request}, 200)
			if got.ID != "7" || got.ModelName != "iris" || got.ModelVersion != "3" || fmt.Sprint(got.Outputs[0].Shape) != "[3 3]" {
				t.Errorf("%s: %+v", what, got)
			}
			near(t, what, got.Outputs[0].Data, expected.Proba)
		}
		invocations(t, url, expected.Columns, expected.Proba)
		statuses(t, url, map[string]int{
			"/v2": 200, "/v2/health/live": 200, "/v2/health/ready": 200, "/v2/models/iris": 200, "/v2/models/iris/ready": 200,
			"/v2/models/iris/versions/3/ready": 200, "/v2/models/iris/versions/4/ready": 404, "/v2/models/rose/ready": 404,
			"/v2/repository/index": 404, "/ping": 200, "/health": 200, "/version": 200,
		})
		for what, request := range map[string]any{
			"not an object":   []int{1},
			"no inputs":       map[string]any{"inputs": []tensor{}},
			"a missing input": map[string]any{"inputs": inputs[:3]},
			"another type":    map[string]any{"inputs": []tensor{{"x", []int{3, 4}, "FP65", expected.Rows}}},
			"another shape":   map[string]any{"inputs": []tensor{{"x", []int{4, 4}, "FP64", expected.Rows}}},
			"text as numbers": map[string]any{"inputs": []tensor{{"x", []int{1, 4}, "FP64", []string{"a", "b", "c", "d"}}}},
			"unknown output":  map[string]any{"inputs": []tensor{matrix}, "outputs": []map[string]string{{"name": "nothing"}}},
		} {
			if got := infer(t, url, request, 400); got.Error == "" {
				t.Errorf("%s: no error in the answer", what)
			}
		}
	})
	t.Run("tensor", func(t *testing.T) {
		url := start(t, launcher, filepath.Join(work, "tensor")).url
		got := infer(t, url, map[string]any{"inputs": []tensor{matrix}}, 200)
		near(t, "tensor", got.Outputs[0].Data, expected.Tensor)
	})
	t.Run("without a signature", func(t *testing.T) {
		url := start(t, launcher, filepath.Join(work, "unsigned")).url
		got := infer(t, url, map[string]any{"inputs": []tensor{matrix}}, 200)
		if got.Outputs[0].Datatype != "INT64" {
			t.Errorf("%+v", got.Outputs)
		}
		near(t, "unsigned", got.Outputs[0].Data, expected.Unsigned)
	})
	t.Run("text and parameters", func(t *testing.T) {
		url := start(t, launcher, filepath.Join(work, "text")).url
		got := infer(t, url, map[string]any{
			"parameters": map[string]any{"factor": 5},
			"inputs":     []tensor{{"s", []int{2}, "BYTES", []string{"a", "b"}}, {"n", []int{2}, "INT64", []int{1, 2}}},
		}, 200)
		if len(got.Outputs) != 2 || fmt.Sprint(got.Outputs[0].Data) != "[A B]" || got.Outputs[0].Datatype != "BYTES" ||
			fmt.Sprint(got.Outputs[1].Data) != "[5 10]" {
			t.Errorf("%+v", got.Outputs)
		}
	})
	t.Run("a model that cannot be loaded", func(t *testing.T) { endsWithTheTraceback(t, launcher, work) })
	t.Run("an environment that does not fit", func(t *testing.T) { saysWhatDoesNotFit(t, launcher, filepath.Join(work, "columns")) })
	t.Run("a prediction that takes too long", func(t *testing.T) {
		t.Setenv("MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT", "1")
		endsInTime(t, start(t, launcher, filepath.Join(work, "echo")).url)
		limitIsOurs(t, launcher)
	})
	t.Run("every datatype", func(t *testing.T) { everyDatatype(t, start(t, launcher, filepath.Join(work, "echo")).url) })
	t.Run("bad requests", func(t *testing.T) { badRequests(t, start(t, launcher, filepath.Join(work, "echo")).url) })
	t.Run("an idle connection", func(t *testing.T) { keepsConnections(t, start(t, launcher, filepath.Join(work, "echo")).url) })
	t.Run("told to stop", func(t *testing.T) { answersBeforeItEnds(t, start(t, launcher, filepath.Join(work, "echo"))) })
	t.Run("memory", func(t *testing.T) {
		doesNotGrow(t, start(t, launcher, filepath.Join(work, "columns")), inputsOf(expected.Columns))
	})
	t.Run("clients", func(t *testing.T) { realClients(t, start(t, launcher, filepath.Join(work, "columns")).url) })
}

// TestMLServerAnswersAsTheModelDoes is the same of the other model server. KUBECTL_MLFLOW_TEST_MLSERVER_PYTHON is an interpreter that
// has mlserver and mlserver-mlflow, too.
func TestMLServerAnswersAsTheModelDoes(t *testing.T) {
	python := interpreter(t, "KUBECTL_MLFLOW_TEST_MLSERVER_PYTHON", "mlflow, scikit-learn, mlserver and mlserver-mlflow")
	work := saved(t, python)
	var expected struct {
		Columns map[string][]float64
		Proba   []float64
	}
	content, err := os.ReadFile(filepath.Join(work, "expected.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(content, &expected); err != nil {
		t.Fatal(err)
	}
	launcher := command{python, unpackLauncher(t), servingruntime.MLServer}
	server := start(t, launcher, filepath.Join(work, "columns"))
	inputs := inputsOf(expected.Columns)
	got := infer(t, server.url, map[string]any{"id": "7", "inputs": inputs}, 200)
	if got.ID != "7" || got.ModelName != "iris" || got.ModelVersion != "3" || fmt.Sprint(got.Outputs[0].Shape) != "[3 3]" {
		t.Errorf("%+v", got)
	}
	near(t, "V2", got.Outputs[0].Data, expected.Proba)
	invocations(t, server.url, expected.Columns, expected.Proba)
	statuses(t, server.url, map[string]int{
		"/v2": 200, "/v2/health/ready": 200, "/v2/models/iris/ready": 200, "/v2/models/iris/versions/3/ready": 200,
		"/v2/models/rose/ready": 404, "/ping": 200, "/metrics": 404,
	})
	for _, path := range []string{"/v2/repository/index", "/v2/repository/models/iris/unload", "/v2/repository/models/iris/load"} {
		if status, body := post(t, server.url+path, map[string]any{}); status != http.StatusNotFound {
			t.Errorf("%s answers %d: %s", path, status, body)
		}
	}
	if got := infer(t, server.url, map[string]any{"inputs": inputs[:3]}, 400); !strings.Contains(got.Error, "missing inputs") {
		t.Errorf("a missing input: %+v", got)
	}
	infer(t, server.url, map[string]any{"inputs": inputs}, 200)
	t.Run("a model that cannot be loaded", func(t *testing.T) { endsWithTheTraceback(t, launcher, work) })
}

// interpreter is the one that an environment variable names.
func interpreter(t *testing.T, variable, packages string) string {
	t.Helper()
	python := os.Getenv(variable)
	if python == "" {
		t.Skip(variable + " names no interpreter with " + packages)
	}
	return python
}

// saved is a folder with all models.
func saved(t *testing.T, python string) string {
	t.Helper()
	work := t.TempDir()
	making := exec.CommandContext(t.Context(), python, "-c", makeModels, work)
	making.Dir = work
	if out, err := making.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return work
}

func inputsOf(columns map[string][]float64) []tensor {
	var inputs []tensor
	for name, values := range columns {
		inputs = append(inputs, tensor{name, []int{len(values), 1}, "FP64", values})
	}
	return inputs
}

func invocations(t *testing.T, url string, columns map[string][]float64, want []float64) {
	t.Helper()
	status, body := post(t, url+"/invocations", map[string]any{"instances": rowsOf(columns)})
	var answer struct{ Predictions [][]float64 }
	if err := json.Unmarshal(body, &answer); status != 200 || err != nil {
		t.Fatalf("%d %s", status, body)
	}
	var flat []any
	for _, row := range answer.Predictions {
		for _, v := range row {
			flat = append(flat, v)
		}
	}
	near(t, "/invocations", flat, want)
}

func statuses(t *testing.T, url string, want map[string]int) {
	t.Helper()
	for path, status := range want {
		resp, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		closing(t, resp.Body)
		if resp.StatusCode != status {
			t.Errorf("%s answers %d, want %d", path, resp.StatusCode, status)
		}
	}
}

func closing(t *testing.T, c io.Closer) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func unpackLauncher(t *testing.T) string {
	t.Helper()
	files, err := servingruntime.Launcher()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "launcher")
	if err := os.CopyFS(dir, files); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "launcher.py")
}

// command is what a server is started with.
type command struct{ python, launcher, server string }

func (c command) on(model, port string) *exec.Cmd {
	cmd := exec.Command(c.python, c.launcher, "--server", c.server, model)
	cmd.Env = append(os.Environ(), "PORT="+port, "KUBECTL_MLFLOW_MODEL_NAME=iris", servingruntime.VersionVariable+"=3")
	return cmd
}

// server is one that runs.
type server struct {
	url     string
	process *os.Process
	ended   chan error // its end, which stays there to be read
}

// start serves a model as "iris", version 3, until the test ends; then SIGTERM must end it with 0.
func start(t *testing.T, c command, model string) server {
	t.Helper()
	port := freePort(t)
	cmd := c.on(model, port)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := server{"http://127.0.0.1:" + port, cmd.Process, make(chan error, 1)}
	go func() { s.ended <- cmd.Wait() }()
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
		if err := <-s.ended; err != nil {
			t.Errorf("told to stop: %v\n%s", err, log.String())
		}
	})
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-s.ended:
			s.ended <- err
			t.Fatalf("ended before it was ready: %v\n%s", err, log.String())
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		case <-tick.C:
		}
		resp, err := http.Get(s.url + "/v2/models/iris/ready")
		if err != nil {
			continue
		}
		closing(t, resp.Body)
		if resp.StatusCode == http.StatusOK {
			t.Logf("ready after %.1f s", time.Since(began).Seconds())
			return s
		}
	}
}

func endsWithTheTraceback(t *testing.T, c command, model string) {
	out, err := c.on(model, freePort(t)).CombinedOutput()
	failed, ok := errors.AsType[*exec.ExitError](err)
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if !ok || failed.ExitCode() != 1 || !strings.Contains(lines[len(lines)-1], "MLmodel") {
		t.Errorf("%v, last line %q", err, lines[len(lines)-1])
	}
}

// saysWhatDoesNotFit breaks a model that was made with another NumPy.
func saysWhatDoesNotFit(t *testing.T, c command, model string) {
	broken := filepath.Join(t.TempDir(), "broken")
	if err := os.CopyFS(broken, os.DirFS(model)); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(broken, "model.*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("the model is in %v, %v", files, err)
	}
	for file, text := range map[string]string{files[0]: "no model", filepath.Join(broken, "requirements.txt"): "# of old\nnumpy==1.0.0\n"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := c.on(broken, freePort(t)).CombinedOutput()
	before, traceback, _ := strings.Cut(string(out), "Traceback")
	if err == nil || !strings.Contains(before, "numpy (current:") || traceback == "" {
		t.Errorf("%v:\n%s", err, out)
	}
}

// endsInTime has a limit of a second, which ends the waiting alone, not the server.
func endsInTime(t *testing.T, url string) {
	began := time.Now()
	code, text := post(t, url+"/v2/models/iris/infer", map[string]any{"inputs": columnsOfAll(), "parameters": map[string]any{"seconds": 5}})
	if took := time.Since(began); code != http.StatusGatewayTimeout || !strings.Contains(string(text), "exceeded limit") || took > 4*time.Second {
		t.Errorf("%d %s after %s", code, text, took)
	}
	infer(t, url, map[string]any{"inputs": columnsOfAll()}, http.StatusOK)
}

// keepsConnections wants a connection to outlive uvicorn's own five seconds: whoever pools it, as Knative's queue-proxy does, may send a
// request in the moment in which the server closes it, and loses that.
func keepsConnections(t *testing.T, url string) {
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer closing(t, conn)
	answers := bufio.NewReader(conn)
	ask := func() {
		if _, err := io.WriteString(conn, "GET /ping HTTP/1.1\r\nHost: iris\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer closing(t, resp.Body)
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%d, %v", resp.StatusCode, err)
		}
	}
	ask()
	if err := conn.SetReadDeadline(time.Now().Add(7 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := answers.Peek(1); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the idle connection: %v", err)
	}
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	ask()
}

// limitIsOurs tells when MLflow's own limit is another one than the one that is replaced.
func limitIsOurs(t *testing.T, c command) {
	cmd := exec.Command(c.python, "-c", `import launcher
class Nothing:
    from mlflow.models import Model
    metadata = Model()
print([m.cls.__name__ for m in launcher.make_app(Nothing()).user_middleware])`)
	cmd.Dir = filepath.Dir(c.launcher)
	out, err := cmd.Output()
	if text := strings.TrimSpace(string(out)); err != nil || text != "['TimeLimit']" {
		t.Errorf("the middleware is %s, %v", text, err)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer closing(t, l)
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

type answer struct {
	ModelName    string `json:"model_name"`
	ModelVersion string `json:"model_version"`
	ID           string `json:"id"`
	Error        string `json:"error"`
	Outputs      []struct {
		Name, Datatype string
		Shape          []int
		Data           []any
	} `json:"outputs"`
}

func infer(t *testing.T, url string, request any, want int) answer {
	t.Helper()
	status, body := post(t, url+"/v2/models/iris/infer", request)
	var a answer
	if err := json.Unmarshal(body, &a); err != nil || status != want {
		t.Fatalf("answered %d, want %d: %s", status, want, body)
	}
	return a
}

func post(t *testing.T, url string, request any) (int, []byte) {
	t.Helper()
	body, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(url, "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer closing(t, resp.Body)
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, answer
}

func rowsOf(columns map[string][]float64) []map[string]float64 {
	rows := make([]map[string]float64, 3)
	for name, values := range columns {
		for i, v := range values {
			if rows[i] == nil {
				rows[i] = map[string]float64{}
			}
			rows[i][name] = v
		}
	}
	return rows
}

func near(t *testing.T, what string, got []any, want []float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d numbers, want %d", what, len(got), len(want))
	}
	for i, v := range got {
		if f, ok := v.(float64); !ok || f-want[i] > 1e-9 || want[i]-f > 1e-9 {
			t.Errorf("%s: number %d is %v, the model's own is %v", what, i, v, want[i])
		}
	}
}
