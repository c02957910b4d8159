//go:build real

package servingruntime_test

import (
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
import json, sys, warnings
warnings.filterwarnings("ignore")
import mlflow, numpy as np, pandas as pd
from mlflow.models import infer_signature
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
text = pd.DataFrame({"s": ["a", "b"], "n": [1, 2]})
mlflow.sklearn.save_model(columns, where + "/columns", pyfunc_predict_fn="predict_proba",
    signature=infer_signature(frame, columns.predict_proba(frame)))
mlflow.sklearn.save_model(matrix, where + "/tensor", pyfunc_predict_fn="predict_proba",
    signature=infer_signature(frame.to_numpy(), matrix.predict_proba(frame.to_numpy())))
mlflow.sklearn.save_model(matrix, where + "/unsigned")
mlflow.pyfunc.save_model(where + "/text", python_model=Text(),
    signature=infer_signature(text, Text().predict(None, text), params={"factor": 2}))
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
	python := os.Getenv("KUBECTL_MLFLOW_TEST_PYTHON")
	if python == "" {
		t.Skip("KUBECTL_MLFLOW_TEST_PYTHON names no interpreter with mlflow and scikit-learn")
	}
	work := t.TempDir()
	making := exec.CommandContext(t.Context(), python, "-c", makeModels, work)
	making.Dir = work
	if out, err := making.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
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
	launcher := unpackLauncher(t)
	matrix := tensor{"x", []int{3, 4}, "FP64", expected.Rows}

	t.Run("columns", func(t *testing.T) {
		url := start(t, python, launcher, filepath.Join(work, "columns"))
		var inputs []tensor
		for name, values := range expected.Columns {
			inputs = append(inputs, tensor{name, []int{3, 1}, "FP64", values})
		}
		for what, request := range map[string][]tensor{"one input per column": inputs, "one matrix": {matrix}} {
			got := infer(t, url, map[string]any{"id": "7", "inputs": request}, 200)
			if got.ID != "7" || got.ModelName != "iris" || got.ModelVersion != "3" || fmt.Sprint(got.Outputs[0].Shape) != "[3 3]" {
				t.Errorf("%s: %+v", what, got)
			}
			near(t, what, got.Outputs[0].Data, expected.Proba)
		}
		status, body := post(t, url+"/invocations", map[string]any{"instances": rowsOf(expected.Columns)})
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
		near(t, "/invocations", flat, expected.Proba)

		for path, want := range map[string]int{
			"/v2": 200, "/v2/health/live": 200, "/v2/health/ready": 200, "/v2/models/iris": 200, "/v2/models/iris/ready": 200,
			"/v2/models/iris/versions/3/ready": 200, "/v2/models/iris/versions/4/ready": 404, "/v2/models/rose/ready": 404,
			"/ping": 200, "/health": 200, "/version": 200,
		} {
			resp, err := http.Get(url + path)
			if err != nil {
				t.Fatal(err)
			}
			closing(t, resp.Body)
			if resp.StatusCode != want {
				t.Errorf("%s answers %d, want %d", path, resp.StatusCode, want)
			}
		}
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
		url := start(t, python, launcher, filepath.Join(work, "tensor"))
		got := infer(t, url, map[string]any{"inputs": []tensor{matrix}}, 200)
		near(t, "tensor", got.Outputs[0].Data, expected.Tensor)
	})
	t.Run("without a signature", func(t *testing.T) {
		url := start(t, python, launcher, filepath.Join(work, "unsigned"))
		got := infer(t, url, map[string]any{"inputs": []tensor{matrix}}, 200)
		if got.Outputs[0].Datatype != "INT64" {
			t.Errorf("%+v", got.Outputs)
		}
		near(t, "unsigned", got.Outputs[0].Data, expected.Unsigned)
	})
	t.Run("text and parameters", func(t *testing.T) {
		url := start(t, python, launcher, filepath.Join(work, "text"))
		got := infer(t, url, map[string]any{
			"parameters": map[string]any{"factor": 5},
			"inputs":     []tensor{{"s", []int{2}, "BYTES", []string{"a", "b"}}, {"n", []int{2}, "INT64", []int{1, 2}}},
		}, 200)
		if len(got.Outputs) != 2 || fmt.Sprint(got.Outputs[0].Data) != "[A B]" || got.Outputs[0].Datatype != "BYTES" ||
			fmt.Sprint(got.Outputs[1].Data) != "[5 10]" {
			t.Errorf("%+v", got.Outputs)
		}
	})
	t.Run("a model that cannot be loaded", func(t *testing.T) {
		cmd := exec.CommandContext(t.Context(), python, launcher, work)
		cmd.Env = append(os.Environ(), "PORT="+freePort(t))
		out, err := cmd.CombinedOutput()
		failed, ok := errors.AsType[*exec.ExitError](err)
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		if !ok || failed.ExitCode() != 1 || !strings.Contains(lines[len(lines)-1], "MLmodel") {
			t.Errorf("%v, last line %q", err, lines[len(lines)-1])
		}
	})
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

// start serves a model as "iris", version 3, until the test ends; then SIGTERM must end it with 0.
func start(t *testing.T, python, launcher, model string) string {
	t.Helper()
	port := freePort(t)
	cmd := exec.Command(python, launcher, model)
	cmd.Env = append(os.Environ(), "PORT="+port, "KUBECTL_MLFLOW_MODEL_NAME=iris", servingruntime.VersionVariable+"=3")
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Errorf("told to stop: %v\n%s", err, log.String())
		}
	})
	url := "http://127.0.0.1:" + port
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("ended before it was ready: %v\n%s", err, log.String())
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		case <-tick.C:
		}
		resp, err := http.Get(url + "/v2/models/iris/ready")
		if err != nil {
			continue
		}
		closing(t, resp.Body)
		if resp.StatusCode == http.StatusOK {
			t.Logf("ready after %.1f s", time.Since(began).Seconds())
			return url
		}
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
