//go:build api

package cluster

import (
	"context"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

// TestRealRolesGrantWhatIsMissing goes in a circle: what a limited user misses, granted by the roles, is missing no more.
func TestRealRolesGrantWhatIsMissing(t *testing.T) {
	c, ns := realAPI(t)
	core := func(kind string) schema.GroupVersionKind { return schema.GroupVersionKind{Version: "v1", Kind: kind} }
	deployment := realDeployment(ns, 1).GroupVersionKind()
	accesses := []Access{
		{Verb: "get", GroupVersionKind: core("ConfigMap"), Namespace: ns},
		{Verb: "create", GroupVersionKind: core("Secret"), Namespace: ns, Name: "mlflow-secret"},
		{Verb: "get", GroupVersionKind: core("Secret"), Namespace: ns, Name: "mlflow-secret"},
		{Verb: "patch", GroupVersionKind: deployment, Namespace: ns},
		{Verb: "patch", GroupVersionKind: deployment, Subresource: "scale", Namespace: ns},
		{Verb: "get", GroupVersionKind: core("Pod"), Subresource: "log", Namespace: ns},
		{Verb: "get", GroupVersionKind: core("Namespace"), Name: ns},
		{Verb: "create", GroupVersionKind: core("Namespace")},
		{Verb: "list", GroupVersionKind: core("Node")},
		{Verb: "get", GroupVersionKind: schema.GroupVersionKind{Group: "no.such.group", Version: "v1", Kind: "Thing"}, Namespace: ns},
	}
	if missing, err := c.Missing(t.Context(), accesses); len(missing) != 0 || err != nil {
		t.Errorf("an administrator misses %+v, %v", missing, err)
	}
	user := "limited-" + ns
	limited := New(impersonated{realGetter(t), user})
	missing, err := limited.Missing(t.Context(), accesses)
	if err != nil || len(missing) != len(accesses)-1 {
		t.Fatalf("%s misses %d, %v: %+v; want all but what is not served", user, len(missing), err, missing)
	}

	// A Role in the namespace allows to get the namespace itself.
	bind(t, c, user, ns, Roles([]Access{{Verb: "get", GroupVersionKind: core("Namespace"), Namespace: ns}}))
	missesNothing(t, limited, []Access{{Verb: "get", GroupVersionKind: core("Namespace"), Name: ns}})

	bind(t, c, user, ns, Roles(missing))
	missesNothing(t, limited, accesses)
	namespace := Access{Verb: "get", GroupVersionKind: core("ConfigMap"), Namespace: "not-there-yet"}
	if missing, err := limited.Missing(t.Context(), []Access{namespace}); len(missing) != 1 || err != nil {
		t.Errorf("in a namespace that is not there: %+v, %v", missing, err)
	}
}

// missesNothing waits until the server's authorizer has heard of the roles, which it watches.
func missesNothing(t *testing.T, c *Client, accesses []Access) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		missing, err := c.Missing(t.Context(), accesses)
		if err != nil {
			t.Fatal(err)
		}
		if len(missing) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("misses %+v", missing)
		}
	}
}

// bind creates the roles, under names of this namespace, and binds the user to them.
func bind(t *testing.T, c *Client, user, ns, roles string) {
	t.Helper()
	for doc := range strings.SplitSeq(roles, "---\n") {
		role := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(doc), &role.Object); err != nil {
			t.Fatal(err)
		}
		if role.GetKind() == "ClusterRole" {
			role.SetName(role.GetName() + "-" + ns)
		}
		applyOne(t, c, role, false)
		binding := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": role.GetAPIVersion(), "kind": role.GetKind() + "Binding", "metadata": map[string]any{"name": role.GetName(), "namespace": role.GetNamespace()},
			"roleRef":  map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": role.GetKind(), "name": role.GetName()},
			"subjects": []any{map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}},
		}}
		applyOne(t, c, binding, false)
		for _, obj := range []*unstructured.Unstructured{binding, role} {
			t.Cleanup(func() {
				if err := c.Delete(context.WithoutCancel(t.Context()), RefOf(obj), ""); err != nil {
					t.Log(err)
				}
			})
		}
	}
}
