package cluster

import (
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const (
	// FieldManager is the name under which all writes are made; it is the user agent too.
	FieldManager = "kubectl-mlflow"
	// ManagedByLabel is on every object that we apply, with the value FieldManager.
	ManagedByLabel = "app.kubernetes.io/managed-by"
	// KeepKey is a label or an annotation; with the value "true" the object outlives Prune and DeleteInventory.
	KeepKey = "mlflow.kubectl/keep"
)

// Ref names one object.
type Ref struct {
	schema.GroupVersionKind
	Namespace, Name string
}

// RefOf names obj.
func RefOf(obj *unstructured.Unstructured) Ref {
	return Ref{GroupVersionKind: obj.GroupVersionKind(), Namespace: obj.GetNamespace(), Name: obj.GetName()}
}

// String is kubectl's form, without the namespace: "deployment.apps/mlflow", "pod/mlflow-0".
func (r Ref) String() string {
	kind := strings.ToLower(r.Kind)
	if r.Group != "" {
		kind += "." + r.Group
	}
	if r.Name == "" {
		return kind
	}
	return kind + "/" + r.Name
}

// ServicePort is a port of a Service, by number or by name: what a tunnel leads to.
type ServicePort struct {
	Namespace string `json:"namespace"`
	Service   string `json:"service"`
	Port      string `json:"port"`
}

// Query selects objects of one kind. An empty Namespace is all namespaces, or a kind that has none.
type Query struct {
	schema.GroupVersionKind
	Namespace string
	Name      string          // or
	Selector  labels.Selector // nil is everything
	// Optional makes List and Observe take a kind that may not be read, or that is not served, as empty.
	Optional bool
}

// QueryOf selects the one object that r names.
func QueryOf(r Ref) Query {
	return Query{GroupVersionKind: r.GroupVersionKind, Namespace: r.Namespace, Name: r.Name}
}
