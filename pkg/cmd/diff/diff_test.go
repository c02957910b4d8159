package diff

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/trackingserver"
)

type planner []trackingserver.Difference

func (p planner) Plan(context.Context, trackingserver.Parameters, trackingserver.Options, trackingserver.DryRun) ([]trackingserver.Difference, error) {
	return p, nil
}

func service(port int64) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"name": "mlflow", "resourceVersion": "7", "uid": "u", "managedFields": []any{}},
		"spec": map[string]any{"port": port}, "status": map[string]any{"up": true},
	}}
}

func difference(kind, action string, before, after *unstructured.Unstructured) trackingserver.Difference {
	return trackingserver.Difference{Before: before, Change: trackingserver.Change{
		GroupVersionKind: schema.GroupVersionKind{Version: "v1", Kind: kind}, Name: "mlflow", Action: action, After: after,
	}}
}

func TestRun(t *testing.T) {
	for name, c := range map[string]struct {
		plan planner
		out  string
	}{
		"nothing": {planner{difference("Service", "unchanged", service(1), service(1))}, ""},
		"changed": {planner{difference("Service", "configured", service(1), service(2))}, `--- cluster/service/mlflow
+++ install/service/mlflow
@@ -3,4 +3,4 @@
 metadata:
   name: mlflow
 spec:
-  port: 1
+  port: 2
`},
		"secret": {planner{difference("Secret", "created", nil, nil)}, "# secret/mlflow would be created; what is in it is not shown\n"},
	} {
		t.Run(name, func(t *testing.T) {
			streams, _, out, _ := genericiooptions.NewTestIOStreams()
			o := Options{Planner: c.plan, Timeout: time.Minute, Streams: streams}
			err := o.Run(t.Context())
			if differs := errors.Is(err, ui.ErrDiffers); differs != (c.out != "") || err != nil && !differs {
				t.Errorf("error is %v", err)
			}
			if out.String() != c.out {
				t.Errorf("got:\n%s\nwant:\n%s", out.String(), c.out)
			}
		})
	}
}

func TestCreatedAndDeletedObjectsAreShownWhole(t *testing.T) {
	for sign, d := range map[string]trackingserver.Difference{
		"+": difference("Service", "created", nil, service(1)), "-": difference("Service", "pruned", service(1), nil),
	} {
		text, err := unified(d)
		shown := 0
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, sign) && !strings.HasPrefix(line, strings.Repeat(sign, 3)) {
				shown++
			}
		}
		if err != nil || shown != 6 {
			t.Errorf("%s: %v:\n%s", d.Action, err, text)
		}
	}
}
