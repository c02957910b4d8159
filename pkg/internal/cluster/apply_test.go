package cluster

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

func TestApplyTellsWhatItDid(t *testing.T) {
	live := configMap("c", map[string]any{"a": "1"})
	bookkeeping := changed(live, func(o *unstructured.Unstructured) {
		o.SetResourceVersion("2")
		o.SetGeneration(3)
		o.SetManagedFields([]metav1.ManagedFieldsEntry{{Manager: FieldManager}})
		o.Object["status"] = map[string]any{"replicas": int64(1)}
	})
	other := changed(live, func(o *unstructured.Unstructured) { o.Object["data"] = map[string]any{"a": "2"} })
	labelled := changed(live, func(o *unstructured.Unstructured) { o.SetLabels(map[string]string{"x": "y"}) })
	absent := refuse(http.StatusNotFound, metav1.StatusReasonNotFound, "gone", nil)
	for _, tc := range []struct {
		name   string
		before http.HandlerFunc
		after  *unstructured.Unstructured
		dryRun bool
		action string
		uid    string
	}{
		{name: "absent", before: absent, after: live, action: Created, uid: "uid-c"},
		{name: "absent, dry run", before: absent, after: live, dryRun: true, action: Created},
		{name: "the same", before: answer(live), after: live, action: Unchanged, uid: "uid-c"},
		{name: "status and bookkeeping moved meanwhile", before: answer(live), after: bookkeeping, action: Unchanged, uid: "uid-c"},
		{name: "data", before: answer(live), after: other, action: Configured, uid: "uid-c"},
		{name: "data, dry run, which keeps the resourceVersion", before: answer(live), after: other, dryRun: true, action: Configured, uid: "uid-c"},
		{name: "label", before: answer(live), after: labelled, action: Configured, uid: "uid-c"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, c := newAPI(t, map[string]http.HandlerFunc{
				"GET " + configMaps + "/c": tc.before, "PATCH " + configMaps + "/c": answer(tc.after),
			})
			changes, err := c.Apply(t.Context(), []*unstructured.Unstructured{live}, tc.dryRun)
			if err != nil {
				t.Fatal(err)
			}
			if len(changes) != 1 || changes[0].Action != tc.action || string(changes[0].UID) != tc.uid || changes[0].Ref != configMapRef("c") {
				t.Errorf("changes = %+v, want %s with UID %q", changes, tc.action, tc.uid)
			}
			patch := a.requests[len(a.requests)-1]
			q := patch.URL.Query()
			if q.Get("fieldManager") != "kubectl-mlflow" || q.Get("force") != "false" || q.Get("fieldValidation") != "Strict" || (q.Get("dryRun") == "All") != tc.dryRun {
				t.Errorf("query = %v", q)
			}
			if got := patch.Header.Get("Content-Type"); got != "application/apply-patch+yaml" {
				t.Errorf("content type = %s", got)
			}
			if got := patch.Header.Get("User-Agent"); got != "kubectl-mlflow" {
				t.Errorf("user agent = %s", got)
			}
		})
	}
}

func TestApplyStopsAtTheFirstErrorAndTellsWhatWasDone(t *testing.T) {
	first, second, third := configMap("a", nil), configMap("b", nil), configMap("c", nil)
	a, c := newAPI(t, map[string]http.HandlerFunc{
		"PATCH " + configMaps + "/a": answer(first),
		"PATCH " + configMaps + "/b": refuse(http.StatusUnprocessableEntity, metav1.StatusReasonInvalid, "bad", nil),
		"PATCH " + configMaps + "/c": answer(third),
	})
	changes, err := c.Apply(t.Context(), []*unstructured.Unstructured{first, second, third}, false)
	if failure.ClassOf(err) != failure.Invalid {
		t.Errorf("err = %v, want Invalid", err)
	}
	if len(changes) != 1 || changes[0].Name != "a" {
		t.Errorf("changes = %+v, want that of a alone", changes)
	}
	if a.count("PATCH", configMaps+"/c") != 0 {
		t.Error("c was applied after b had failed")
	}
}

