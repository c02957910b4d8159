package deployments

import (
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

// apiServer answers with a fixed body for each path.
type apiServer map[string]string

func (a apiServer) client(t *testing.T, denied bool) *cluster.Client {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		text, ok := a[r.URL.Path]
		switch {
		case !ok:
			http.NotFound(w, r)
		case denied && r.URL.Path != "/api/v1":
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(`{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": 403,
				"message": "nodes is forbidden: User \"u\" cannot list resource \"nodes\""}`))
		default:
			_, _ = w.Write([]byte(text))
		}
	}))
	t.Cleanup(server.Close)
	return cluster.New(getter{server.URL})
}

type getter struct{ host string }

func (g getter) ToRESTConfig() (*rest.Config, error) { return &rest.Config{Host: g.host}, nil }
func (g getter) ToRawKubeConfigLoader() clientcmd.ClientConfig {
	return clientcmd.NewDefaultClientConfig(*clientcmdapi.NewConfig(), nil)
}

func TestArchitecturesOfTheNodes(t *testing.T) {
	server := apiServer{
		"/api/v1": `{"kind": "APIResourceList", "groupVersion": "v1", "resources": [{"name": "nodes", "kind": "Node", "namespaced": false, "verbs": ["list"]}]}`,
		"/api/v1/nodes": `{"kind": "NodeList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": [
			{"metadata": {"name": "a"}, "status": {"nodeInfo": {"operatingSystem": "linux", "architecture": "arm64"}}},
			{"metadata": {"name": "b"}, "status": {"nodeInfo": {"operatingSystem": "windows", "architecture": "amd64"}}},
			{"metadata": {"name": "c"}, "status": {"nodeInfo": {"operatingSystem": "linux", "architecture": "arm64"}}}]}`,
	}
	if got, err := architectures(t.Context(), server.client(t, false)); err != nil || !reflect.DeepEqual(got, []string{"arm64"}) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := architectures(t.Context(), server.client(t, true)); err != nil || len(got) != 0 {
		t.Errorf("where nodes may not be listed: %v, %v", got, err)
	}
}
