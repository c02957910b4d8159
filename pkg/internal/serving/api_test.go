//go:build api

package serving

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"knative.dev/serving/pkg/apis/serving"
	"sigs.k8s.io/yaml"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/test/kit"
)

type kubeconfig struct{ clientcmd.ClientConfig }

func (k kubeconfig) ToRESTConfig() (*rest.Config, error)           { return k.ClientConfig.ClientConfig() }
func (k kubeconfig) ToRawKubeConfigLoader() clientcmd.ClientConfig { return k.ClientConfig }

// knativeCluster is a real API server with Knative's own CRDs, and a namespace that goes with the test.
func knativeCluster(t *testing.T) (k *cluster.Client, namespace string) {
	path := os.Getenv("KUBECTL_MLFLOW_TEST_KUBECONFIG")
	if path == "" {
		t.Skip("KUBECTL_MLFLOW_TEST_KUBECONFIG names no API server")
	}
	k = cluster.New(kubeconfig{clientcmd.NewNonInteractiveDeferredLoadingClientConfig(&clientcmd.ClientConfigLoadingRules{ExplicitPath: path}, nil)})
	kit.Knative(t, path)
	namespace = temporary(t, k, `{apiVersion: v1, kind: Namespace, metadata: {generateName: serving-}}`).Name
	return k, namespace
}

// temporary creates an object for as long as the test runs.
func temporary(t *testing.T, k *cluster.Client, text string) cluster.Ref {
	t.Helper()
	obj := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &obj.Object); err != nil {
		t.Fatal(err)
	}
	made, err := k.Create(t.Context(), obj, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Delete(context.Background(), cluster.RefOf(made), made.GetUID()); err != nil {
			t.Error(err)
		}
	})
	return cluster.RefOf(made)
}

// controller makes a revision of each template, as Knative's does, until the test ends.
func controller(t *testing.T, k *cluster.Client, namespace string) {
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		services := cluster.Query{GroupVersionKind: ServiceRef("", "").GroupVersionKind, Namespace: namespace}
		err := k.Observe(ctx, []cluster.Query{services}, func(objs []*unstructured.Unstructured) (bool, error) {
			for _, service := range objs {
				if err := reconcile(ctx, k, service); err != nil {
					return false, err
				}
			}
			return false, nil
		})
		if ctx.Err() == nil {
			t.Errorf("controller: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
}

func reconcile(ctx context.Context, k *cluster.Client, service *unstructured.Unstructured) error {
	template, _, err := unstructured.NestedMap(service.Object, "spec", "template")
	if err != nil {
		return err
	}
	revision := &unstructured.Unstructured{Object: template}
	revision.SetGroupVersionKind(revisionRef("", "").GroupVersionKind)
	revision.SetNamespace(service.GetNamespace())
	revision.SetName(service.GetName() + "-" + revision.GetAnnotations()[generationKey])
	revision.SetLabels(map[string]string{serving.ServiceLabelKey: service.GetName(), serving.ServiceUIDLabelKey: string(service.GetUID())})
	if _, err := k.Create(ctx, revision, false); !apierrors.IsAlreadyExists(err) {
		return err
	}
	return nil
}

func TestServiceOnARealAPIServer(t *testing.T) {
	k, namespace := knativeCluster(t)
	client := New(k)
	version := func(v string) Spec {
		s := iris(v)
		s.Namespace = namespace
		return s
	}
	if err := client.Check(t.Context(), version("1")); err != nil {
		t.Fatal(err)
	}
	_, err := client.Get(t.Context(), namespace, "iris")
	refused(t, err, failure.Invalid, "DeploymentNotFound")
	elsewhere := version("1")
	elsewhere.Namespace = "nowhere"
	if err := client.Check(t.Context(), elsewhere); failure.ClassOf(err) != failure.Invalid || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("in a namespace that does not exist: %v", err)
	}

	controller(t, k, namespace)
	must := func(s Spec, action, revision string) {
		t.Helper()
		a, err := client.Apply(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		if a.Action != action || a.Revision.Name != revision {
			t.Fatalf("applied %+v, want %s %s", a, action, revision)
		}
	}
	must(version("1"), Created, "iris-1")
	must(version("1"), Unchanged, "iris-1")

	live, err := k.Get(t.Context(), ServiceRef(namespace, "iris"))
	if err != nil {
		t.Fatal(err)
	}
	live.SetAnnotations(map[string]string{"team": "blue"}) // ours are gone: the next deployment puts them back, without a new revision
	if _, err := k.Update(t.Context(), live, false); err != nil {
		t.Fatal(err)
	}
	must(version("1"), Configured, "iris-1")
	must(version("2"), Configured, "iris-2")
	live, err = k.Get(t.Context(), ServiceRef(namespace, "iris"))
	if err != nil {
		t.Fatal(err)
	}
	if a := live.GetAnnotations(); a["team"] != "blue" || a[VersionKey] != "2" {
		t.Errorf("annotations are %v", a)
	}
	overtake(t, client, version)
	if err := client.Delete(t.Context(), namespace, "iris"); err != nil {
		t.Fatal(err)
	}
	_, err = client.Get(t.Context(), namespace, "iris")
	refused(t, err, failure.Invalid, "DeploymentNotFound")
}

// overtake deploys several versions at once: each is applied whole, or told that it was overtaken.
func overtake(t *testing.T, client *Client, version func(string) Spec) {
	var running sync.WaitGroup
	for _, v := range []string{"3", "4", "5"} {
		running.Go(func() {
			a, err := client.Apply(t.Context(), version(v))
			f, told := errors.AsType[*failure.Error](err)
			if told && f.Reason == "Superseded" {
				return
			}
			if err != nil || a.Action != Configured {
				t.Errorf("version %s: %+v, %v", v, a, err)
			}
		})
	}
	running.Wait()
}
