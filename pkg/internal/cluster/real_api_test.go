//go:build api

package cluster

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// realKubeconfig names the kubeconfig of an API server that may be written to. No other one is ever taken.
const realKubeconfig = "KUBECTL_MLFLOW_TEST_KUBECONFIG"

// realAPI is a client of a real API server, and a namespace of the test's own.
func realAPI(t *testing.T) (*Client, string) {
	t.Helper()
	c := New(realGetter(t))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	made, err := c.Create(ctx, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"generateName": "kubectl-mlflow-test-"},
	}}, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Delete(context.WithoutCancel(t.Context()), RefOf(made), made.GetUID()); err != nil {
			t.Errorf("removing the test's namespace: %v", err)
		}
	})
	return c, made.GetName()
}

func realGetter(t *testing.T) kubeconfig {
	t.Helper()
	path := os.Getenv(realKubeconfig)
	if path == "" {
		t.Fatalf("%s is not set: these tests write to an API server, and take none by chance", realKubeconfig)
	}
	return loadKubeconfig(path, "")
}

// impersonated is what the user may do, asked by an administrator.
type impersonated struct {
	kubeconfig
	user string
}

func (i impersonated) ToRESTConfig() (*rest.Config, error) {
	config, err := i.kubeconfig.ToRESTConfig()
	if err == nil {
		config.Impersonate = rest.ImpersonationConfig{UserName: i.user}
	}
	return config, err
}

func realDeployment(namespace string, replicas int64) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment",
		"metadata": map[string]any{"name": "mlflow", "namespace": namespace, "labels": map[string]any{ManagedByLabel: FieldManager}},
		"spec": map[string]any{
			"replicas": replicas,
			"selector": map[string]any{"matchLabels": map[string]any{"app": "mlflow"}},
			"template": map[string]any{
				"metadata": map[string]any{"labels": map[string]any{"app": "mlflow"}},
				"spec": map[string]any{"containers": []any{map[string]any{
					"name": "mlflow", "image": "mlflow:1", "resources": map[string]any{"requests": map[string]any{"memory": "1024Mi"}}, // the server writes 1Gi
				}}},
			},
		},
	}}
}

func realConfigMap(namespace, name, value string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": name, "namespace": namespace, "labels": map[string]any{"app": "x"}},
		"data": map[string]any{"value": value},
	}}
}

func applyOne(t *testing.T, c *Client, obj *unstructured.Unstructured, dryRun bool) Change {
	t.Helper()
	changes, err := c.Apply(t.Context(), []*unstructured.Unstructured{obj}, dryRun)
	if err != nil {
		t.Fatal(err)
	}
	return changes[0]
}

func TestRealApply(t *testing.T) {
	c, ns := realAPI(t)
	d := realDeployment(ns, 1)

	if got := applyOne(t, c, d, true); got.Action != Created || got.UID != "" {
		t.Errorf("dry run of what is not there: %+v", got)
	}
	if _, err := c.Get(t.Context(), RefOf(d)); !apierrors.IsNotFound(err) {
		t.Errorf("after a dry run: %v, want NotFound", err)
	}
	created := applyOne(t, c, d, false)
	if created.Action != Created || created.UID == "" {
		t.Errorf("first: %+v", created)
	}
	before, err := c.Get(t.Context(), RefOf(d))
	if err != nil {
		t.Fatal(err)
	}
	for _, dryRun := range []bool{true, false} {
		if got := applyOne(t, c, d, dryRun); got.Action != Unchanged || got.UID != created.UID {
			t.Errorf("again, dry run %t: %+v", dryRun, got)
		}
	}
	after, err := c.Get(t.Context(), RefOf(d))
	if err != nil || after.GetResourceVersion() != before.GetResourceVersion() {
		t.Errorf("an apply of the same wrote: %s, then %s, %v", before.GetResourceVersion(), after.GetResourceVersion(), err)
	}
	for _, dryRun := range []bool{true, false} {
		if got := applyOne(t, c, realDeployment(ns, 2), dryRun); got.Action != Configured || got.UID != created.UID {
			t.Errorf("other replicas, dry run %t: %+v", dryRun, got)
		}
	}
}

