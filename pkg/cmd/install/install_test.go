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

func (f installer) Install(ctx context.Context, p trackingserver.Parameters, _ trackingserver.Options) ([]trackingserver.Change, error) {
	return f(ctx, p)
}

func (f installer) SecretsOnly(ctx context.Context, p trackingserver.Parameters, _ trackingserver.Options) ([]trackingserver.Change, error) {
	changes, err := f(ctx, p)
	return changes[:0], err
}

func (f installer) Plan(ctx context.Context, p trackingserver.Parameters, _ trackingserver.Options, _ trackingserver.DryRun) ([]trackingserver.Difference, error) {
	changes, err := f(ctx, p)
	var plan []trackingserver.Difference
	for _, c := range changes {
		plan = append(plan, trackingserver.Difference{Change: c})
	}
	return plan, err
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
		flags       Flags
		err         error
		out, errOut string
	}{
		"dry run": {
			changes: []trackingserver.Change{change("created")}, flags: Flags{DryRun: "server"},
			out: "deployment.apps/mlflow created (server dry run)\n",
		},
		"dry run on the client, names": {
			changes: []trackingserver.Change{change("created")}, flags: Flags{DryRun: "client", Output: "name"},
			out: "deployment.apps/mlflow\n",
		},
		"dry run for kubectl, which wants the namespace": {
			changes: []trackingserver.Change{{GroupVersionKind: schema.GroupVersionKind{Version: "v1", Kind: "Namespace"}, Name: "ml", Action: "created"}},
			flags:   Flags{DryRun: "client", Output: "yaml"},
			errOut:  "The namespace ml does not exist yet. kubectl apply --dry-run=server wants it first: kubectl create namespace ml\n",
		},
		"secrets only": {changes: []trackingserver.Change{change("created")}, flags: Flags{SecretsOnly: true}},
		"fresh": {
			changes: []trackingserver.Change{change("created")},
			out:     "deployment.apps/mlflow created\n",
			errOut:  "MLflow is installed in namespace ml and answers.\nNext: kubectl mlflow port-forward\n",
		},
		"with users": {
			changes: []trackingserver.Change{{GroupVersionKind: schema.GroupVersionKind{Version: "v1", Kind: "Secret"}, Namespace: "ml", Name: "mlflow-auth", Action: "created"}},
			out:     "secret/mlflow-auth created\n",
			errOut: "MLflow is installed in namespace ml and answers.\n" +
				"Users log in; the first one is admin. The password: kubectl get secret mlflow-auth --namespace ml --output 'go-template={{.data.MLFLOW_AUTH_ADMIN_PASSWORD | base64decode}}'\n" +
				"Next: kubectl mlflow port-forward\n",
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
			c.flags.Timeout = time.Minute
			if c.flags.DryRun == "" {
				c.flags.DryRun = dryRunNone
			}
			o := Options{Flags: c.flags, Streams: streams, Talk: ui.NewProgress(errOut), Next: "kubectl mlflow port-forward",
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

func TestCheck(t *testing.T) {
	for name, c := range map[string]struct {
		flags Flags
		says  string
	}{
		"no time":           {Flags{DryRun: "none"}, "--timeout"},
		"no way to try":     {Flags{DryRun: "maybe", Timeout: time.Minute}, "maybe"},
		"no format":         {Flags{DryRun: "none", Output: "xml", Timeout: time.Minute}, "xml"},
		"secrets and trial": {Flags{DryRun: "client", SecretsOnly: true, Timeout: time.Minute}, "--secrets-only"},
		"good":              {Flags{DryRun: "server", Output: "yaml", Timeout: time.Minute}, ""},
	} {
		err := c.flags.check()
		if c.says == "" && err != nil || c.says != "" && (failure.ClassOf(err) != failure.Invalid || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: got %v, want %q in it", name, err, c.says)
		}
	}
}
