package trackingserver

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// written is a pod of a component with these containers, each of which has written its name.
func (w *world) written(name, of string, containers ...string) {
	pod := &unstructured.Unstructured{Object: map[string]any{}}
	pod.SetGroupVersionKind(core("Pod", "", "").GroupVersionKind)
	pod.SetNamespace("mlflow")
	pod.SetName(name)
	pod.SetLabels(map[string]string{component: of, "app.kubernetes.io/part-of": "mlflow"})
	var specs []any
	for _, c := range containers {
		specs = append(specs, map[string]any{"name": c})
		line := map[string]string{"schema": "2026-01-01T00:00:01Z waits", "postgres": "2026-01-01T00:00:00Z starts"}[c]
		w.logs[name+"/"+c] = strings.TrimPrefix(line+"\n"+"2026-01-01T00:00:02Z "+c, "\n")
	}
	pod.Object["spec"] = map[string]any{"containers": specs}
	w.put(pod, "")
}

func withLogs(t *testing.T) *world {
	t.Helper()
	w := newWorld()
	w.install(t, Parameters{})
	w.logs = map[string]string{}
	w.written("mlflow-54984d6ff7-x7k2p", server, "schema", "mlflow", proxyContainer)
	w.written("postgres-0", database, "postgres")
	w.written("mlflow-backup-20260101-000000-abcde", "backup", "dump", "store")
	return w
}

func TestLogs(t *testing.T) {
	for _, c := range []struct {
		components []string
		want       []string
	}{
		{nil, []string{"database-0: starts", "server-x7k2p/schema: waits", "server-x7k2p/schema: schema", "server-x7k2p: mlflow", "proxy-x7k2p: cloud-sql-proxy", "database-0: postgres"}},
		{[]string{"proxy"}, []string{"proxy-x7k2p: cloud-sql-proxy"}},
		{[]string{"backup"}, []string{"backup-abcde/dump: dump", "backup-abcde/store: store"}},
	} {
		var lines []string
		err := withLogs(t).client().Logs(t.Context(), LogOptions{Components: c.components}, func(l LogLine) error {
			if !strings.HasPrefix(l.Source, l.Component+"-") {
				t.Errorf("%s is of component %s", l.Source, l.Component)
			}
			lines = append(lines, l.Source+": "+l.Text)
			return nil
		})
		slices.Sort(lines)
		slices.Sort(c.want)
		if diff := cmp.Diff(c.want, lines); diff != "" || err != nil {
			t.Errorf("%v: %v\n%s", c.components, err, diff)
		}
	}
}

func TestLogsThatThereAreNot(t *testing.T) {
	limited := withLogs(t)
	limited.rights = []string{"get pods"} // pods/log, here
	for _, c := range []struct {
		name  string
		w     *world
		o     LogOptions
		class failure.Class
		says  string
	}{
		{"no such component", withLogs(t), LogOptions{Components: []string{"web"}}, failure.Invalid, "web"},
		{"nothing is installed", newWorld(), LogOptions{}, failure.Invalid, "there is no MLflow"},
		{"no pods", withLogs(t), LogOptions{Components: []string{"gc"}}, failure.Diagnosed, "no container of gc has a log"},
		{"no restart", withLogs(t), LogOptions{Previous: true}, failure.Diagnosed, "has been started again"},
		{"no right", limited, LogOptions{}, failure.Forbidden, "get pods/log"},
	} {
		err := c.w.client().Logs(t.Context(), c.o, func(LogLine) error { t.Errorf("%s: something is printed", c.name); return nil })
		if failure.ClassOf(err) != c.class || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want %s with %q", c.name, err, c.class, c.says)
		}
	}
}