func TestApplyObjectReturnsTheObjectBeforeAndAfter(t *testing.T) {
	before := configMap("c", map[string]any{"a": "1"})
	after := configMap("c", map[string]any{"a": "2"})
	a, c := newAPI(t, map[string]http.HandlerFunc{"GET " + configMaps + "/c": answer(before), "PATCH " + configMaps + "/c": answer(after)})
	got, err := c.ApplyObject(t.Context(), after, ApplyOptions{DryRun: true, Force: true, Manager: "ci"})
	if err != nil {
		t.Fatal(err)
	}
	if got.Action != Configured || !same(got.Before, before) || !same(got.After, after) {
		t.Errorf("got %+v", got)
	}
	if q := a.requests[1].URL.Query(); q.Get("fieldManager") != "ci" || q.Get("force") != "true" || q.Get("dryRun") != "All" {
		t.Errorf("query = %v", q)
	}
	a.handlers["GET "+configMaps+"/c"] = nil
	if got, err = c.ApplyObject(t.Context(), after, ApplyOptions{}); err != nil || got.Action != Created || got.Before != nil {
		t.Errorf("of what was not there: %+v, %v", got, err)
	}
}

// conflict is what the server says of fields that others manage.
func conflict(managers ...string) http.HandlerFunc {
	details := &metav1.StatusDetails{}
	for _, m := range managers {
		details.Causes = append(details.Causes, metav1.StatusCause{
			Type: metav1.CauseTypeFieldManagerConflict, Field: ".spec.replicas", Message: "conflict with " + m + " using apps/v1",
		})
	}
	return refuse(409, metav1.StatusReasonConflict, "Apply failed", details)
}

func TestOurOwnFieldsAreNoConflict(t *testing.T) {
	for _, tc := range []struct {
		name     string
		managers []string
		as       string
		ours     bool
	}{
		{"our scale", []string{`"kubectl-mlflow" with subresource "scale"`}, "", true},
		{"our update and our scale", []string{`"kubectl-mlflow"`, `"kubectl-mlflow" with subresource "scale"`}, "ci", true},
		{"an update under our other name", []string{`"ci"`}, "ci", true},
		{"somebody", []string{`"kubectl-mlflow"`, `"kubectl-scale"`}, "", false},
		{"somebody of a similar name", []string{`"kubectl-mlflow-x"`}, "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			live := configMap("c", nil)
			a, c := newAPI(t, map[string]http.HandlerFunc{
				"GET " + configMaps + "/c": answer(live), "PATCH " + configMaps + "/c": inTurn(conflict(tc.managers...), answer(live)),
			})
			sent := changed(live, func(o *unstructured.Unstructured) { o.SetResourceVersion("") })
			_, err := c.ApplyObject(t.Context(), sent, ApplyOptions{Manager: tc.as})
			if !tc.ours {
				wantFailure(t, err, failure.Refused, "FieldConflict", ".spec.replicas")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if last := len(a.requests) - 1; a.requests[last].URL.Query().Get("force") != "true" || !strings.Contains(a.bodies[last], `"resourceVersion":"1"`) {
				t.Errorf("%s %s, want force and the version that was read", a.requests[last].URL, a.bodies[last])
			}
			if sent.GetResourceVersion() != "" {
				t.Error("the caller's object was changed")
			}
		})
	}
}

