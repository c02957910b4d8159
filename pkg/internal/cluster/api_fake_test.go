package cluster

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// kubeconfig is a Getter over a file, as kubectl's flags are.
type kubeconfig struct{ clientcmd.ClientConfig }

func (k kubeconfig) ToRESTConfig() (*rest.Config, error)           { return k.ClientConfig.ClientConfig() }
func (k kubeconfig) ToRawKubeConfigLoader() clientcmd.ClientConfig { return k.ClientConfig }

func loadKubeconfig(path, context string) kubeconfig {
	return kubeconfig{clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: path},
		&clientcmd.ConfigOverrides{CurrentContext: context, ClusterDefaults: clientcmd.ClusterDefaults})}
}

func writeKubeconfig(t *testing.T, server string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config")
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: test
clusters: [{name: c, cluster: {server: %q}}]
users: [{name: u, user: {}}]
contexts: [{name: test, context: {cluster: c, user: u, namespace: team}}]
`, server)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// api is an API server that answers what a test tells it to. Discovery is true to the real one.
type api struct {
	t   *testing.T
	url string

	mu       sync.Mutex
	handlers map[string]http.HandlerFunc // "GET /api/v1/…"
	requests []*http.Request             // all but discovery
	bodies   []string
}

func newAPI(t *testing.T, handlers map[string]http.HandlerFunc) (*api, *Client) {
	t.Helper()
	a := &api{t: t, handlers: handlers}
	server := httptest.NewServer(a)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	a.url = server.URL
	return a, newTestClient(loadKubeconfig(writeKubeconfig(t, server.URL), ""))
}

// newTestClient is a client with little patience.
func newTestClient(g Getter) *Client {
	c := New(g)
	c.retry = retry{first: time.Millisecond, most: 5 * time.Millisecond, budget: 100 * time.Millisecond}
	return c
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	served := map[string][]metav1.APIResource{
		"/api/v1": {
			{Name: "pods", Kind: "Pod", Namespaced: true}, {Name: "pods/log", Kind: "Pod", Namespaced: true},
			{Name: "configmaps", Kind: "ConfigMap", Namespaced: true}, {Name: "secrets", Kind: "Secret", Namespaced: true},
			{Name: "namespaces", Kind: "Namespace"},
		},
		"/apis/apps/v1":                 {{Name: "deployments", Kind: "Deployment", Namespaced: true}},
		"/apis/authorization.k8s.io/v1": {{Name: "selfsubjectaccessreviews", Kind: "SelfSubjectAccessReview"}},
		"/apis/coordination.k8s.io/v1":  {{Name: "leases", Kind: "Lease", Namespaced: true}},
	}
	a.mu.Lock()
	trouble := a.handlers[r.Method+" "+r.URL.Path]
	a.mu.Unlock()
	if resources, ok := served[r.URL.Path]; ok && r.Method == http.MethodGet && trouble == nil {
		reply(w, http.StatusOK, metav1.APIResourceList{APIResources: resources})
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		a.t.Errorf("reading a request: %v", err)
	}
	a.mu.Lock()
	a.requests = append(a.requests, r)
	a.bodies = append(a.bodies, string(body))
	handler := a.handlers[r.Method+" "+r.URL.Path]
	a.mu.Unlock()
	if handler == nil {
		refuse(http.StatusNotFound, metav1.StatusReasonNotFound, "not found", nil)(w, r)
		return
	}
	handler(w, r)
}

// count is how often a request was made.
func (a *api) count(method, path string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, r := range a.requests {
		if r.Method == method && r.URL.Path == path {
			n++
		}
	}
	return n
}

func reply(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body)
}

// answer replies with the object.
func answer(obj *unstructured.Unstructured) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, obj.Object) }
}

// refuse replies with a Status.
func refuse(code int32, reason metav1.StatusReason, message string, details *metav1.StatusDetails) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		reply(w, int(code), metav1.Status{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
			Status:   metav1.StatusFailure, Code: code, Reason: reason, Message: message, Details: details,
		})
	}
}

// inTurn gives each request its own handler; the last one stays.
func inTurn(handlers ...http.HandlerFunc) http.HandlerFunc {
	var mu sync.Mutex
	n := 0
	return func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		h := handlers[min(n, len(handlers)-1)]
		n++
		mu.Unlock()
		h(w, r)
	}
}

// hangUp breaks the connection in the middle of a request.
func hangUp(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		_ = conn.Close()
	}
}

// list replies with a list of the objects.
func list(version string, objs ...*unstructured.Unstructured) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		items := make([]any, 0, len(objs))
		for _, o := range objs {
			items = append(items, o.Object)
		}
		reply(w, http.StatusOK, map[string]any{
			"apiVersion": "v1", "kind": "List", "metadata": map[string]any{"resourceVersion": version}, "items": items,
		})
	}
}

func configMap(name string, data map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{"name": name, "namespace": "team", "uid": "uid-" + name, "resourceVersion": "1"},
		"data":     data,
	}}
}

func configMapRef(name string) Ref {
	return Ref{GroupVersionKind: schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}, Namespace: "team", Name: name}
}

// changed is obj after a change.
func changed(obj *unstructured.Unstructured, change func(*unstructured.Unstructured)) *unstructured.Unstructured {
	o := obj.DeepCopy()
	change(o)
	return o
}

const configMaps = "/api/v1/namespaces/team/configmaps"
