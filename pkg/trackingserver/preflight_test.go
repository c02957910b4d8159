package trackingserver

import (
	"errors"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

func daemonSet(name string) (cluster.Ref, *unstructured.Unstructured) {
	r := cluster.Ref{GroupVersionKind: schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "DaemonSet"}, Namespace: "kube-system", Name: name}
	obj := &unstructured.Unstructured{Object: map[string]any{}}
	obj.SetGroupVersionKind(r.GroupVersionKind)
	obj.SetNamespace(r.Namespace)
	obj.SetName(r.Name)
	return r, obj
}

func TestPreflightTellsAllThatIsInTheWay(t *testing.T) {
	const fine = "kubernetes ok, rights ok, names ok, storage-class ok, admission skipped, network-policies unknown"
	cloudSQL := Parameters{Overlay: CloudSQLOverlay, CloudSQLInstance: "my-project:europe-west1:mlflow", ArtifactsDestination: "gs://bucket/mlflow"}
	beside := cloudSQL
	beside.CloudSQLProxy = sidecar
	for _, c := range []struct {
		name string
		p    Parameters
		is   func(w *world)
		want string // what differs from fine
		says string
	}{
		{"well", Parameters{}, func(*world) {}, "", ""},
		{"old", Parameters{}, func(w *world) { w.version = "v1.25.16" }, "kubernetes failed", "1.26 or newer is needed: the migration's Job"},
		{"old for a sidecar", beside, func(w *world) { w.version = "v1.28.9-gke.1" }, "kubernetes failed, storage-class skipped", "1.29 or newer is needed: the Cloud SQL Auth Proxy"},
		{"no sidecar", cloudSQL, func(w *world) { w.version = "v1.28.9-gke.1" }, "storage-class skipped", "no volumes are wanted"},
		{"rights", Parameters{}, func(w *world) { w.rights = []string{"create deployments"} }, "rights failed", "kind: Role"},
		{"no class, and rights", Parameters{}, func(w *world) { w.classes, w.rights = nil, []string{"create deployments"} }, "rights failed, storage-class failed", "no default storage class"},
		{"another class", Parameters{StorageClass: "slow"}, func(*world) {}, "storage-class failed", "the cluster has: standard, fast"},
		{"Flannel", Parameters{}, func(w *world) { r, obj := daemonSet("kube-flannel-ds"); w.objects[r] = obj }, "network-policies not enforced", "Flannel"},
		{"Flannel and Calico", Parameters{}, func(w *world) {
			for _, name := range []string{"kube-flannel-ds", "calico-node"} {
				r, obj := daemonSet(name)
				w.objects[r] = obj
			}
		}, "network-policies ok", "Calico"},
		{"may not see", Parameters{}, func(w *world) {
			w.refuse = func(verb string, _ cluster.Ref) error {
				if verb == "get" {
					return &failure.Error{Class: failure.Forbidden, Reason: "Forbidden", Message: "you may not"}
				}
				return nil
			}
		}, "names unknown", "it cannot be seen"},
		{"refused", Parameters{}, func(w *world) {
			w.refuse = func(verb string, r cluster.Ref) error {
				if verb == "dry run" && r.Kind == "Deployment" {
					return &failure.Error{Class: failure.Refused, Reason: "Quota", Object: r.String(), Message: "exceeded quota"}
				}
				return nil
			}
			namespace := core("Namespace", "", "mlflow")
			w.objects[namespace] = &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"name": "mlflow"}}}
		}, "admission failed", "exceeded quota"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld()
			c.is(w)
			before := strings.Join(w.left(), "\n")
			results, err := w.client().Preflight(t.Context(), c.p)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := states(results), replaced(fine, c.want); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			var said strings.Builder
			for _, r := range results {
				said.WriteString(strings.Join([]string{r.Where, r.Message, r.Hint, "\n"}, " "))
				if r.Failure != nil {
					said.WriteString(strings.Join(r.Failure.Evidence, "\n"))
				}
				if (r.State == failure.CheckFailed) != (r.Failure != nil) {
					t.Errorf("%s %s has the failure %v", r.Name, r.State, r.Failure)
				}
			}
			if !strings.Contains(said.String(), c.says) {
				t.Errorf("no %q in %s", c.says, said.String())
			}
			if after := strings.Join(w.left(), "\n"); after != before || len(w.wrote()) > 0 {
				t.Errorf("something was written: %v", w.wrote())
			}
		})
	}
}

// replaced is a list of states with those of others in their places.
func replaced(states, others string) string {
	list := strings.Split(states, ", ")
	for _, other := range strings.Split(others, ", ") {
		name, _, _ := strings.Cut(other, " ")
		for i := range list {
			if strings.HasPrefix(list[i], name+" ") {
				list[i] = other
			}
		}
	}
	return strings.Join(list, ", ")
}

func TestPreflightOfWhatIsInstalledIsWell(t *testing.T) {
	w := newWorld()
	w.install(t, Parameters{})
	results, err := w.client().Preflight(t.Context(), Parameters{})
	if err != nil || states(results) != "kubernetes ok, rights ok, names ok, storage-class ok, admission ok, network-policies unknown" {
		t.Errorf("got %s, %v", states(results), err)
	}
	if _, err := w.client().Preflight(t.Context(), Parameters{DatabaseStorage: "much"}); failure.ClassOf(err) != failure.Invalid {
		t.Errorf("bad input: %v", err)
	}
	away := errors.New("connection refused")
	w.refuse = func(string, cluster.Ref) error { return away }
	if _, err := w.client().Preflight(t.Context(), Parameters{}); !errors.Is(err, away) {
		t.Errorf("no cluster: %v", err)
	}
}