func TestRealApplyRefusals(t *testing.T) {
	c, ns := realAPI(t)
	applyOne(t, c, realDeployment(ns, 1), false)
	conn, err := c.connect()
	if err != nil {
		t.Fatal(err)
	}
	deployments := schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	_, err = conn.dynamic.Resource(deployments).Namespace(ns).Patch(t.Context(), "mlflow", types.MergePatchType,
		[]byte(`{"spec":{"replicas":5}}`), metav1.PatchOptions{FieldManager: "somebody"})
	if err != nil {
		t.Fatal(err)
	}
	job := func(image string) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "batch/v1", "kind": "Job", "metadata": map[string]any{"name": "migration", "namespace": ns},
			"spec": map[string]any{"template": map[string]any{"spec": map[string]any{
				"restartPolicy": "Never", "containers": []any{map[string]any{"name": "c", "image": image}},
			}}},
		}}
	}
	applyOne(t, c, job("a:1"), false)
	misspelt := realDeployment(ns, 5)
	misspelt.Object["spec"].(map[string]any)["repicas"] = int64(1)
	wrong := realDeployment(ns, -1)
	wrong.SetName("wrong")
	knative := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "no.such.group/v1", "kind": "Service", "metadata": map[string]any{"name": "iris", "namespace": ns},
	}}
	for _, tc := range []struct {
		name         string
		obj          *unstructured.Unstructured
		class        failure.Class
		reason, text string
	}{
		{"another manager's field", realDeployment(ns, 1), failure.Refused, "FieldConflict", `deployment.apps/mlflow: another manager has set .spec.replicas (conflict with "somebody"`},
		{"unknown field", misspelt, failure.Invalid, "ObjectInvalid", "repicas"},
		{"invalid value", wrong, failure.Invalid, "ObjectInvalid", "must be greater than or equal to 0"},
		{"immutable field", job("b:2"), failure.Refused, "ImmutableField", "field is immutable"},
		{"no such namespace", realConfigMap("no-such-namespace", "c", ""), failure.Invalid, "NamespaceNotFound", "namespace no-such-namespace does not exist"},
		{"no such kind", knative, failure.Diagnosed, "KindNotServed", "does not serve Service of no.such.group/v1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := c.Apply(t.Context(), []*unstructured.Unstructured{tc.obj}, false)
			wantFailure(t, err, tc.class, tc.reason, tc.text)
		})
	}
	live, err := c.Get(t.Context(), RefOf(realDeployment(ns, 1)))
	if n, _, _ := unstructured.NestedInt64(live.Object, "spec", "replicas"); err != nil || n != 5 {
		t.Errorf("replicas = %d, %v; want the other manager's 5", n, err)
	}
}

func TestRealRBAC(t *testing.T) {
	c, ns := realAPI(t)
	if _, err := c.Create(t.Context(), realConfigMap(ns, "c", "1"), false); err != nil {
		t.Fatal(err)
	}
	nobody := New(impersonated{realGetter(t), "nobody"})
	_, err := nobody.Get(t.Context(), RefOf(realConfigMap(ns, "c", "")))
	wantFailure(t, err, failure.Forbidden, "Forbidden", "configmap/c: you may not get configmaps in namespace "+ns)
	_, err = nobody.Create(t.Context(), realConfigMap(ns, "d", ""), false)
	wantFailure(t, err, failure.Forbidden, "Forbidden", "you may not create configmaps in namespace "+ns)
	err = nobody.Delete(t.Context(), RefOf(realDeployment(ns, 1)), "")
	wantFailure(t, err, failure.Forbidden, "Forbidden", "you may not delete deployments.apps in namespace "+ns)
	err = nobody.Observe(t.Context(), []Query{QueryOf(RefOf(realConfigMap(ns, "c", "")))}, func([]*unstructured.Unstructured) (bool, error) { return true, nil })
	wantFailure(t, err, failure.Forbidden, "Forbidden", "you may not list configmaps in namespace "+ns)
}

func TestRealPodSecurityIsNotRBAC(t *testing.T) {
	c, ns := realAPI(t)
	namespace := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": ns, "labels": map[string]any{"pod-security.kubernetes.io/enforce": "restricted"}},
	}}
	applyOne(t, c, namespace, false)
	// Without controllers nobody makes it, and admission misses it before it looks at the pod's security.
	account := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ServiceAccount", "metadata": map[string]any{"name": "default", "namespace": ns},
	}}
	applyOne(t, c, account, false)
	pod := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "p", "namespace": ns},
		"spec": map[string]any{"containers": []any{map[string]any{"name": "c", "image": "a:1"}}},
	}}
	_, err := c.Create(t.Context(), pod, true)
	wantFailure(t, err, failure.Refused, "AdmissionRefused", "violates PodSecurity")
}

