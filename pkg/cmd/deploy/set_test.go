package deploy

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/deployments"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

const models = `
set: fraud
defaults:
  imageRepository: registry.example.com/models
  limits: {memory: 2Gi}
  serviceTemplate: service.yaml
deployments:
- name: iris
  modelURI: models:/iris@champion
  limits: {cpu: "2"}
  minScale: 1
  servingTimeout: 30s
  timeout: 5m
- name: wine
  image: registry.example.com/models@sha256:1234
  serviceTemplate: ""
  env: {MODE: fast}
`

// fileFlags are those of a command line with -f, after the words in typed.
func fileFlags(t *testing.T, typed ...string) *Flags {
	t.Helper()
	directory := t.TempDir()
	for name, text := range map[string]string{"models.yaml": models, "service.yaml": "apiVersion: serving.knative.dev/v1\nkind: Service\n"} {
		if err := os.WriteFile(filepath.Join(directory, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	flags, set := NewFlags(), pflag.NewFlagSet("", pflag.ContinueOnError)
	flags.Add(set)
	if err := set.Parse(typed); err != nil {
		t.Fatal(err)
	}
	flags.File = filepath.Join(directory, "models.yaml")
	return &flags
}

func TestReadSet(t *testing.T) {
	flags := fileFlags(t, "--platform", "linux/arm64", "--no-verify")
	o, err := flags.toSet(nil, nil, func(name string) string {
		return map[string]string{"MLFLOW_TRACKING_URI": "http://mlflow.example.com"}[name]
	})
	if err != nil {
		t.Fatal(err)
	}
	if o.Set.Name != "fraud" || len(o.Set.Requests) != 2 {
		t.Fatalf("set is %+v", o.Set)
	}
	iris, wine := o.Set.Requests[0], o.Set.Requests[1]
	if iris.Name != "iris" || iris.ModelURI != "models:/iris@champion" || iris.ImageRepository != "registry.example.com/models" || iris.Platform != "linux/arm64" ||
		!iris.NoVerify || iris.Timeout != 5*time.Minute || iris.TrackingURI != "http://mlflow.example.com" {
		t.Errorf("iris is %+v", iris)
	}
	if want := map[string]string{"memory": "2Gi", "cpu": "2"}; !reflect.DeepEqual(iris.Settings.Limits, want) || *iris.Settings.MinScale != 1 || iris.Settings.ServingTimeout.Duration != 30*time.Second {
		t.Errorf("settings of iris are %+v", iris.Settings)
	}
	if iris.ServiceTemplate == nil || filepath.Base(iris.ServiceTemplate.Name) != "service.yaml" || !strings.Contains(string(iris.ServiceTemplate.Content), "Service") {
		t.Errorf("template of iris is %+v", iris.ServiceTemplate)
	}
	if wine.Image != "registry.example.com/models@sha256:1234" || wine.ServiceTemplate != nil || wine.TrackingURI != "" || wine.Settings.Env["MODE"] != "fast" || !reflect.DeepEqual(wine.Settings.Limits, map[string]string{"memory": "2Gi"}) {
		t.Errorf("wine is %+v", wine)
	}
}

func TestSetsThatAreRefused(t *testing.T) {
	for name, c := range map[string]struct{ from, to, want string }{
		"unknown word":       {"minScale: 1", "minscales: 1", `deployments[0], "iris"`},
		"wrong kind":         {"minScale: 1", "minScale: one", "minScale"},
		"unknown at the top": {"set: fraud", "sets: fraud", "sets"},
		"word twice":         {"minScale: 1", "minScale: 1\n  minScale: 2", "minScale"},
		"no template":        {"service.yaml", "gone.yaml", "gone.yaml"},
		"nothing":            {models, "deployments: []", "no deployments"},
	} {
		flags := fileFlags(t)
		if err := os.WriteFile(flags.File, []byte(strings.Replace(models, c.from, c.to, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := flags.toSet(nil, nil, os.Getenv); failure.ClassOf(err) != failure.Invalid || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	flags := fileFlags(t, "--min-scale", "0")
	if _, err := flags.toSet(nil, nil, os.Getenv); err == nil || !strings.Contains(err.Error(), "--min-scale") {
		t.Errorf("a setting beside a file: %v", err)
	}
	flags = fileFlags(t)
	if _, err := flags.toSet([]string{"iris"}, nil, os.Getenv); failure.ClassOf(err) != failure.Invalid {
		t.Errorf("a name beside a file: %v", err)
	}
	flags.File, flags.Prune = "", true
	if err := flags.check(); failure.ClassOf(err) != failure.Invalid {
		t.Errorf("--prune without a file: %v", err)
	}
}

type setClient struct{ err error }

func (c setClient) DeployAll(context.Context, deployments.Set) (*deployments.Outcome, error) {
	return &deployments.Outcome{
		Deployments: []*deployments.Result{{Name: "iris", ModelURI: "models:/iris/3", Action: "configured", Revision: "iris-00002", URL: "http://iris.example.com"}},
		Deleted:     []string{"wine"},
	}, c.err
}

func (setClient) Plan(context.Context, deployments.Set) ([]deployments.Planned, error) {
	return []deployments.Planned{{Name: "iris", ModelURI: "models:/iris/3", Action: "create"}}, nil
}

func (setClient) Manifests(context.Context, deployments.Set) ([]map[string]any, error) {
	return []map[string]any{{"kind": "Service", "name": "a"}, {"kind": "Service", "name": "b"}}, nil
}

func TestRunSet(t *testing.T) {
	for name, c := range map[string]struct {
		dryRun bool
		output string
		err    error
		want   string
	}{
		"deploys":   {false, "", nil, "NAME   MODEL            ACTION       REVISION     URL\niris   models:/iris/3   configured   iris-00002   http://iris.example.com\nwine   <none>           deleted      <none>       <none>\n"},
		"one fails": {false, "", errors.New("no"), "NAME   MODEL            ACTION       REVISION     URL\niris   models:/iris/3   configured   iris-00002   http://iris.example.com\nwine   <none>           deleted      <none>       <none>\n"},
		"checks":    {true, "", nil, "NAME   MODEL            WOULD\niris   models:/iris/3   create\n"},
		"manifests": {true, "yaml", nil, "kind: Service\nname: a\n---\nkind: Service\nname: b\n"},
	} {
		t.Run(name, func(t *testing.T) {
			streams, _, out, errOut := genericiooptions.NewTestIOStreams()
			talk := ui.NewProgress(errOut)
			defer talk.Close()
			o := SetOptions{Client: setClient{c.err}, DryRun: c.dryRun, Output: c.output, Streams: streams, Talk: talk}
			if err := o.Run(t.Context()); !errors.Is(err, c.err) || out.String() != c.want {
				t.Errorf("%v, printed\n%s\nwant\n%s", err, out.String(), c.want)
			}
		})
	}
}
