package complete

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// getter is a kubeconfig of one server.
type getter struct{ url string }

func (g getter) ToRESTConfig() (*rest.Config, error) {
	return g.ToRawKubeConfigLoader().ClientConfig()
}

func (g getter) ToRawKubeConfigLoader() clientcmd.ClientConfig {
	return clientcmd.NewDefaultClientConfig(api.Config{
		CurrentContext: "one",
		Clusters:       map[string]*api.Cluster{"one": {Server: g.url}},
		Contexts:       map[string]*api.Context{"one": {Cluster: "one", Namespace: "models"}},
	}, &clientcmd.ConfigOverrides{})
}

// apiServer has two namespaces and two deployments; it warns with every answer, as one does of what is deprecated.
func apiServer(t *testing.T) getter {
	t.Helper()
	list := func(apiVersion, kind string, names ...string) string {
		var items []string
		for _, name := range names {
			items = append(items, fmt.Sprintf(`{"apiVersion": %q, "kind": %q, "metadata": {"name": %q, "namespace": "models", "labels": {"app.kubernetes.io/managed-by": "kubectl-mlflow"}}}`, apiVersion, kind, name))
		}
		return fmt.Sprintf(`{"apiVersion": %q, "kind": "%sList", "metadata": {}, "items": [%s]}`, apiVersion, kind, strings.Join(items, ","))
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Warning", `299 - "deprecated"`)
		switch r.URL.Path {
		case "/api/v1/namespaces":
			_, _ = w.Write([]byte(list("v1", "Namespace", "default", "models", "kube-system", "bad name")))
		case "/apis/serving.knative.dev/v1":
			_, _ = w.Write([]byte(`{"kind": "APIResourceList", "groupVersion": "serving.knative.dev/v1", "resources": [{"name": "services", "kind": "Service", "namespaced": true, "verbs": ["list"]}]}`))
		case "/apis/serving.knative.dev/v1/namespaces/models/services":
			_, _ = w.Write([]byte(list("serving.knative.dev/v1", "Service", "iris", "wine")))
		default:
			t.Logf("%s: not found", r.URL.Path)
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(server.Close)
	return getter{server.URL}
}

// press is what the TAB key shows at the end of a line.
func press(t *testing.T, g getter, line ...string) []string {
	t.Helper()
	root := &cobra.Command{Use: "kubectl-mlflow"}
	root.PersistentFlags().StringP("namespace", "n", "", "")
	nothing := func(*cobra.Command, []string) error { return nil }
	predict := &cobra.Command{Use: "predict", RunE: nothing}
	predict.Flags().String("filename", "", "")
	predict.Flags().String("input", "", "")
	predict.Flags().Bool("example", false, "")
	root.AddCommand(predict)
	New(g, func(string) string { return "" }).Register(root)
	var out, errOut strings.Builder
	root.SetOut(&out)
	root.SetErr(&errOut)
	root.SetArgs(append([]string{"__complete"}, line...))
	if err := root.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if said := strings.TrimSpace(errOut.String()); strings.Count(said, "\n") > 0 {
		t.Errorf("on standard error: %s", said)
	}
	return strings.Fields(out.String())
}

func TestTAB(t *testing.T) {
	g := apiServer(t)
	for name, c := range map[string]struct {
		line, want []string
	}{
		"namespaces":       {[]string{"predict", "--namespace", ""}, []string{"default", "models", "kube-system", ":4"}},
		"some namespaces":  {[]string{"predict", "-n", "kube"}, []string{"kube-system", ":4"}},
		"deployments":      {[]string{"predict", ""}, []string{"iris", "wine", ":4"}},
		"some deployments": {[]string{"predict", "w"}, []string{"wine", ":4"}},
		"no more words":    {[]string{"predict", "iris", ""}, []string{":4"}},
		"free text":        {[]string{"predict", "iris", "--input", ""}, []string{":4"}},
		"a file":           {[]string{"predict", "iris", "--filename", ""}, []string{":0"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := press(t, g, c.line...); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestTABWithoutACluster(t *testing.T) {
	for _, line := range [][]string{{"predict", ""}, {"predict", "-n", ""}} {
		if got := press(t, getter{"http://127.0.0.1:1"}, line...); !slices.Equal(got, []string{":4"}) {
			t.Errorf("%v: got %q", line, got)
		}
	}
}

func TestCredentialPluginsAskNothing(t *testing.T) {
	provider := &api.ExecConfig{Command: "login"}
	config, err := silent{asking{provider}}.ToRESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	if !config.ExecProvider.StdinUnavailable || config.Timeout != patience {
		t.Errorf("standard input is open, or the time is: %v, %v", config.ExecProvider.StdinUnavailable, config.Timeout)
	}
	if provider.StdinUnavailable {
		t.Error("the kubeconfig's own entry was changed")
	}
}

type asking struct{ provider *api.ExecConfig }

func (a asking) ToRESTConfig() (*rest.Config, error) {
	return &rest.Config{ExecProvider: a.provider}, nil
}
func (a asking) ToRawKubeConfigLoader() clientcmd.ClientConfig { return nil }
