package predict

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/deployments"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

func flags(f Flags) *Flags {
	f.Via, f.Timeout = deployments.ViaGateway, time.Minute
	return &f
}

func TestTheRequestComesFromAFileStandardInputOrAFlag(t *testing.T) {
	folder := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, c := range map[string]struct {
		flags             *Flags
		body, contentType string
	}{
		"flag":           {flags(Flags{Input: `{"a":1}`}), `{"a":1}`, "application/json"},
		"file":           {flags(Flags{File: file("a.json", `{"a":2}`)}), `{"a":2}`, "application/json"},
		"CSV":            {flags(Flags{File: file("a.csv", "a,b\n1,2\n")}), "a,b\n1,2\n", "text/csv"},
		"standard input": {flags(Flags{File: "-"}), `{"a":3}`, "application/json"},
	} {
		o, err := c.flags.ToOptions("iris", strings.NewReader(`{"a":3}`), os.Getenv)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if string(o.Prediction.Body) != c.body || o.Prediction.ContentType != c.contentType || o.Prediction.Name != "iris" {
			t.Errorf("%s: %+v", name, o.Prediction)
		}
	}
}

func TestWhatIsNoRequestIsInvalid(t *testing.T) {
	for name, f := range map[string]*Flags{
		"nothing":     flags(Flags{}),
		"both":        flags(Flags{File: "-", Input: "{}"}),
		"an example":  flags(Flags{Example: true, Input: "{}"}),
		"not JSON":    flags(Flags{Input: "inputs: [1]"}),
		"no file":     flags(Flags{File: filepath.Join(t.TempDir(), "missing")}),
		"unknown way": {Input: "{}", Via: "pigeon", Timeout: time.Minute},
		"no time":     {Input: "{}", Via: deployments.ViaURL},
	} {
		if _, err := f.ToOptions("iris", strings.NewReader("{}"), os.Getenv); failure.ClassOf(err) != failure.Invalid {
			t.Errorf("%s: %v, want failure.Invalid", name, err)
		}
	}
}

type predictor func(ctx context.Context, p deployments.Prediction) ([]byte, error)

func (f predictor) Predict(ctx context.Context, p deployments.Prediction) ([]byte, error) {
	return f(ctx, p)
}

func (predictor) Example(_ context.Context, r deployments.Request) ([]byte, error) {
	if r.Name != "iris" || r.TrackingURI != "https://mlflow.example.com" {
		return nil, fmt.Errorf("asked for the example of %+v", r)
	}
	return []byte(`{"inputs": [1]}`), nil
}

func TestTheModelsOwnExampleIsSent(t *testing.T) {
	f := NewFlags()
	f.Example = true
	o, err := f.ToOptions("iris", strings.NewReader(""), func(name string) string {
		return map[string]string{"MLFLOW_TRACKING_URI": "https://mlflow.example.com"}[name]
	})
	if err != nil {
		t.Fatal(err)
	}
	o.Out = io.Discard
	sent := ""
	o.Client = predictor(func(_ context.Context, p deployments.Prediction) ([]byte, error) {
		sent = p.Name + " " + string(p.Body)
		return []byte("{}"), nil
	})
	if err := o.Run(t.Context()); err != nil || sent != `iris {"inputs": [1]}` {
		t.Errorf("%v, sent %q", err, sent)
	}
}

func TestRunPrintsTheAnswerAndNothingElse(t *testing.T) {
	var out bytes.Buffer
	o := Options{Timeout: time.Minute, Out: &out, Client: predictor(func(ctx context.Context, _ deployments.Prediction) ([]byte, error) {
		if _, ok := ctx.Deadline(); !ok {
			t.Error("--timeout does not reach the library")
		}
		return []byte(`{"predictions": [0]}`), nil
	})}
	if err := o.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := "{\"predictions\": [0]}\n"; out.String() != want {
		t.Errorf("stdout %q, want %q", out.String(), want)
	}
}
