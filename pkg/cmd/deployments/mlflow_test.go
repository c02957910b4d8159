package deployments

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/deploy"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/predict"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/deployments"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// asked parses a command line of create, and returns the request and the context that it comes to.
func asked(t *testing.T, line ...string) (r deployments.Request, kubecontext string, err error) {
	t.Helper()
	config := genericclioptions.NewConfigFlags(false)
	g := Group{Getter: config, Streams: genericiooptions.NewTestIOStreamsDiscard(), Getenv: func(string) string { return "" }, Context: func(name string) { kubecontext = name }}
	flags, spelled := deploy.Flags{Timeout: deployments.DefaultTimeout}, mlflowFlags{}
	command := &cobra.Command{Use: "create", SilenceErrors: true, SilenceUsage: true, RunE: func(c *cobra.Command, typed []string) error {
		o, err := options(c, &flags, spelled, typed, g)
		if err == nil {
			r = o.Request
		}
		return err
	}}
	config.AddFlags(command.PersistentFlags())
	spelled.model(command)
	flags.Add(command.Flags())
	command.SetArgs(line)
	return r, kubecontext, command.Execute()
}

func TestMLflowsSpellingSaysTheSame(t *testing.T) {
	want, _, err := asked(t, "iris", "models:/iris/3", "--image-repository", "registry.example.com/models", "--image-tag", "v3")
	if err != nil || want.Name != "iris" || want.ModelURI != "models:/iris/3" {
		t.Fatalf("%+v, %v", want, err)
	}
	config := []string{"-C", "image_repository=registry.example.com/models", "--config", "image_tag=v3"}
	for name, c := range map[string]struct {
		line      []string
		context   string
		namespace string
	}{
		"all of it":            {append([]string{"-t", "knative:/my-cluster", "--name", "iris", "-m", "models:/iris/3", "-f", "python_function"}, config...), "my-cluster", ""},
		"long":                 {append([]string{"--target", "knative:/my-cluster", "--name", "iris", "--model-uri", "models:/iris/3"}, config...), "my-cluster", ""},
		"the current context":  {append([]string{"-t", "knative:/", "iris", "models:/iris/3"}, config...), "", ""},
		"the scheme alone":     {append([]string{"-t", "knative", "iris", "-m", "models:/iris/3"}, config...), "", ""},
		"a context with slash": {append([]string{"-t", "knative:/arn:aws:eks:eu-west-1:1:cluster/ml", "iris", "models:/iris/3"}, config...), "arn:aws:eks:eu-west-1:1:cluster/ml", ""},
		"a namespace":          {append([]string{"--name", "iris", "models:/iris/3", "-C", "namespace=default"}, config...), "", "default"},
	} {
		got, kubecontext, err := asked(t, c.line...)
		expected := want
		expected.Namespace = c.namespace
		if err != nil || kubecontext != c.context || got.Name != expected.Name || got.ModelURI != expected.ModelURI || got.Namespace != expected.Namespace ||
			got.ImageRepository != expected.ImageRepository || got.ImageTag != expected.ImageTag {
			t.Errorf("%s: %+v in %q, %v", name, got, kubecontext, err)
		}
	}
}

