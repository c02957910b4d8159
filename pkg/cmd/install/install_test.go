package install

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/trackingserver"
)

type installer func(ctx context.Context, p trackingserver.Parameters) ([]trackingserver.Change, error)

func (f installer) Install(ctx context.Context, p trackingserver.Parameters) ([]trackingserver.Change, error) {
	return f(ctx, p)
}

func change(action string) trackingserver.Change {
	return trackingserver.Change{
		GroupVersionKind: schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"},
		Namespace:        "ml", Name: "mlflow", Action: action,
	}
}

func TestRun(t *testing.T) {
	broken := &failure.Error{Class: failure.Diagnosed, Message: "the image cannot be pulled"}
	for name, c := range map[string]struct {
		changes     []trackingserver.Change
		err         error
		out, errOut string
	}{
		"fresh": {
			changes: []trackingserver.Change{change("created")},
			out:     "deployment.apps/mlflow created\n",
			errOut:  "MLflow is installed in namespace ml and answers.\nNext: kubectl mlflow port-forward\n",
		},
		"again": {
			changes: []trackingserver.Change{change("unchanged")},
			out:     "deployment.apps/mlflow unchanged\n",
			errOut:  "MLflow is installed in namespace ml and answers; nothing changed.\nNext: kubectl mlflow port-forward\n",
		},
		"failed half-way": {changes: []trackingserver.Change{change("created")}, err: broken, out: "deployment.apps/mlflow created\n"},
		"failed at once":  {err: broken},
	} {
		t.Run(name, func(t *testing.T) {
			streams, _, out, errOut := genericiooptions.NewTestIOStreams()
			o := Options{Timeout: time.Minute, Streams: streams, Talk: ui.NewProgress(errOut), Next: "kubectl mlflow port-forward",
				Installer: installer(func(ctx context.Context, _ trackingserver.Parameters) ([]trackingserver.Change, error) {
					if _, ok := ctx.Deadline(); !ok {
						t.Error("--timeout does not reach the library")
					}
					return c.changes, c.err
				})}
			if err := o.Run(t.Context()); !errors.Is(err, c.err) {
				t.Errorf("error is %v, want %v", err, c.err)
			}
			if out.String() != c.out || errOut.String() != c.errOut {
				t.Errorf("stdout %q, want %q\nstderr %q, want %q", out.String(), c.out, errOut.String(), c.errOut)
			}
		})
	}
}

func TestToOptions(t *testing.T) {
	flags := Flags{Parameters: trackingserver.Parameters{StorageClass: "Not A Name"}}
	_, err := flags.ToOptions("Bad_Namespace")
	if failure.ClassOf(err) != failure.Invalid {
		t.Fatalf("error is %v, want failure.Invalid", err)
	}
	if !strings.Contains(err.Error(), "--timeout") {
		t.Errorf("%v does not name --timeout", err)
	}
	flags = Flags{Timeout: time.Minute}
	o, err := flags.ToOptions("ml")
	if err != nil || o.Parameters.Namespace != "ml" {
		t.Errorf("namespace is %q, %v", o.Parameters.Namespace, err)
	}
}