func TestOurOwnFieldsAreTakenFromUnderABusyController(t *testing.T) {
	live := configMap("c", nil)
	own := conflict(`"kubectl-mlflow" with subresource "scale"`)
	stale := refuse(409, metav1.StatusReasonConflict, "the object has been modified", nil)
	a, c := newAPI(t, map[string]http.HandlerFunc{
		"GET " + configMaps + "/c": answer(live), "PATCH " + configMaps + "/c": inTurn(own, stale, own, stale, own, answer(live)),
	})
	if _, err := c.ApplyObject(t.Context(), live, ApplyOptions{}); err != nil {
		t.Error(err)
	}
	a.handlers["PATCH "+configMaps+"/c"] = inTurn(own, stale, conflict(`"somebody"`))
	_, err := c.ApplyObject(t.Context(), live, ApplyOptions{})
	wantFailure(t, err, failure.Refused, "FieldConflict", `"somebody"`)

	var turns []http.HandlerFunc
	for range 2 * mostTries {
		turns = append(turns, own, stale)
	}
	a.handlers["PATCH "+configMaps+"/c"] = inTurn(turns...)
	_, err = c.ApplyObject(t.Context(), live, ApplyOptions{})
	wantFailure(t, err, failure.Refused, "Conflict", "somebody else changed it")

	ctx, cancel := context.WithCancel(t.Context())
	a.handlers["PATCH "+configMaps+"/c"] = inTurn(own, func(w http.ResponseWriter, r *http.Request) {
		stale(w, r)
		cancel()
	})
	if _, err = c.ApplyObject(ctx, live, ApplyOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the end of the context", err)
	}
}

func TestApplyRefusesWhatIsBeingDeleted(t *testing.T) {
	live := configMap("c", nil)
	dying := changed(live, func(o *unstructured.Unstructured) {
		o.Object["metadata"].(map[string]any)["deletionTimestamp"] = "2026-01-01T00:00:00Z"
	})
	a, c := newAPI(t, map[string]http.HandlerFunc{"GET " + configMaps + "/c": answer(dying), "PATCH " + configMaps + "/c": answer(dying)})
	_, err := c.Apply(t.Context(), []*unstructured.Unstructured{live}, false)
	wantFailure(t, err, failure.Refused, "BeingDeleted", "being deleted")
	if a.count("PATCH", configMaps+"/c") != 0 {
		t.Error("it was written nevertheless")
	}
}

