//go:build api

package instance

import (
	"context"
	"os"
	"reflect"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

// realKubeconfig names the kubeconfig of an API server that may be written to. No other one is ever taken.
const realKubeconfig = "KUBECTL_MLFLOW_TEST_KUBECONFIG"

type realGetter struct{ clientcmd.ClientConfig }

func (g realGetter) ToRESTConfig() (*rest.Config, error)           { return g.ClientConfig.ClientConfig() }
func (g realGetter) ToRawKubeConfigLoader() clientcmd.ClientConfig { return g.ClientConfig }

func TestRealRecord(t *testing.T) {
	path := os.Getenv(realKubeconfig)
	if path == "" {
		t.Fatalf("%s is not set: these tests write to an API server, and take none by chance", realKubeconfig)
	}
	c := cluster.New(realGetter{clientcmd.NewNonInteractiveDeferredLoadingClientConfig(&clientcmd.ClientConfigLoadingRules{ExplicitPath: path}, nil)})
	ns, err := c.Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"generateName": "kubectl-mlflow-test-"},
	}}, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Delete(context.WithoutCancel(t.Context()), cluster.RefOf(ns), ns.GetUID()); err != nil {
			t.Errorf("removing the test's namespace: %v", err)
		}
	})
	want := example(ns.GetName())
	record := cluster.Ref{GroupVersionKind: schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}, Namespace: ns.GetName(), Name: Name}
	version := func() string {
		obj, err := c.Get(t.Context(), record)
		if err != nil {
			t.Fatal(err)
		}
		return obj.GetResourceVersion()
	}

	if err := Save(t.Context(), c, want); err != nil {
		t.Fatal(err)
	}
	first := version()
	if err := Save(t.Context(), c, want); err != nil || version() != first {
		t.Errorf("saving the same again wrote: %v", err)
	}
	want.Inventory.Items[1].UID = "2"
	want.Parameters = nil
	if err := Save(t.Context(), c, want); err != nil || version() == first {
		t.Errorf("saving another record did not write: %v", err)
	}
	got, err := Find(t.Context(), c, "no-such-namespace", ns.GetName())
	if err != nil || !reflect.DeepEqual(*got, want) {
		t.Errorf("found %+v, %v; want %+v", got, err, want)
	}
	if err := Delete(t.Context(), c, ns.GetName()); err != nil {
		t.Error(err)
	}
	if i, err := Load(t.Context(), c, ns.GetName()); i != nil || err != nil {
		t.Errorf("after Delete: %+v, %v", i, err)
	}
}
