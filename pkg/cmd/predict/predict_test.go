package predict

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/deployments"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

func flags(set ...func(*Flags)) *Flags {
	f := NewFlags()
	for _, do := range set {
		do(&f)
	}
	return &f
}

func from(file string) func(*Flags)  { return func(f *Flags) { f.File = file } }
func input(text string) func(*Flags) { return func(f *Flags) { f.Input = text } }

func with(variables map[string]string) func(string) string {
	return func(name string) string { return variables[name] }
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
		"flag":           {flags(input(`{"a":1}`)), `{"a":1}`, "application/json"},
		"file":           {flags(from(file("a.json", `{"a":2}`))), `{"a":2}`, "application/json"},
		"CSV":            {flags(from(file("a.csv", "a,b\n1,2\n"))), "a,b\n1,2\n", "text/csv"},
		"standard input": {flags(from("-")), `{"a":3}`, "application/json"},
		"CSV from standard input": {
			flags(from("-"), func(f *Flags) { f.ContentType = "text/csv; charset=utf-8" }), `{"a":3}`, "text/csv; charset=utf-8",
		},
		"a type of the user's": {flags(from(file("b.csv", "{}")), func(f *Flags) { f.ContentType = "application/json" }), "{}", "application/json"},
	} {
		o, err := c.flags.ToOptions("iris", strings.NewReader(`{"a":3}`), with(nil))
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
	set := func(do func(*Flags)) *Flags { return flags(input("{}"), do) }
	folder := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, f := range map[string]*Flags{
		"nothing":                   flags(),
		"both":                      set(from("-")),
		"an example":                set(func(f *Flags) { f.Example = true }),
		"a type of an example":      flags(func(f *Flags) { f.Example, f.ContentType = true, "text/csv" }),
		"not JSON":                  flags(input("inputs: [1]")),
		"no file":                   flags(from(filepath.Join(folder, "missing"))),
		"unknown way":               set(func(f *Flags) { f.Way.Via = "pigeon" }),
		"unknown protocol":          set(func(f *Flags) { f.Protocol = "v3" }),
		"unknown output":            set(func(f *Flags) { f.Output = "yaml" }),
		"no content type":           set(func(f *Flags) { f.ContentType = "CSV, please" }),
		"no time":                   set(func(f *Flags) { f.Timeout = 0 }),
		"no header":                 set(func(f *Flags) { f.Way.Headers = []string{"X-Team"} }),
		"a header of two lines":     set(func(f *Flags) { f.Way.Headers = []string{"X-Team: blue\nX-Other: 1"} }),
		"a name that is none":       set(func(f *Flags) { f.Way.Headers = []string{"X Team: blue"} }),
		"a secret header":           set(func(f *Flags) { f.Way.Headers = []string{"authorization : Bearer s3cret"} }),
		"a cookie":                  set(func(f *Flags) { f.Way.Headers = []string{"cookie: s3cret"} }),
		"another host":              set(func(f *Flags) { f.Way.Headers = []string{"Host: s3cret"} }),
		"a type as a header":        set(func(f *Flags) { f.Way.Headers = []string{"content-type: text/csv"} }),
		"no token file":             set(func(f *Flags) { f.Way.TokenFile = filepath.Join(folder, "missing") }),
		"an empty token file":       set(func(f *Flags) { f.Way.TokenFile = file("empty", "\n") }),
		"more than a token":         set(func(f *Flags) { f.Way.TokenFile = file("two", "Bearer s3cret") }),
		"a token and a line":        set(func(f *Flags) { f.Way.TokenFile = file("lines", "s3cret\nX-Team: blue") }),
		"no file with certificates": set(func(f *Flags) { f.Way.CAFile = filepath.Join(folder, "missing") }),
	} {
		_, err := f.ToOptions("iris", strings.NewReader("{}"), with(nil))
		e, ok := errors.AsType[*failure.Error](err)
		if !ok || e.Class != failure.Invalid || e.Hint == "" || strings.Contains(e.Error()+e.Hint, "s3cret") {
			t.Errorf("%s: %#v, want failure.Invalid", name, err)
		}
	}
}

func TestTheWayAndWhoAsks(t *testing.T) {
	folder := t.TempDir()
	token, ca := filepath.Join(folder, "token"), filepath.Join(folder, "ca.pem")
	for path, text := range map[string]string{token: "of-the-file\n", ca: "PEM"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env := with(map[string]string{"KUBECTL_MLFLOW_PREDICT_TOKEN": "of-the-environment"})
	f := flags(input("{}"), func(f *Flags) {
		f.Way.Via, f.Way.Tag, f.Protocol, f.Way.CAFile = deployments.ViaURL, "candidate", deployments.ProtocolV2, ca
		f.Way.Headers = []string{"x-team: blue", "X-Team:red", "X-Empty:"}
	})
	o, err := f.ToOptions("iris", nil, env)
	if err != nil {
		t.Fatal(err)
	}
	want := deployments.Prediction{
		Name: "iris", Via: "url", Tag: "candidate", Protocol: "v2", Body: []byte("{}"), ContentType: "application/json",
		Header: http.Header{"X-Team": {"blue", "red"}, "X-Empty": {""}}, Token: "of-the-environment", CA: []byte("PEM"),
	}
	if !reflect.DeepEqual(o.Prediction, want) {
		t.Errorf("%+v, want %+v", o.Prediction, want)
	}
	f.Way.TokenFile = token
	if o, err := f.ToOptions("iris", nil, env); err != nil || o.Prediction.Token != "of-the-file" {
		t.Errorf("token %q, %v", o.Prediction.Token, err)
	}
	if o, err := flags(input("{}")).ToOptions("iris", nil, with(nil)); err != nil || o.Prediction.Token != "" || o.Prediction.Protocol != "" || o.Prediction.Via != "gateway" {
		t.Errorf("%+v, %v", o.Prediction, err)
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