func TestRealCreateOnceUpdateAndDelete(t *testing.T) {
	c, ns := realAPI(t)
	first, err := c.CreateOnce(t.Context(), realConfigMap(ns, "c", "first"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.CreateOnce(t.Context(), realConfigMap(ns, "c", "second"))
	if value, _, _ := unstructured.NestedString(again.Object, "data", "value"); err != nil || value != "first" || again.GetUID() != first.GetUID() {
		t.Errorf("CreateOnce again: %q, %v", value, err)
	}
	again.SetLabels(map[string]string{"x": "y"})
	if _, err := c.Update(t.Context(), again, false); err != nil {
		t.Fatal(err)
	}
	first.SetLabels(map[string]string{"x": "z"})
	if _, err := c.Update(t.Context(), first, false); !apierrors.IsConflict(err) {
		t.Errorf("an update of what was read before: %v, want Conflict", err)
	}
	if err := c.Delete(t.Context(), RefOf(first), "another-uid"); err != nil {
		t.Errorf("deleting by another UID: %v", err)
	}
	if _, err := c.Get(t.Context(), RefOf(first)); err != nil {
		t.Errorf("it is gone: %v", err)
	}
	for range 2 {
		if err := c.Delete(t.Context(), RefOf(first), first.GetUID()); err != nil {
			t.Errorf("Delete: %v", err)
		}
	}
	if _, err := c.Get(t.Context(), RefOf(first)); !apierrors.IsNotFound(err) {
		t.Errorf("after Delete: %v", err)
	}
}

func TestRealObserve(t *testing.T) {
	c, ns := realAPI(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	kind := realConfigMap(ns, "", "").GroupVersionKind()
	steps := []func() error{
		func() error { _, err := c.Create(ctx, realConfigMap(ns, "a", "1"), false); return err },
		func() error {
			_, err := c.Apply(ctx, []*unstructured.Unstructured{realConfigMap(ns, "b", "1")}, false)
			return err
		},
		func() error {
			return c.Delete(ctx, Ref{GroupVersionKind: kind, Namespace: ns, Name: "a"}, "")
		},
		func() error { return nil },
	}
	var seen []string
	byLabel := Query{GroupVersionKind: kind, Namespace: ns, Selector: labels.SelectorFromSet(labels.Set{"app": "x"})}
	byName := Query{GroupVersionKind: kind, Namespace: ns, Name: "b"}
	err := c.Observe(ctx, []Query{byLabel, byName}, func(objs []*unstructured.Unstructured) (bool, error) {
		now := namesOf(objs)
		if slices.Contains(seen, now) {
			return false, nil
		}
		wanted := []string{"", "a", "a b b", "b b"}
		if i := slices.Index(wanted, now); i == len(seen) { // in between, one watch may be ahead of the other
			seen = append(seen, now)
			return len(seen) == len(wanted), steps[i]()
		}
		return false, nil
	})
	if err != nil {
		t.Errorf("saw %q, then %v", seen, err)
	}
}

// TestRealObserveOutlivesALostWatch watches through connections that the test cuts.
func TestRealObserveOutlivesALostWatch(t *testing.T) {
	c, ns := realAPI(t)
	cut := &cutter{kubeconfig: realGetter(t)}
	watcher := New(cut)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	kind := realConfigMap(ns, "", "").GroupVersionKind()
	made := false
	err := watcher.Observe(ctx, []Query{{GroupVersionKind: kind, Namespace: ns}}, func(objs []*unstructured.Unstructured) (bool, error) {
		if namesOf(objs) == "late" {
			return true, nil
		}
		if !made {
			made = true
			cut.close()
			_, err := c.Create(ctx, realConfigMap(ns, "late", "1"), false)
			return false, err
		}
		return false, nil
	})
	if err != nil {
		t.Error(err)
	}
	if cut.closed() == 0 {
		t.Error("no connection was cut")
	}
}

func TestRealListPages(t *testing.T) {
	c, ns := realAPI(t)
	for _, name := range []string{"a", "b", "c"} {
		if _, err := c.Create(t.Context(), realConfigMap(ns, name, ""), false); err != nil {
			t.Fatal(err)
		}
	}
	objs, err := c.List(t.Context(), Query{GroupVersionKind: realConfigMap(ns, "", "").GroupVersionKind(), Namespace: ns, Selector: labels.SelectorFromSet(labels.Set{"app": "x"})})
	if err != nil || namesOf(objs) != "a b c" || objs[0].GetKind() != "ConfigMap" {
		t.Errorf("List: %q, %v", namesOf(objs), err)
	}
	stop := errors.New("stop")
	if err := c.ListPages(t.Context(), Query{GroupVersionKind: schema.GroupVersionKind{Version: "v1", Kind: "Namespace"}}, func(*unstructured.Unstructured) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("ListPages: %v", err)
	}
}
