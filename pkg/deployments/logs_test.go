package deployments

import (
	"context"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/logs"
)

// written is a cluster with pods, whose containers have written their names.
type written struct {
	logs.Cluster
	pods int
}

func (w written) List(_ context.Context, q cluster.Query) ([]*unstructured.Unstructured, error) {
	if q.Namespace != "models" || q.Selector.String() != "serving.knative.dev/service=iris" {
		return nil, io.ErrUnexpectedEOF
	}
	var pods []*unstructured.Unstructured
	for _, name := range []string{"iris-00002-deployment-6f-x7k2p", "iris-00002-deployment-6f-abcde"}[:w.pods] {
		pod := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "v1", "kind": "Pod",
			"spec": map[string]any{"containers": []any{map[string]any{"name": "user-container"}, map[string]any{"name": "queue-proxy"}}},
		}}
		pod.SetName(name)
		pod.SetLabels(map[string]string{"serving.knative.dev/revision": "iris-00002"})
		pods = append(pods, pod)
	}
	return pods, nil
}

func (written) Log(_ context.Context, _ cluster.Ref, container string, _ cluster.LogOptions) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader("2026-01-01T00:00:00Z " + container + "\n")), nil
}

func TestLogs(t *testing.T) {
	for _, c := range []struct {
		o    LogOptions
		want []string
	}{
		{LogOptions{}, []string{"iris-00002-abcde: user-container", "iris-00002-x7k2p: user-container"}},
		{LogOptions{AllContainers: true}, []string{"iris-00002-abcde/queue-proxy: queue-proxy", "iris-00002-abcde/user-container: user-container",
			"iris-00002-x7k2p/queue-proxy: queue-proxy", "iris-00002-x7k2p/user-container: user-container"}},
	} {
		client := newStage().client()
		client.logged = written{pods: 2}
		var lines []string
		err := client.Logs(t.Context(), "", "iris", c.o, func(l LogLine) error {
			if l.Revision != "iris-00002" {
				t.Errorf("%s is of revision %s", l.Source, l.Revision)
			}
			lines = append(lines, l.Source+": "+l.Text)
			return nil
		})
		slices.Sort(lines)
		if diff := cmp.Diff(c.want, lines); diff != "" || err != nil {
			t.Errorf("%+v: %v\n%s", c.o, err, diff)
		}
	}
}

func TestLogsOfADeploymentWithoutPods(t *testing.T) {
	client := newStage().client()
	client.logged = written{}
	show := func(LogLine) error { return nil }
	if err := client.Logs(t.Context(), "", "iris", LogOptions{}, show); failure.ClassOf(err) != failure.Diagnosed || !strings.Contains(err.Error(), "scales to zero") {
		t.Errorf("got %v", err)
	}
	if err := client.Logs(t.Context(), "", "Iris!", LogOptions{}, show); failure.ClassOf(err) != failure.Invalid {
		t.Errorf("got %v", err)
	}
}
