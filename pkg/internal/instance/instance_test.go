package instance

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

// store is an API server that keeps ConfigMaps. An apply of what is there already changes nothing, as with the real one.
type store struct {
	mu     sync.Mutex
	maps   map[string]map[string]any // by path
	writes int
	hidden []string // path prefixes that may not be read
}

func newStore(t *testing.T) (*store, *cluster.Client) {
	t.Helper()
	s := &store{maps: map[string]map[string]any{}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return s, cluster.New(getter{server.URL})
}

// getter leads to one server without a file.
type getter struct{ url string }

func (g getter) ToRESTConfig() (*rest.Config, error) { return &rest.Config{Host: g.url}, nil }
func (g getter) ToRawKubeConfigLoader() clientcmd.ClientConfig {
	return clientcmd.NewDefaultClientConfig(*clientcmdapi.NewConfig(), nil)
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.URL.Path == "/api/v1" {
		send(w, 200, metav1.APIResourceList{APIResources: []metav1.APIResource{{Name: "configmaps", Kind: "ConfigMap", Namespaced: true}}})
		return
	}
	for _, path := range s.hidden {
		if r.URL.Path == path {
			status(w, 403, metav1.StatusReasonForbidden, `User "eve" cannot get resource "configmaps"; User "eve" cannot list resource "configmaps"`)
			return
		}
	}
	live, there := s.maps[r.URL.Path]
	switch {
	case r.Method == http.MethodPatch:
		var sent map[string]any
		if err := json.NewDecoder(r.Body).Decode(&sent); err != nil {
			status(w, 400, metav1.StatusReasonBadRequest, err.Error())
			return
		}
		if !there || !reflect.DeepEqual(live["data"], sent["data"]) {
			s.writes++
			meta := sent["metadata"].(map[string]any)
			meta["uid"], meta["resourceVersion"] = "uid-"+r.URL.Path, fmt.Sprint(s.writes)
			s.maps[r.URL.Path] = sent
		}
		send(w, 200, s.maps[r.URL.Path])
	case r.URL.Path == "/api/v1/configmaps":
		items := []any{}
		for _, m := range s.maps {
			labels, _ := m["metadata"].(map[string]any)["labels"].(map[string]any)
			if r.URL.Query().Get("labelSelector") == "mlflow.kubectl/instance=true" && labels[Label] == "true" {
				items = append(items, m)
			}
		}
		send(w, 200, map[string]any{"apiVersion": "v1", "kind": "ConfigMapList", "metadata": map[string]any{}, "items": items})
	case !there:
		status(w, 404, metav1.StatusReasonNotFound, "not found")
	case r.Method == http.MethodDelete:
		delete(s.maps, r.URL.Path)
		send(w, 200, live)
	default:
		send(w, 200, live)
	}
}

func send(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body)
}

func status(w http.ResponseWriter, code int32, reason metav1.StatusReason, message string) {
	send(w, int(code), metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Code: code, Reason: reason, Message: message})
}

func path(namespace string) string {
	return "/api/v1/namespaces/" + namespace + "/configmaps/kubectl-mlflow"
}

func example(namespace string) Instance {
	deployment := cluster.Ref{GroupVersionKind: schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}, Namespace: namespace, Name: "mlflow"}
	return Instance{
		Namespace: namespace, Overlay: "local", Image: "ghcr.io/mlflow/mlflow:v3.17.2-full", Schema: "abc",
		Parameters: map[string]string{"artifactRoot": "gs://b/p"},
		HTTP:       cluster.ServicePort{Namespace: namespace, Service: "mlflow", Port: "5000"},
		AuthSecret: "mlflow-admin", Replicas: 2,
		Inventory: cluster.Inventory{Items: []cluster.Change{
			{Ref: cluster.Ref{GroupVersionKind: schema.GroupVersionKind{Version: "v1", Kind: "Namespace"}, Name: namespace}, UID: "1"},
			{Ref: deployment},
		}},
	}
}

func TestWhatIsSavedIsLoaded(t *testing.T) {
	s, c := newStore(t)
	if i, err := Load(t.Context(), c, "ml"); i != nil || err != nil {
		t.Fatalf("before: %+v, %v", i, err)
	}
	want := example("ml")
	if err := Save(t.Context(), c, want); err != nil {
		t.Fatal(err)
	}
	got, err := Load(t.Context(), c, "ml")
	if err != nil || !reflect.DeepEqual(*got, want) {
		t.Errorf("loaded %+v, %v; want %+v", got, err, want)
	}
	if err := Save(t.Context(), c, want); err != nil || s.writes != 1 {
		t.Errorf("saving the same again: %v, %d writes in all", err, s.writes)
	}
	want.Inventory.Items[1].UID = "2"
	if err := Save(t.Context(), c, want); err != nil || s.writes != 2 {
		t.Errorf("saving a UID: %v, %d writes in all", err, s.writes)
	}
	if err := Delete(t.Context(), c, "ml"); err != nil {
		t.Fatal(err)
	}
	if i, err := Load(t.Context(), c, "ml"); i != nil || err != nil {
		t.Errorf("after Delete: %+v, %v", i, err)
	}
	if err := Delete(t.Context(), c, "ml"); err != nil {
		t.Errorf("deleting what is not there: %v", err)
	}
}

