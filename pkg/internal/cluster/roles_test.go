package cluster

import (
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestRolesGrantInFewLines(t *testing.T) {
	core := func(kind string) schema.GroupVersionKind { return schema.GroupVersionKind{Version: "v1", Kind: kind} }
	apps := func(kind string) schema.GroupVersionKind {
		return schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: kind}
	}
	accesses := []Access{
		{Verb: "patch", GroupVersionKind: apps("Deployment"), Namespace: "ml", Name: "mlflow"},
		{Verb: "get", GroupVersionKind: apps("Deployment"), Namespace: "ml", Name: "mlflow"},
		{Verb: "create", GroupVersionKind: apps("Deployment"), Namespace: "ml", Name: "mlflow"},
		{Verb: "get", GroupVersionKind: apps("StatefulSet"), Namespace: "ml", Name: "mlflow"},
		{Verb: "patch", GroupVersionKind: apps("StatefulSet"), Namespace: "ml", Name: "mlflow"},
		{Verb: "patch", GroupVersionKind: apps("Deployment"), Subresource: "scale", Namespace: "ml", Name: "mlflow"},
		{Verb: "get", GroupVersionKind: core("Secret"), Namespace: "ml", Name: "mlflow-secret"},
		{Verb: "get", GroupVersionKind: core("Secret"), Namespace: "ml", Name: "mlflow-auth"},
		{Verb: "list", GroupVersionKind: core("Pod"), Namespace: "ml"},
		{Verb: "get", GroupVersionKind: core("Pod"), Namespace: "ml"},
		{Verb: "get", GroupVersionKind: core("Pod"), Namespace: "ml", Name: "one"}, // granted by the line before
		{Verb: "get", GroupVersionKind: core("Service"), Namespace: "other"},
		{Verb: "get", GroupVersionKind: core("Namespace"), Name: "ml"},
		{Verb: "create", GroupVersionKind: core("Namespace")},
		{Verb: "list", GroupVersionKind: schema.GroupVersionKind{Group: "x", Version: "v1", Kind: "Ox"}, Resource: "oxen"}, // as the server told
	}
	want := `apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: kubectl-mlflow
rules:
- apiGroups: [""]
  resources: ["namespaces"]
  verbs: ["create"]
- apiGroups: [""]
  resources: ["namespaces"]
  resourceNames: ["ml"]
  verbs: ["get"]
- apiGroups: ["x"]
  resources: ["oxen"]
  verbs: ["list"]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: kubectl-mlflow
  namespace: ml
rules:
- apiGroups: [""]
  resources: ["pods"]
  verbs: ["get", "list"]
- apiGroups: [""]
  resources: ["secrets"]
  resourceNames: ["mlflow-auth", "mlflow-secret"]
  verbs: ["get"]
- apiGroups: ["apps"]
  resources: ["deployments"]
  verbs: ["create"]
- apiGroups: ["apps"]
  resources: ["deployments", "statefulsets"]
  resourceNames: ["mlflow"]
  verbs: ["get", "patch"]
- apiGroups: ["apps"]
  resources: ["deployments/scale"]
  resourceNames: ["mlflow"]
  verbs: ["patch"]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: kubectl-mlflow
  namespace: other
rules:
- apiGroups: [""]
  resources: ["services"]
  verbs: ["get"]
`
	for range 2 {
		if got := Roles(accesses); got != want {
			t.Errorf("got:\n%s\nwant:\n%s", got, want)
		}
		slices.Reverse(accesses)
	}
	if got := Roles(nil); got != "" {
		t.Errorf("nothing is granted by %q", got)
	}
}