func TestRefusalsAreExplained(t *testing.T) {
	for _, tc := range []struct {
		name    string
		reply   http.HandlerFunc
		class   failure.Class
		reason  string
		message string
	}{
		{
			"field manager", refuse(409, metav1.StatusReasonConflict, `Apply failed with 1 conflict: conflict with "kubectl-scale" with subresource "scale" using apps/v1: .spec.replicas`,
				&metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: metav1.CauseTypeFieldManagerConflict, Field: ".spec.replicas", Message: `conflict with "kubectl-scale" with subresource "scale" using apps/v1`}}}),
			failure.Refused, "FieldConflict", `configmap/c: another manager has set .spec.replicas (conflict with "kubectl-scale"`,
		},
		{
			"RBAC", refuse(403, metav1.StatusReasonForbidden, `configmaps "c" is forbidden: User "eve" cannot patch resource "configmaps" in API group "" in the namespace "team"`, &metav1.StatusDetails{Kind: "configmaps"}),
			failure.Forbidden, "Forbidden", "you may not patch configmaps in namespace team",
		},
		{
			"quota", refuse(403, metav1.StatusReasonForbidden, `configmaps "c" is forbidden: exceeded quota: q, requested: count/configmaps=1`, &metav1.StatusDetails{Kind: "configmaps"}),
			failure.Refused, "AdmissionRefused", "exceeded quota: q",
		},
		{
			"namespace on its way out", refuse(403, metav1.StatusReasonForbidden, `configmaps "c" is forbidden: unable to create new content in namespace team because it is being terminated`,
				&metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: "NamespaceTerminating"}}}),
			failure.Refused, "NamespaceTerminating", "namespace team is being deleted",
		},
		{
			"no namespace", refuse(404, metav1.StatusReasonNotFound, `namespaces "team" not found`, &metav1.StatusDetails{Name: "team", Kind: "namespaces"}),
			failure.Invalid, "NamespaceNotFound", "namespace team does not exist",
		},
		{
			"value", refuse(422, metav1.StatusReasonInvalid, `ConfigMap "c" is invalid: data: Invalid value: "x"`, nil),
			failure.Invalid, "ObjectInvalid", `data: Invalid value: "x"`,
		},
		{
			"immutable", refuse(422, metav1.StatusReasonInvalid, `Job.batch "m" is invalid: spec.template: Invalid value: {}: field is immutable`, nil),
			failure.Refused, "ImmutableField", "cannot be changed",
		},
		{
			"immutable, with the field",
			refuse(422, metav1.StatusReasonInvalid, `Job.batch "m" is invalid: spec.template: Invalid value: {"a": {}}: field is immutable`, &metav1.StatusDetails{
				Causes: []metav1.StatusCause{{Type: metav1.CauseTypeFieldValueInvalid, Field: "spec.template", Message: `Invalid value: {"a": {}}: field is immutable`}}}),
			failure.Refused, "ImmutableField", "configmap/c: spec.template cannot be changed: field is immutable",
		},
		{
			"claim, with the difference",
			refuse(422, metav1.StatusReasonInvalid, "spec: Forbidden: spec is immutable after creation except resources.requests\n  x: y", &metav1.StatusDetails{
				Causes: []metav1.StatusCause{{Type: metav1.CauseTypeForbidden, Field: "spec", Message: "Forbidden: spec is immutable after creation except resources.requests\n  x: y"}}}),
			failure.Refused, "ImmutableField", "configmap/c: spec cannot be changed: spec is immutable after creation except resources.requests",
		},
		{
			"stateful set", refuse(422, metav1.StatusReasonInvalid, `StatefulSet.apps "p" is invalid: spec: Forbidden: updates to statefulset spec for fields other than 'replicas' are forbidden`, nil),
			failure.Refused, "ImmutableField", "cannot be changed",
		},
		{
			"unknown field, as 500", refuse(500, metav1.StatusReasonInternalError, "failed to create typed patch object: .spec.repicas: field not declared in schema", nil),
			failure.Invalid, "ObjectInvalid", ".spec.repicas: field not declared",
		},
		{
			"unknown field, as 400", refuse(400, metav1.StatusReasonBadRequest, `strict decoding error: unknown field "spec.repicas"`, nil),
			failure.Invalid, "ObjectInvalid", `unknown field "spec.repicas"`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, c := newAPI(t, map[string]http.HandlerFunc{"PATCH " + configMaps + "/c": tc.reply})
			_, err := c.Apply(t.Context(), []*unstructured.Unstructured{configMap("c", nil)}, false)
			wantFailure(t, err, tc.class, tc.reason, tc.message)
			if n := a.count("PATCH", configMaps+"/c"); n != 1 {
				t.Errorf("asked %d times: no retry mends this", n)
			}
		})
	}
}

func TestAKindThatIsNotServed(t *testing.T) {
	_, c := newAPI(t, nil)
	service := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": map[string]any{"name": "iris", "namespace": "team"},
	}}
	_, err := c.Apply(t.Context(), []*unstructured.Unstructured{service}, false)
	wantFailure(t, err, failure.Diagnosed, "KindNotServed", "service.serving.knative.dev/iris: the cluster does not serve Service of serving.knative.dev/v1")
	for kind, want := range map[string]bool{"Pod": true, "Prod": false} {
		got, err := c.HasKind(t.Context(), configMapRef("").GroupVersion().WithKind(kind))
		if got != want || err != nil {
			t.Errorf("HasKind(%s) = %t, %v", kind, got, err)
		}
	}
	if got, err := c.HasKind(t.Context(), service.GroupVersionKind()); got || err != nil {
		t.Errorf("HasKind(Knative) = %t, %v", got, err)
	}
}

// wantFailure checks class, reason and a part of the text.
func wantFailure(t *testing.T, err error, class failure.Class, reason, text string) {
	t.Helper()
	f := asFailure(err)
	if f == nil {
		t.Fatalf("err = %v, want a failure", err)
	}
	if f.Class != class || f.Reason != reason {
		t.Errorf("class %s, reason %s; want %s, %s", f.Class, f.Reason, class, reason)
	}
	if !strings.Contains(err.Error(), text) {
		t.Errorf("error %q lacks %q", err, text)
	}
}
