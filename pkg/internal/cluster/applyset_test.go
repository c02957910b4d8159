package cluster

import (
	"maps"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestApplySet(t *testing.T) {
	const id = "applyset-19x2oyXDHyeiUx_DizghsY9Exmdkzz1k5Qp6_PhLEkw-v1"
	if got := ApplySetID("mlflow", "ml", "ConfigMap", ""); got != id {
		t.Errorf("ID = %s, want that of kubectl: %s", got, id)
	}
	parent := configMap("mlflow", nil)
	parent.SetNamespace("ml")
	parent.SetLabels(map[string]string{"a": "b"})
	at := func(group, kind, namespace string) Ref {
		return Ref{GroupVersionKind: schema.GroupVersionKind{Group: group, Version: "v1", Kind: kind}, Namespace: namespace, Name: "x"}
	}
	MarkApplySet(parent, "kubectl-mlflow/v1", []Ref{
		at("", "Service", "ml"), at("apps", "Deployment", "ml"), at("apps", "Deployment", "other"), at("", "Namespace", ""), at("", "Service", "another"),
	})
	if want := map[string]string{"a": "b", "applyset.kubernetes.io/id": id}; !maps.Equal(parent.GetLabels(), want) {
		t.Errorf("labels %v, want %v", parent.GetLabels(), want)
	}
	want := map[string]string{
		"applyset.kubernetes.io/tooling":               "kubectl-mlflow/v1",
		"applyset.kubernetes.io/contains-group-kinds":  "Deployment.apps,Namespace,Service",
		"applyset.kubernetes.io/additional-namespaces": "another,other",
	}
	if !maps.Equal(parent.GetAnnotations(), want) {
		t.Errorf("annotations %v, want %v", parent.GetAnnotations(), want)
	}
	member := configMap("c", nil)
	JoinApplySet(member, id)
	if got := member.GetLabels()["applyset.kubernetes.io/part-of"]; got != id {
		t.Errorf("part of %q", got)
	}
}
