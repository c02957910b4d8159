package cluster

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

func TestCreateOnce(t *testing.T) {
	live, mine := configMap("c", map[string]any{"password": "first"}), configMap("c", map[string]any{"password": "second"})
	absent := refuse(404, metav1.StatusReasonNotFound, "gone", nil)
	exists := refuse(409, metav1.StatusReasonAlreadyExists, "exists", nil)
	forbidden := refuse(403, metav1.StatusReasonForbidden, `User "eve" cannot get resource "configmaps"`, nil)
	for _, tc := range []struct {
		name      string
		get, post http.HandlerFunc
		password  string
		class     failure.Class
		posts     int
	}{
		{"there: kept, and nothing is written", answer(live), answer(mine), "first", "", 0},
		{"not there: created", absent, answer(mine), "second", "", 1},
		{"somebody was faster: kept", inTurn(absent, answer(live)), exists, "first", "", 1},
		{"not to be seen: never made anew", forbidden, answer(mine), "", failure.Forbidden, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, c := newAPI(t, map[string]http.HandlerFunc{"GET " + configMaps + "/c": tc.get, "POST " + configMaps: tc.post})
			got, err := c.CreateOnce(t.Context(), mine)
			if failure.ClassOf(err) != tc.class || (err != nil) != (tc.class != "") {
				t.Fatalf("err = %v, want class %q", err, tc.class)
			}
			if err == nil {
				if p, _, _ := unstructured.NestedString(got.Object, "data", "password"); p != tc.password {
					t.Errorf("password = %q, want %q", p, tc.password)
				}
			}
			if n := a.count("POST", configMaps); n != tc.posts {
				t.Errorf("created %d times, want %d", n, tc.posts)
			}
		})
	}
}

func TestWhatCallersMustRecogniseStaysRecognisable(t *testing.T) {
	_, c := newAPI(t, map[string]http.HandlerFunc{
		"POST " + configMaps:       refuse(409, metav1.StatusReasonAlreadyExists, "exists", nil),
		"PUT " + configMaps + "/c": refuse(409, metav1.StatusReasonConflict, "the object has been modified", nil),
	})
	if _, err := c.Get(t.Context(), configMapRef("none")); !apierrors.IsNotFound(err) {
		t.Errorf("Get: %v, want NotFound", err)
	}
	if _, err := c.Create(t.Context(), configMap("c", nil), false); !apierrors.IsAlreadyExists(err) {
		t.Errorf("Create: %v, want AlreadyExists", err)
	}
	_, err := c.Update(t.Context(), configMap("c", nil), false)
	if !apierrors.IsConflict(err) {
		t.Errorf("Update: %v, want Conflict", err)
	}
	wantFailure(t, err, failure.Refused, "Conflict", "configmap/c")
}

func TestDelete(t *testing.T) {
	ok := answer(configMap("c", nil))
	for _, tc := range []struct {
		name  string
		reply http.HandlerFunc
		uid   types.UID
		bad   bool
	}{
		{"there", ok, "uid-c", false},
		{"absent", refuse(404, metav1.StatusReasonNotFound, "gone", nil), "uid-c", false},
		{"another one under the name", refuse(409, metav1.StatusReasonConflict, "Precondition failed: UID in precondition: uid-c, UID in object meta: other", nil), "uid-c", false},
		{"forbidden", refuse(403, metav1.StatusReasonForbidden, `User "eve" cannot delete resource "configmaps"`, nil), "uid-c", true},
		{"by name alone", ok, "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, c := newAPI(t, map[string]http.HandlerFunc{"DELETE " + configMaps + "/c": tc.reply})
			if err := c.Delete(t.Context(), configMapRef("c"), tc.uid); (err != nil) != tc.bad {
				t.Errorf("err = %v", err)
			}
			var opts metav1.DeleteOptions
			if err := json.Unmarshal([]byte(a.bodies[0]), &opts); err != nil {
				t.Fatal(err)
			}
			if (opts.Preconditions != nil) != (tc.uid != "") || tc.uid != "" && *opts.Preconditions.UID != tc.uid {
				t.Errorf("preconditions = %+v", opts.Preconditions)
			}
			if opts.PropagationPolicy == nil || *opts.PropagationPolicy != metav1.DeletePropagationBackground {
				t.Errorf("propagation = %v", opts.PropagationPolicy)
			}
		})
	}
}

