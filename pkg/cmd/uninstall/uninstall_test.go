package uninstall

import (
	"context"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/trackingserver"
)

type uninstaller func(ctx context.Context, deleteData bool) ([]trackingserver.Change, error)

func (f uninstaller) Uninstall(ctx context.Context, deleteData bool) ([]trackingserver.Change, error) {
	return f(ctx, deleteData)
}

func TestRun(t *testing.T) {
	claim := trackingserver.Change{GroupVersionKind: schema.GroupVersionKind{Version: "v1", Kind: "PersistentVolumeClaim"}, Name: "postgres-data"}
	for name, c := range map[string]struct {
		deleteData  bool
		action      string
		out, errOut string
	}{
		"keeps":   {false, "kept", "persistentvolumeclaim/postgres-data kept\n", "its data is kept.\nTo bring it back: kubectl mlflow install\n"},
		"deletes": {true, "pruned", "persistentvolumeclaim/postgres-data deleted\n", "MLflow and its data are gone.\n"},
	} {
		t.Run(name, func(t *testing.T) {
			streams, _, out, errOut := genericiooptions.NewTestIOStreams()
			o := Options{
				Flags: Flags{DeleteData: c.deleteData, Timeout: time.Minute}, Streams: streams, Talk: ui.NewProgress(errOut),
				Again: "kubectl mlflow install", Delete: "kubectl mlflow uninstall --delete-data",
				Uninstaller: uninstaller(func(_ context.Context, deleteData bool) ([]trackingserver.Change, error) {
					if deleteData != c.deleteData {
						t.Errorf("deleteData is %v", deleteData)
					}
					done := claim
					done.Action = c.action
					return []trackingserver.Change{done}, nil
				}),
			}
			if err := o.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			if out.String() != c.out || !strings.Contains(errOut.String(), c.errOut) {
				t.Errorf("stdout %q, want %q\nstderr %q, want %q in it", out.String(), c.out, errOut.String(), c.errOut)
			}
		})
	}
}