func TestARecordThatWasEditedIsRefused(t *testing.T) {
	for name, edit := range map[string]func(m map[string]any){
		"inventory cut off": func(m map[string]any) { m["data"].(map[string]any)["inventory"] = `[{"kind":` },
		"inventory gone":    func(m map[string]any) { delete(m["data"].(map[string]any), "inventory") },
		"item without a name": func(m map[string]any) {
			m["data"].(map[string]any)["inventory"] = `[{"apiVersion":"v1","kind":"Secret"}]`
		},
		"somebody else's object": func(m map[string]any) { delete(m["metadata"].(map[string]any)["labels"].(map[string]any), Label) },
	} {
		t.Run(name, func(t *testing.T) {
			s, c := newStore(t)
			if err := Save(t.Context(), c, example("ml")); err != nil {
				t.Fatal(err)
			}
			edit(s.maps[path("ml")])
			i, err := Load(t.Context(), c, "ml")
			if i != nil || failure.ClassOf(err) != failure.Refused {
				t.Errorf("Load: %+v, %v; want Refused", i, err)
			}
			if err := Delete(t.Context(), c, "ml"); failure.ClassOf(err) != failure.Refused || s.maps[path("ml")] == nil {
				t.Errorf("Delete: %v; want Refused and nothing deleted", err)
			}
		})
	}
}

func TestFind(t *testing.T) {
	const all = "/api/v1/configmaps"
	for _, tc := range []struct {
		name    string
		on      []string // namespaces with an instance
		stopped []string // of these, uninstalled
		broken  string   // of these, edited
		hidden  []string
		look    []string
		found   string // "*" for any
		class   failure.Class
		says    []string
	}{
		{name: "in the first", on: []string{"a", "b"}, look: []string{"a", "b"}, found: "a"},
		{name: "in the second", on: []string{"b", "c"}, look: []string{"a", "b"}, found: "b"},
		{name: "elsewhere", on: []string{"c"}, look: []string{"a"}, found: "c"},
		{name: "nowhere named", on: []string{"c"}, found: "c"},
		{name: "the first is hidden", on: []string{"b"}, hidden: []string{path("a"), all}, look: []string{"a", "b"}, found: "b"},
		{name: "none", look: []string{"a"}, class: failure.Invalid, says: []string{"there is no MLflow", "--tracking-service", "MLFLOW_TRACKING_URI"}},
		{name: "several", on: []string{"c", "d"}, look: []string{"a"}, class: failure.Invalid, says: []string{"more than one", "c/mlflow, d/mlflow", "--tracking-service NAMESPACE/NAME[:PORT]", "MLFLOW_TRACKING_URI"}},
		{name: "several, and one of them runs", on: []string{"c", "d"}, stopped: []string{"c"}, found: "d"},
		{name: "several, and none runs", on: []string{"c", "d"}, stopped: []string{"c", "d"}, found: "*"},
		{name: "one cannot be read", on: []string{"c", "d"}, broken: "d", class: failure.Invalid, says: []string{"c/mlflow", "namespace d whose record cannot be read"}},
		{name: "the only one cannot be read", on: []string{"d"}, broken: "d", class: failure.Refused, says: []string{"namespace d cannot be read"}},
		{name: "may not list all", on: []string{"c"}, hidden: []string{all}, look: []string{"a"}, class: failure.Forbidden, says: []string{"no MLflow in namespace a", "may not look", "--tracking-service", "MLFLOW_TRACKING_URI"}},
		{name: "may look nowhere", on: []string{"a"}, hidden: []string{all, path("a")}, look: []string{"a"}, class: failure.Forbidden, says: []string{"nor in a", "--tracking-service"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, c := newStore(t)
			for _, ns := range tc.on {
				i := example(ns)
				if !slices.Contains(tc.stopped, ns) {
					i.Inventory.Items = append(i.Inventory.Items, cluster.Change{
						Ref: cluster.Ref{GroupVersionKind: schema.GroupVersionKind{Version: "v1", Kind: "Service"}, Namespace: ns, Name: "mlflow"},
					})
				}
				if err := Save(t.Context(), c, i); err != nil {
					t.Fatal(err)
				}
			}
			if tc.broken != "" {
				delete(s.maps[path(tc.broken)]["data"].(map[string]any), "inventory")
			}
			s.hidden = tc.hidden
			i, err := Find(t.Context(), c, tc.look...)
			if tc.found != "" {
				if err != nil || i.Namespace != tc.found && tc.found != "*" {
					t.Errorf("found %+v, %v; want that in %s", i, err, tc.found)
				}
				return
			}
			f, ok := errors.AsType[*failure.Error](err)
			if !ok || f.Class != tc.class {
				t.Fatalf("err = %v, want %s", err, tc.class)
			}
			for _, part := range tc.says {
				if !strings.Contains(f.Message+" "+f.Hint, part) {
					t.Errorf("%q, %q lack %q", f.Message, f.Hint, part)
				}
			}
		})
	}
}
