package cluster

import (
	"net/http"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

func TestScale(t *testing.T) {
	const path = "/apis/apps/v1/namespaces/team/deployments/mlflow/scale"
	scale := func(spec map[string]any) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{"apiVersion": "autoscaling/v1", "kind": "Scale", "spec": spec}}
	}
	a, c := newAPI(t, map[string]http.HandlerFunc{
		"GET " + path:   inTurn(answer(scale(map[string]any{"replicas": int64(3)})), answer(scale(map[string]any{}))),
		"PATCH " + path: inTurn(answer(scale(nil)), refuse(403, metav1.StatusReasonForbidden, `User "eve" cannot patch resource "deployments/scale"`, &metav1.StatusDetails{Kind: "deployments"})),
	})
	r := Ref{GroupVersionKind: schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}, Namespace: "team", Name: "mlflow"}
	for _, want := range []int64{3, 0} {
		if n, err := c.Replicas(t.Context(), r); n != want || err != nil {
			t.Errorf("Replicas() = %d, %v; want %d", n, err, want)
		}
	}
	if err := c.Scale(t.Context(), r, 0); err != nil {
		t.Fatal(err)
	}
	last := len(a.requests) - 1
	if body, q := a.bodies[last], a.requests[last].URL.Query(); body != `{"spec":{"replicas":0}}` || q.Get("fieldManager") != FieldManager {
		t.Errorf("sent %s with %v", body, q)
	}
	wantFailure(t, c.Scale(t.Context(), r, 1), failure.Forbidden, "Forbidden", "you may not patch deployments")
}
