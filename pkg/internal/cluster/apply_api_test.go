//go:build api

package cluster

import (
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

func replicasOf(t *testing.T, obj *unstructured.Unstructured) int64 {
	t.Helper()
	n, _, err := unstructured.NestedInt64(obj.Object, "spec", "replicas")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// writeAs is what somebody else does to a Deployment.
func writeAs(t *testing.T, c *Client, manager, namespace, patch string) {
	t.Helper()
	conn, err := c.connect()
	if err != nil {
		t.Fatal(err)
	}
	deployments := schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	if _, err := conn.dynamic.Resource(deployments).Namespace(namespace).Patch(t.Context(), "mlflow", types.MergePatchType,
		[]byte(patch), metav1.PatchOptions{FieldManager: manager}); err != nil {
		t.Fatal(err)
	}
}

func TestRealApplyObject(t *testing.T) {
	c, ns := realAPI(t)
	first, err := c.ApplyObject(t.Context(), realDeployment(ns, 1), ApplyOptions{DryRun: true})
	if err != nil || first.Action != Created || first.Before != nil || replicasOf(t, first.After) != 1 {
		t.Errorf("dry run of what is not there: %+v, %v", first, err)
	}
	if _, err := c.Get(t.Context(), first.Ref); !apierrors.IsNotFound(err) {
		t.Errorf("after a dry run: %v", err)
	}
	applyOne(t, c, realDeployment(ns, 1), false)
	for _, dryRun := range []bool{true, false} {
		got, err := c.ApplyObject(t.Context(), realDeployment(ns, 2), ApplyOptions{DryRun: dryRun})
		if err != nil || got.Action != Configured || replicasOf(t, got.Before) != 1 || replicasOf(t, got.After) != 2 {
			t.Errorf("dry run %t: %+v, %v", dryRun, got, err)
		}
	}

	writeAs(t, c, "somebody", ns, `{"spec":{"replicas":5}}`)
	for _, opts := range []ApplyOptions{{}, {Manager: "ci"}} {
		_, err = c.ApplyObject(t.Context(), realDeployment(ns, 1), opts)
		wantFailure(t, err, failure.Refused, "FieldConflict", `.spec.replicas (conflict with "somebody"`)
	}
	got, err := c.ApplyObject(t.Context(), realDeployment(ns, 1), ApplyOptions{Force: true, Manager: "ci"})
	if err != nil || replicasOf(t, got.After) != 1 {
		t.Errorf("with force: %+v, %v", got, err)
	}
	managers := map[string]bool{}
	for _, m := range got.After.GetManagedFields() {
		managers[m.Manager] = true
	}
	if !managers["ci"] {
		t.Errorf("managers are %v, want ci", managers)
	}
}

func TestRealScaleIsTakenBackByApply(t *testing.T) {
	c, ns := realAPI(t)
	d := realDeployment(ns, 3)
	applyOne(t, c, d, false)
	if n, err := c.Replicas(t.Context(), RefOf(d)); n != 3 || err != nil {
		t.Errorf("Replicas = %d, %v", n, err)
	}
	if err := c.Scale(t.Context(), RefOf(d), 0); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Replicas(t.Context(), RefOf(d)); n != 0 || err != nil {
		t.Errorf("scaled to 0: Replicas = %d, %v", n, err)
	}
	got, err := c.ApplyObject(t.Context(), d, ApplyOptions{})
	if err != nil || got.Action != Configured || replicasOf(t, got.After) != 3 {
		t.Errorf("apply after our own scale: %+v, %v", got, err)
	}
	if again := applyOne(t, c, d, false); again.Action != Unchanged {
		t.Errorf("and again: %+v", again)
	}
	gone := RefOf(d)
	gone.Name = "none"
	if _, err := c.Replicas(t.Context(), gone); !apierrors.IsNotFound(err) {
		t.Errorf("of none: %v", err)
	}
	if err := c.Scale(t.Context(), gone, 1); !apierrors.IsNotFound(err) {
		t.Errorf("Scale of none: %v", err)
	}
}

func TestRealPreview(t *testing.T) {
	c, ns := realAPI(t)
	applyOne(t, c, realConfigMap(ns, "b", "1"), false)
	objs := []*unstructured.Unstructured{realDeployment(ns, 1), realConfigMap(ns, "a", "1"), realConfigMap(ns, "b", "2")}
	got, err := c.Preview(t.Context(), objs, ApplyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{Created, Created, Configured} {
		if got[i].Action != want || got[i].Ref != RefOf(objs[i]) || got[i].After == nil {
			t.Errorf("%d: %+v, want %s", i, got[i], want)
		}
	}
	if _, err := c.Get(t.Context(), RefOf(objs[1])); !apierrors.IsNotFound(err) {
		t.Errorf("a preview wrote: %v", err)
	}

	misspelt, wrong := realDeployment(ns, 1), realDeployment(ns, -1)
	misspelt.Object["spec"].(map[string]any)["repicas"] = int64(1)
	wrong.SetName("wrong")
	objs = append(objs, misspelt, realConfigMap("no-such-namespace", "a", ""), wrong, realConfigMap("no-such-namespace", "b", ""))
	_, err = c.Preview(t.Context(), objs, ApplyOptions{})
	if err == nil {
		t.Fatal("no error")
	}
	joined, _ := err.(interface{ Unwrap() []error }) //nolint:errorlint // it is the list itself
	if joined == nil || len(joined.Unwrap()) != 3 {
		t.Fatalf("got %v, want three failures", err)
	}
	for i, want := range []string{"deployment.apps/mlflow: ", "configmap/a: namespace no-such-namespace does not exist", "deployment.apps/wrong: "} {
		if !strings.HasPrefix(joined.Unwrap()[i].Error(), want) {
			t.Errorf("%d: %v, want %s", i, joined.Unwrap()[i], want)
		}
	}
}

func TestRealImmutableFields(t *testing.T) {
	c, ns := realAPI(t)
	claim := func(class, size string) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": map[string]any{"name": "data", "namespace": ns},
			"spec": map[string]any{
				"accessModes": []any{"ReadWriteOnce"}, "storageClassName": class, "resources": map[string]any{"requests": map[string]any{"storage": size}},
			},
		}}
	}
	set := func(service string) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": map[string]any{"name": "postgres", "namespace": ns},
			"spec": map[string]any{
				"serviceName": service, "selector": map[string]any{"matchLabels": map[string]any{"app": "x"}},
				"template": map[string]any{
					"metadata": map[string]any{"labels": map[string]any{"app": "x"}},
					"spec":     map[string]any{"containers": []any{map[string]any{"name": "c", "image": "a:1"}}},
				},
			},
		}}
	}
	selector := realDeployment(ns, 1)
	for _, path := range [][]string{{"spec", "selector", "matchLabels"}, {"spec", "template", "metadata", "labels"}} {
		if err := unstructured.SetNestedStringMap(selector.Object, map[string]string{"app": "other"}, path...); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		before, after *unstructured.Unstructured
		text, hint    string
	}{
		{realDeployment(ns, 1), selector, "deployment.apps/mlflow: spec.selector cannot be changed: field is immutable", "undo the change"},
		{set("a"), set("b"), "statefulset.apps/postgres: spec cannot be changed: updates to statefulset spec for fields other than", "kubectl delete statefulset.apps/postgres --namespace " + ns + " --cascade=orphan"},
		{claim("a", "1Gi"), claim("b", "1Gi"), "persistentvolumeclaim/data: spec cannot be changed: spec is immutable after creation except", "its size can only grow"},
	} {
		applyOne(t, c, tc.before, false)
		_, err := c.ApplyObject(t.Context(), tc.after, ApplyOptions{})
		wantFailure(t, err, failure.Refused, "ImmutableField", tc.text)
		if hint := asFailure(err).Hint; !strings.Contains(hint, tc.hint) {
			t.Errorf("hint %q lacks %q", hint, tc.hint)
		}
	}
}
