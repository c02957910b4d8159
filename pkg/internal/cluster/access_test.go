package cluster

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

const reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"

func TestMissing(t *testing.T) {
	a, c := newAPI(t, nil)
	a.handlers = map[string]http.HandlerFunc{"POST " + reviews: func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusCreated, map[string]any{
			"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "status": map[string]any{"allowed": false},
		})
	}}
	deployment := Access{
		Verb: "patch", GroupVersionKind: schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"},
		Subresource: "scale", Namespace: "not-there-yet", Name: "mlflow",
	}
	namespace := Access{Verb: "get", GroupVersionKind: schema.GroupVersionKind{Version: "v1", Kind: "Namespace"}, Namespace: "x", Name: "ml"}
	knative := Access{Verb: "get", GroupVersionKind: schema.GroupVersionKind{Group: "serving.knative.dev", Version: "v1", Kind: "Service"}}
	got, err := c.Missing(t.Context(), []Access{deployment, knative, namespace, deployment})
	if err != nil {
		t.Fatal(err)
	}
	deployment.Resource, namespace.Resource, namespace.Namespace = "deployments", "namespaces", ""
	if want := []Access{deployment, namespace}; !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	var asked []string
	for _, body := range a.bodies {
		var review struct {
			Spec struct{ ResourceAttributes map[string]string }
		}
		if body == "" { // discovery of what is not served
			continue
		}
		if err := json.Unmarshal([]byte(body), &review); err != nil {
			t.Fatal(err)
		}
		is := review.Spec.ResourceAttributes
		asked = append(asked, strings.Join([]string{is["verb"], is["group"], is["resource"], is["subresource"], is["namespace"], is["name"]}, " "))
	}
	slices.Sort(asked)
	// A namespace is asked for as lying in itself, which is how the server judges a request for it.
	if want := []string{"* * *   ", "* * *  not-there-yet ", "get  namespaces  ml ml", "patch apps deployments scale not-there-yet mlflow"}; !slices.Equal(asked, want) {
		t.Errorf("asked %q, want %q", asked, want)
	}
}

func TestWhoMayDoEverythingIsAskedOnce(t *testing.T) {
	a, c := newAPI(t, map[string]http.HandlerFunc{"POST " + reviews: func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusCreated, map[string]any{
			"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "status": map[string]any{"allowed": true},
		})
	}})
	var wanted []Access
	for _, verb := range []string{"get", "create", "patch"} {
		wanted = append(wanted, Access{Verb: verb, GroupVersionKind: configMapRef("").GroupVersionKind, Namespace: "ml"})
	}
	if got, err := c.Missing(t.Context(), wanted); len(got) != 0 || err != nil {
		t.Errorf("got %v, %v", got, err)
	}
	questions := 0
	for _, body := range a.bodies {
		if body != "" {
			questions++
		}
	}
	if questions != 1 {
		t.Errorf("asked %d questions, want 1", questions)
	}
}

func TestMissingWhereNobodyAnswers(t *testing.T) {
	pods := []Access{{Verb: "get", GroupVersionKind: configMapRef("").GroupVersion().WithKind("Pod")}}
	denied := refuse(403, metav1.StatusReasonForbidden, `User "eve" cannot create resource "selfsubjectaccessreviews"`, nil)
	_, c := newAPI(t, map[string]http.HandlerFunc{"POST " + reviews: denied})
	if got, err := c.Missing(t.Context(), pods); len(got) != 0 || err != nil {
		t.Errorf("who may not ask misses %v, %v", got, err)
	}
	_, c = newAPI(t, map[string]http.HandlerFunc{"POST " + reviews: refuse(401, metav1.StatusReasonUnauthorized, "Unauthorized", nil)})
	_, err := c.Missing(t.Context(), pods)
	wantFailure(t, err, failure.Forbidden, "Unauthorized", "credentials")
}
