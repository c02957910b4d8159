package serving

import (
	"errors"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

func TestVersionIsThatOfTheRelease(t *testing.T) {
	definition := cluster.Ref{GroupVersionKind: schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}, Name: "services.serving.knative.dev"}
	controller := cluster.Ref{GroupVersionKind: schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}, Namespace: "knative-serving", Name: "controller"}
	for _, c := range []struct {
		labels map[cluster.Ref]string
		want   string
		reason string
	}{
		{nil, "", ""},
		{map[cluster.Ref]string{definition: "1.21.0"}, "v1.21.0", ""},
		{map[cluster.Ref]string{definition: "devel", controller: "v1.10.2"}, "v1.10.2", ""},
		{map[cluster.Ref]string{controller: "1.9.4"}, "", "KnativeTooOld"},
	} {
		w := newWorld(t)
		for r, version := range c.labels {
			obj := &unstructured.Unstructured{Object: map[string]any{}}
			obj.SetLabels(map[string]string{"app.kubernetes.io/version": version})
			w.objects[r] = obj
		}
		got, err := New(w).Version(t.Context())
		f, _ := errors.AsType[*failure.Error](err)
		if got != c.want || (f != nil) != (c.reason != "") || f != nil && f.Reason != c.reason {
			t.Errorf("%v: got %q, %v", c.labels, got, err)
		}
	}
	w := newWorld(t)
	w.noKnative = true
	if _, err := New(w).Version(t.Context()); failure.ClassOf(err) != failure.Diagnosed {
		t.Errorf("no Knative: %v", err)
	}
}
