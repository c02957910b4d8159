//go:build api

package trackingserver

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/rest"

	"github.com/kubectl-mlflow/kubectl-mlflow/manifests"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/readiness"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/tracking"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// realKubeconfig names the kubeconfig of an API server that may be written to. No other one is ever taken.
const realKubeconfig = "KUBECTL_MLFLOW_TEST_KUBECONFIG"

// testClass is a storage class that gives no volumes. It stays: others may be using it.
const testClass = "kubectl-mlflow-test"

// warnings are what the API server says beside its answers.
type warnings struct {
	mu   sync.Mutex
	said []string
}

func (w *warnings) HandleWarningHeader(_ int, _ string, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, text)
}

// take returns what was said since the last call.
func (w *warnings) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	said := w.said
	w.said = nil
	return said
}

// testbed is an API server and a namespace of the test's own in it, which holds Pods to the standard "restricted".
type testbed struct {
	cluster   *cluster.Client
	flags     *genericclioptions.ConfigFlags
	warnings  *warnings
	namespace string
}

func openReal(t *testing.T) *testbed {
	t.Helper()
	path := os.Getenv(realKubeconfig)
	if path == "" {
		t.Fatalf("%s is not set: these tests write to an API server, and take none by chance", realKubeconfig)
	}
	r := &testbed{flags: genericclioptions.NewConfigFlags(false), warnings: &warnings{}}
	r.flags.KubeConfig = &path
	r.flags.WithWrapConfigFn(func(config *rest.Config) *rest.Config {
		config.WarningHandler = r.warnings
		return config
	})
	r.cluster = cluster.New(r.flags)
	made, err := r.cluster.Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{
			"generateName": "kubectl-mlflow-test-",
			"labels":       map[string]any{"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"},
		},
	}}, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.cluster.Delete(context.WithoutCancel(t.Context()), cluster.RefOf(made), made.GetUID()); err != nil {
			t.Errorf("removing the test's namespace: %v", err)
		}
	})
	r.namespace = made.GetName()
	// Not the default: other tests are about a cluster that has none.
	_, err = r.cluster.CreateOnce(t.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": map[string]any{"name": testClass}, "provisioner": "kubernetes.io/no-provisioner",
	}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// client is a Client on a real API server without controllers: what pods would do is taken as done.
func (r *testbed) client() *Client {
	c := New(r.flags, manifests.FS, progress.Discard{})
	c.wait = func(context.Context, []readiness.Target, progress.Step) error { return nil }
	c.probe = func(context.Context, tunnel, tracking.Credentials) error { return nil }
	return c
}

// versions are all objects of the namespace that are ours, with the versions that a write would change.
func (r *testbed) versions(t *testing.T) map[string]string {
	t.Helper()
	kinds, err := r.cluster.NamespacedKinds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, kind := range kinds {
		objs, err := r.cluster.List(t.Context(), cluster.Query{GroupVersionKind: kind, Namespace: r.namespace})
		if err != nil {
			t.Fatal(err)
		}
		for _, obj := range objs {
			if obj.GetLabels()[cluster.ManagedByLabel] == cluster.FieldManager {
				found[cluster.RefOf(obj).String()] = obj.GetResourceVersion()
			}
		}
	}
	return found
}

func TestRealInstallAgainUninstallInstall(t *testing.T) {
	r := openReal(t)
	p := Parameters{Namespace: r.namespace, DatabaseStorage: "50Gi", StorageClass: testClass}
	for _, change := range mustInstall(t, r.client(), p) {
		if change.Action != cluster.Created {
			t.Errorf("first install: %s %s", change.Object(), change.Action)
		}
	}
	before := r.versions(t)
	began := time.Now()
	for _, change := range mustInstall(t, r.client(), Parameters{Namespace: r.namespace}) {
		if change.Action != Unchanged {
			t.Errorf("second install: %s %s", change.Object(), change.Action)
		}
	}
	t.Logf("a rerun with nothing to do takes %v", time.Since(began))
	for object, version := range r.versions(t) {
		if before[object] != version {
			t.Errorf("second install: %s has version %s, had %q", object, version, before[object])
		}
	}

	r.flags.Namespace = &r.namespace
	if _, err := r.client().Uninstall(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	var left []string
	for object, version := range r.versions(t) {
		left = append(left, object)
		if object != "configmap/kubectl-mlflow" && version != before[object] {
			t.Errorf("uninstall wrote %s", object)
		}
	}
	slices.Sort(left)
	want := []string{"configmap/kubectl-mlflow", "persistentvolumeclaim/mlflow-artifacts", "persistentvolumeclaim/postgres-data", "secret/mlflow-secret"}
	if !slices.Equal(left, want) {
		t.Errorf("uninstall left %v, want %v", left, want)
	}
	for _, change := range mustInstall(t, r.client(), Parameters{Namespace: r.namespace}) {
		kept := change.Kind == "Secret" || change.Kind == "PersistentVolumeClaim"
		if unchanged := change.Action == Unchanged; unchanged != kept {
			t.Errorf("install after uninstall: %s %s", change.Object(), change.Action)
		}
	}

	secret := core("Secret", r.namespace, secretName)
	if err := r.cluster.Delete(t.Context(), secret, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := r.client().Install(t.Context(), p, Options{}); failure.ClassOf(err) != failure.Refused {
		t.Errorf("install without the Secret of its data: got %v, want it refused", err)
	}
}

func mustInstall(t *testing.T, c *Client, p Parameters) []Change {
	t.Helper()
	done, err := c.Install(t.Context(), p, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return done
}

func TestRealInstallTakesItsNamespaceBackWhenTheDryRunFails(t *testing.T) {
	r := openReal(t)
	broken := fstest.MapFS{}
	err := fs.WalkDir(manifests.FS, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := manifests.FS.ReadFile(name)
		broken[name] = &fstest.MapFile{Data: bytes.ReplaceAll(text, []byte("port: 5000"), []byte("port: 70000"))}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	c := r.client()
	c.manifests = broken
	name := r.namespace + "-more"
	done, err := c.Install(t.Context(), Parameters{Namespace: name, StorageClass: testClass}, Options{})
	if failure.ClassOf(err) != failure.Invalid || !strings.Contains(err.Error(), "70000") || len(done) > 0 {
		t.Errorf("got %v, %v, want the port refused", done, err)
	}
	live, err := c.get(t.Context(), core("Namespace", "", name))
	if err != nil || live != nil && live.GetDeletionTimestamp() == nil {
		t.Errorf("the namespace stays: %v", err)
	}
}