func TestANamespacedObjectNeedsItsNamespace(t *testing.T) {
	a, c := newAPI(t, nil)
	r := configMapRef("c")
	r.Namespace = ""
	_, err := c.Get(t.Context(), r)
	wantFailure(t, err, failure.Invalid, "NamespaceMissing", "configmap/c")
	if len(a.requests) != 0 {
		t.Errorf("the server was asked: %s", a.requests[0].URL)
	}
}

// pages serves three objects on two pages; from the second page on it answers with rest.
func pages(rest http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if q.Get("labelSelector") != "app=x" {
			http.Error(w, "no selector", http.StatusTeapot)
			return
		}
		switch {
		case q.Get("limit") == "":
			list("9", configMap("a", nil), configMap("b", nil), configMap("c", nil))(w, r)
		case q.Get("continue") == "":
			reply(w, http.StatusOK, map[string]any{
				"apiVersion": "v1", "kind": "ConfigMapList", "metadata": map[string]any{"resourceVersion": "7", "continue": "more"},
				"items": []any{configMap("a", nil).Object, configMap("b", nil).Object},
			})
		default:
			rest(w, r)
		}
	}
}

func TestListReadsAllPages(t *testing.T) {
	q := Query{GroupVersionKind: configMapRef("").GroupVersionKind, Namespace: "team", Selector: labels.SelectorFromSet(labels.Set{"app": "x"})}
	for name, rest := range map[string]http.HandlerFunc{
		"in two pages":                list("7", configMap("c", nil)),
		"the first page is too old":   refuse(410, metav1.StatusReasonExpired, "too old", nil),
		"the second page comes later": inTurn(hangUp, list("7", configMap("c", nil))),
	} {
		t.Run(name, func(t *testing.T) {
			_, c := newAPI(t, map[string]http.HandlerFunc{"GET " + configMaps: pages(rest)})
			objs, err := c.List(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, o := range objs {
				got = append(got, o.GetName())
			}
			if want := []string{"a", "b", "c"}; !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

func TestListPagesStopsWhenItsCallerDoes(t *testing.T) {
	enough := errors.New("enough")
	_, c := newAPI(t, map[string]http.HandlerFunc{"GET " + configMaps: list("1", configMap("a", nil), configMap("b", nil))})
	n := 0
	err := c.ListPages(t.Context(), Query{GroupVersionKind: configMapRef("").GroupVersionKind, Namespace: "team"}, func(*unstructured.Unstructured) error {
		n++
		return enough
	})
	if !errors.Is(err, enough) || n != 1 {
		t.Errorf("err = %v after %d objects", err, n)
	}
}

func TestAnOptionalQueryThatMayNotBeReadIsEmpty(t *testing.T) {
	forbidden := refuse(403, metav1.StatusReasonForbidden, `User "eve" cannot list resource "configmaps"`, &metav1.StatusDetails{Kind: "configmaps"})
	_, c := newAPI(t, map[string]http.HandlerFunc{"GET " + configMaps: forbidden})
	q := Query{GroupVersionKind: configMapRef("").GroupVersionKind, Namespace: "team"}
	_, err := c.List(t.Context(), q)
	wantFailure(t, err, failure.Forbidden, "Forbidden", "you may not list configmaps in namespace team")
	q.Optional = true
	if objs, err := c.List(t.Context(), q); len(objs) != 0 || err != nil {
		t.Errorf("optional: %v, %v", objs, err)
	}
	q.Kind = "Prod"
	if objs, err := c.List(t.Context(), q); len(objs) != 0 || err != nil {
		t.Errorf("optional and not served: %v, %v", objs, err)
	}
}

func TestTail(t *testing.T) {
	pod := Ref{GroupVersionKind: configMapRef("").GroupVersion().WithKind("Pod"), Namespace: "team", Name: "p"}
	a, c := newAPI(t, map[string]http.HandlerFunc{
		"GET /api/v1/namespaces/team/pods/p/log": inTurn(
			func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("one\n\ntwo\n")) },
			func(http.ResponseWriter, *http.Request) {},
			refuse(400, metav1.StatusReasonBadRequest, `previous terminated container "x" in pod "p" not found`, nil),
		),
	})
	lines, err := c.Tail(t.Context(), pod, "x", true, 20)
	if want := []string{"one", "", "two"}; !slices.Equal(lines, want) || err != nil {
		t.Errorf("lines = %q, %v", lines, err)
	}
	if q := a.requests[0].URL.Query(); q.Get("container") != "x" || q.Get("previous") != "true" || q.Get("tailLines") != "20" {
		t.Errorf("query = %v", q)
	}
	if lines, err := c.Tail(t.Context(), pod, "x", false, 20); len(lines) != 0 || err != nil {
		t.Errorf("an empty log: %q, %v", lines, err)
	}
	if _, err := c.Tail(t.Context(), pod, "x", true, 20); err == nil || !strings.Contains(err.Error(), "previous terminated container") {
		t.Errorf("err = %v, want the server's words", err)
	}
}

func TestPruneAndDeleteInventory(t *testing.T) {
	mark := func(o *unstructured.Unstructured, uid string, labels, annotations map[string]string) *unstructured.Unstructured {
		o.SetUID(types.UID(uid))
		o.SetLabels(labels)
		o.SetAnnotations(annotations)
		return o
	}
	ours, kept := map[string]string{ManagedByLabel: FieldManager}, map[string]string{KeepKey: "true"}
	live := map[string]*unstructured.Unstructured{
		"stays":        mark(configMap("stays", nil), "1", nil, nil),
		"gone":         mark(configMap("gone", nil), "2", nil, nil),
		"data":         mark(configMap("data", nil), "3", nil, kept),
		"labelledkept": mark(configMap("labelledkept", nil), "4", kept, nil),
		"foreign":      mark(configMap("foreign", nil), "other", ours, nil),
		"unwritten":    mark(configMap("unwritten", nil), "5", ours, nil),
		"notours":      mark(configMap("notours", nil), "6", nil, nil),
	}
	var old Inventory
	for name, uid := range map[string]types.UID{"stays": "1", "gone": "2", "data": "3", "labelledkept": "4", "foreign": "uid", "unwritten": "", "notours": "", "absent": "9"} {
		old.Items = append(old.Items, Change{Ref: configMapRef(name), UID: uid})
	}
	slices.SortFunc(old.Items, func(a, b Change) int { return strings.Compare(a.Name, b.Name) })
	now := Inventory{Items: []Change{{Ref: configMapRef("stays")}}}
	handlers := map[string]http.HandlerFunc{}
	for name, o := range live {
		handlers["GET "+configMaps+"/"+name], handlers["DELETE "+configMaps+"/"+name] = answer(o), answer(o)
	}
	summary := func(changes []Change) []string {
		var s []string
		for _, c := range changes {
			s = append(s, c.Name+" "+c.Action)
		}
		return s
	}
	a, c := newAPI(t, handlers)

	changes, err := c.Prune(t.Context(), old, now)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"unwritten pruned", "notours kept", "labelledkept kept", "gone pruned", "foreign kept", "data kept"}; !slices.Equal(summary(changes), want) {
		t.Errorf("pruned %q, want %q", summary(changes), want)
	}
	for name := range live {
		if n, want := a.count("DELETE", configMaps+"/"+name), map[string]int{"unwritten": 1, "gone": 1}[name]; n != want {
			t.Errorf("%s was deleted %d times, want %d", name, n, want)
		}
	}

	changes, err = c.DeleteInventory(t.Context(), old, true)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"unwritten pruned", "stays pruned", "notours kept", "labelledkept pruned", "gone pruned", "foreign kept", "data pruned"}; !slices.Equal(summary(changes), want) {
		t.Errorf("with data: %q, want %q", summary(changes), want)
	}

	_, err = c.Prune(t.Context(), old, Inventory{})
	wantFailure(t, err, failure.Refused, "EmptyInventory", "everything would be deleted")
}
