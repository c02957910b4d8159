package deployments_test

import (
	"net/http"
	"net/http/httptest"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/deployments"
)

// loader is a kubeconfig in memory.
type loader struct{ clientcmd.ClientConfig }

func (l loader) ToRESTConfig() (*rest.Config, error)           { return l.ClientConfig.ClientConfig() }
func (l loader) ToRawKubeConfigLoader() clientcmd.ClientConfig { return l.ClientConfig }

// exampleCluster is an API server that knows two deployments, one of which answers.
func exampleCluster() (getter deployments.Getter, end func()) {
	const service = `{"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {"name": "NAME", "namespace": "models", "generation": 1,
		"annotations": {"mlflow.kubectl/model-uri": "models:/NAME/VERSION"}}, "status": {"observedGeneration": 1, "url": "http://ADDRESS", "conditions": [CONDITION]}}`
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	iris := strings.NewReplacer("NAME", "iris", "VERSION", "3", "CONDITION", `{"type": "Ready", "status": "True"}`, "ADDRESS", server.Listener.Addr().String()).Replace(service)
	wine := strings.NewReplacer("NAME", "wine", "VERSION", "1", "ADDRESS", "wine.models.example.com", "CONDITION", `{"type": "Ready", "status": "Unknown",
		"reason": "RevisionMissing", "message": "Configuration \"wine\" is waiting for a Revision to become ready."}`).Replace(service)
	for path, answer := range map[string]string{
		"GET /apis/serving.knative.dev/v1":                                 `{"kind": "APIResourceList", "resources": [{"name": "services", "kind": "Service", "namespaced": true}]}`,
		"GET /apis/serving.knative.dev/v1/namespaces/models/services":      `{"apiVersion": "serving.knative.dev/v1", "kind": "ServiceList", "items": [` + iris + `,` + wine + `]}`,
		"GET /apis/serving.knative.dev/v1/namespaces/models/services/iris": iris,
		"GET /api/v1":       `{"kind": "APIResourceList", "resources": [{"name": "configmaps", "kind": "ConfigMap", "namespaced": true}, {"name": "services", "kind": "Service", "namespaced": true}]}`,
		"POST /invocations": `{"predictions": [0]}`,
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(answer)) // who does not read it fails by itself
		})
	}
	config := api.NewConfig()
	config.Clusters["example"] = &api.Cluster{Server: server.URL}
	config.Contexts["example"] = &api.Context{Cluster: "example"}
	config.CurrentContext = "example"
	return loader{clientcmd.NewDefaultClientConfig(*config, nil)}, server.Close
}