func TestMLflowsSpellingIsChecked(t *testing.T) {
	for name, c := range map[string]struct {
		line []string
		says string
	}{
		"no name":            {[]string{"-m", "models:/iris/3"}, "NAME is missing"},
		"no model":           {[]string{"iris"}, "MODEL_URI is missing"},
		"a word too many":    {[]string{"--name", "iris", "iris", "models:/iris/3"}, `unexpected argument "models:/iris/3"`},
		"two too many":       {[]string{"--name", "iris", "-m", "models:/iris/3", "wine"}, `unexpected argument "wine"`},
		"another target":     {[]string{"-t", "sagemaker:/x", "iris", "models:/iris/3"}, "not Knative's"},
		"two contexts":       {[]string{"-t", "knative:/a", "--context", "b", "iris", "models:/iris/3"}, "both --target and --context"},
		"another flavor":     {[]string{"-f", "onnx", "iris", "models:/iris/3"}, `flavor "onnx"`},
		"an unknown key":     {[]string{"-C", "replicas=3", "iris", "models:/iris/3"}, "replicas=3"},
		"no value":           {[]string{"-C", "image_tag", "iris", "models:/iris/3"}, "KEY=VALUE"},
		"a bad namespace":    {[]string{"-C", "namespace=A B", "iris", "models:/iris/3"}, "namespace"},
		"a bad image's name": {[]string{"-C", "image_repository=https://r/x", "iris", "models:/iris/3"}, "not an image repository"},
	} {
		_, kubecontext, err := asked(t, c.line...)
		f, ok := errors.AsType[*failure.Error](err)
		if !ok || f.Class != failure.Invalid || !strings.Contains(f.Error()+f.Hint, c.says) || f.Hint == "" {
			t.Errorf("%s: %v", name, err)
		}
		if kubecontext != "" {
			t.Errorf("%s: the context is %q already", name, kubecontext)
		}
	}
}

// answering is a model, or one that fails.
type answering struct{ err error }

func (a answering) Predict(context.Context, deployments.Prediction) ([]byte, error) {
	return []byte(`{"predictions": [1]}`), a.err
}

func (a answering) Example(context.Context, deployments.Request) ([]byte, error) { return nil, a.err }

func TestAnAnswerIsWrittenWhenItIsThere(t *testing.T) {
	file := filepath.Join(t.TempDir(), "answer.json")
	if err := os.WriteFile(file, []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := &predict.Options{Client: answering{&failure.Error{Message: "the model is broken"}}, Timeout: deployments.DefaultTimeout}
	if err := predictTo(t.Context(), o, file, nil); err == nil {
		t.Error("no failure")
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "before" { //nolint:gosec // the test's own
		t.Errorf("%q, %v", text, err)
	}
	o.Client = answering{}
	if err := predictTo(t.Context(), o, file, nil); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(file); err != nil || strings.TrimSpace(string(text)) != `{"predictions": [1]}` { //nolint:gosec // the test's own
		t.Errorf("%q, %v", text, err)
	}
	var out strings.Builder
	if err := predictTo(t.Context(), o, "", &out); err != nil || !strings.Contains(out.String(), "predictions") {
		t.Errorf("%q, %v", out.String(), err)
	}
}

func TestGet(t *testing.T) {
	iris := &deployments.Deployment{Namespace: "ml", Name: "iris", ModelURI: "models:/iris/3", RunID: "run3", URL: "http://iris.example.com", Image: "r/m@sha256:1", Ready: true,
		Generation: 7, Created: time.Now().Add(-3 * time.Minute), Traffic: []deployments.Share{{Revision: "iris-00002", Percent: 100}}}
	streams, _, out, _ := genericiooptions.NewTestIOStreams()
	if err := get(t.Context(), one{iris}, "iris", "", streams); err != nil {
		t.Fatal(err)
	}
	if want := "NAMESPACE   NAME   MODEL            RUN    READY   TRAFFIC           GENERATION   AGE   URL                       IMAGE\n" +
		"ml          iris   models:/iris/3   run3   True    iris-00002=100%   7            3m    http://iris.example.com   r/m@sha256:1\n"; out.String() != want {
		t.Errorf("%s\nwant\n%s", out.String(), want)
	}
	out.Reset()
	if err := get(t.Context(), one{iris}, "iris", "json", streams); err != nil || !strings.Contains(out.String(), `"runID": "run3"`) {
		t.Errorf("%s, %v", out.String(), err)
	}
}

type one struct{ *deployments.Deployment }

func (o one) Get(context.Context, string, string) (*deployments.Deployment, error) {
	return o.Deployment, nil
}
