package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// event is one line of a watch.
func event(kind string, obj any) map[string]any { return map[string]any{"type": kind, "object": obj} }

// stream sends the events of a watch, and then ends it, as last says.
func stream(last http.HandlerFunc, events ...map[string]any) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusOK)
		for _, e := range events {
			_ = json.NewEncoder(w).Encode(e)
		}
		w.(http.Flusher).Flush()
		last(w, r)
	}
}

func stay(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
func end(http.ResponseWriter, *http.Request)      {}

// listOrWatch tells the two apart: they have one path.
func listOrWatch(lists, watches http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("watch") == "true" {
			watches(w, r)
			return
		}
		lists(w, r)
	}
}

func everything() []Query {
	return []Query{{GroupVersionKind: configMapRef("").GroupVersionKind, Namespace: "team"}}
}

func namesOf(objs []*unstructured.Unstructured) string {
	var s []string
	for _, o := range objs {
		s = append(s, o.GetName())
	}
	return strings.Join(s, " ")
}

// observe waits until exactly the wanted objects are there.
func observe(t *testing.T, c *Client, qs []Query, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var seen []string
	err := c.Observe(ctx, qs, func(objs []*unstructured.Unstructured) (bool, error) {
		seen = append(seen, namesOf(objs))
		return namesOf(objs) == want, nil
	})
	if err != nil {
		t.Errorf("Observe: %v; saw %q, want %q", err, seen, want)
	}
}

func TestObserveFollowsAWatch(t *testing.T) {
	a, c := newAPI(t, map[string]http.HandlerFunc{"GET " + configMaps: listOrWatch(
		list("5", configMap("a", nil), configMap("b", nil)),
		stream(stay,
			event("ADDED", configMap("d", nil).Object), event("ADDED", configMap("c", nil).Object),
			event("DELETED", configMap("a", nil).Object), event("MODIFIED", configMap("b", nil).Object)),
	)})
	observe(t, c, everything(), "b c d")
	if q := a.requests[1].URL.Query(); q.Get("resourceVersion") != "5" {
		t.Errorf("the watch begins at %q, want where the list ended", q.Get("resourceVersion"))
	}
}

func TestObserveListsAgainWhenTheWatchIsLost(t *testing.T) {
	gone := event("ERROR", metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Code: 410, Reason: metav1.StatusReasonExpired})
	for name, lost := range map[string]http.HandlerFunc{
		"410 in the stream":  stream(stay, gone),
		"410 as the answer":  refuse(410, metav1.StatusReasonExpired, "too old", nil),
		"ended":              stream(end),
		"broken off":         stream(hangUp),
		"one event too many": stream(end, event("ADDED", configMap("z", nil).Object)),
	} {
		t.Run(name, func(t *testing.T) {
			_, c := newAPI(t, map[string]http.HandlerFunc{"GET " + configMaps: listOrWatch(
				inTurn(list("1"), list("9", configMap("late", nil))), inTurn(lost, stream(stay)),
			)})
			observe(t, c, everything(), "late")
		})
	}
}

func TestObserveOpensAWatchAgain(t *testing.T) {
	for name, trouble := range map[string]http.HandlerFunc{
		"server in trouble": refuse(503, metav1.StatusReasonServiceUnavailable, "down", nil),
		"broken connection": hangUp,
	} {
		t.Run(name, func(t *testing.T) {
			_, c := newAPI(t, map[string]http.HandlerFunc{"GET " + configMaps: listOrWatch(
				list("1"), inTurn(trouble, trouble, stream(stay, event("ADDED", configMap("late", nil).Object))),
			)})
			observe(t, c, everything(), "late")
		})
	}
}

func TestObserveBearsWithAServerThatGoesAway(t *testing.T) {
	down := refuse(503, metav1.StatusReasonServiceUnavailable, "down", nil)
	lists := []http.HandlerFunc{list("1")}
	for range 60 { // more than the patience of one call
		lists = append(lists, down)
	}
	lists = append(lists, list("9", configMap("late", nil)))
	_, c := newAPI(t, map[string]http.HandlerFunc{"GET " + configMaps: listOrWatch(inTurn(lists...), inTurn(stream(end), stream(stay)))})
	observe(t, c, everything(), "late")
}

func TestObserveWaitsForTheListOfEachQuery(t *testing.T) {
	release := make(chan struct{})
	_, c := newAPI(t, map[string]http.HandlerFunc{
		"GET " + configMaps: listOrWatch(list("1", configMap("x", nil)), stream(stay)),
		"GET /api/v1/namespaces/team/secrets": listOrWatch(func(w http.ResponseWriter, r *http.Request) {
			<-release
			list("1", configMap("s", nil))(w, r)
		}, stream(stay)),
	})
	qs := append([]Query{{GroupVersionKind: everything()[0].GroupVersion().WithKind("Secret"), Namespace: "team"}}, everything()...)
	time.AfterFunc(50*time.Millisecond, func() { close(release) })
	var first string
	err := c.Observe(t.Context(), qs, func(objs []*unstructured.Unstructured) (bool, error) {
		first = namesOf(objs)
		return true, nil
	})
	if err != nil || first != "s x" {
		t.Errorf("first call with %q, %v; want both lists, in the order of the queries", first, err)
	}
}

func TestObserveByName(t *testing.T) {
	a, c := newAPI(t, map[string]http.HandlerFunc{"GET " + configMaps: listOrWatch(list("1"), stream(stay, event("ADDED", configMap("a", nil).Object)))})
	observe(t, c, []Query{QueryOf(configMapRef("a"))}, "a")
	for _, r := range a.requests {
		if got := r.URL.Query().Get("fieldSelector"); got != "metadata.name=a" {
			t.Errorf("%s: field selector %q", r.URL, got)
		}
	}
}

func TestObserveThatIsForbiddenEndsAtOnce(t *testing.T) {
	no := func(verb string) http.HandlerFunc {
		return refuse(403, metav1.StatusReasonForbidden, `User "eve" cannot `+verb+` resource "configmaps"`, &metav1.StatusDetails{Kind: "configmaps"})
	}
	for verb, handler := range map[string]http.HandlerFunc{
		"list":  listOrWatch(no("list"), stream(stay)),
		"watch": listOrWatch(list("1"), no("watch")),
	} {
		t.Run(verb, func(t *testing.T) {
			_, c := newAPI(t, map[string]http.HandlerFunc{"GET " + configMaps: handler})
			err := c.Observe(t.Context(), everything(), func([]*unstructured.Unstructured) (bool, error) { return false, nil })
			wantFailure(t, err, failure.Forbidden, "Forbidden", "you may not "+verb+" configmaps in namespace team")
		})
	}
	t.Run("optional", func(t *testing.T) {
		_, c := newAPI(t, map[string]http.HandlerFunc{
			"GET " + configMaps:                   listOrWatch(no("list"), stream(stay)),
			"GET /api/v1/namespaces/team/secrets": listOrWatch(list("1", configMap("s", nil)), stream(stay)),
		})
		optional := everything()[0]
		optional.Optional = true
		observe(t, c, []Query{optional, {GroupVersionKind: optional.GroupVersion().WithKind("Secret"), Namespace: "team"}}, "s")
	})
}

func TestObserveEndsWithItsContextAndLeavesNothingRunning(t *testing.T) {
	before := goleak.IgnoreCurrent()
	a, c := newAPI(t, map[string]http.HandlerFunc{"GET " + configMaps: listOrWatch(list("1"), stream(stay))})
	ctx, cancel := context.WithCancel(t.Context())
	var called sync.Once
	began := time.Now()
	err := c.Observe(ctx, everything(), func([]*unstructured.Unstructured) (bool, error) {
		called.Do(func() { time.AfterFunc(20*time.Millisecond, cancel) })
		return false, nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v, want Canceled", err)
	}
	if d := time.Since(began); d > 2*time.Second {
		t.Errorf("it took %s to stop", d)
	}
	if a.count("GET", configMaps) == 0 {
		t.Error("nothing was asked")
	}
	goleak.VerifyNone(t, before,
		goleak.IgnoreAnyFunction("net/http.(*Server).Serve"), goleak.IgnoreAnyFunction("net/http.(*conn).serve"),
		goleak.IgnoreAnyFunction("net/http.(*connReader).backgroundRead"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

func TestObserveReturnsItsCallersError(t *testing.T) {
	stop := errors.New("stop")
	_, c := newAPI(t, map[string]http.HandlerFunc{"GET " + configMaps: listOrWatch(list("1"), stream(stay))})
	err := c.Observe(t.Context(), everything(), func([]*unstructured.Unstructured) (bool, error) { return false, stop })
	if !errors.Is(err, stop) {
		t.Errorf("err = %v", err)
	}
}

func TestObserveOfNothingIsEmpty(t *testing.T) {
	_, c := newAPI(t, nil)
	err := c.Observe(t.Context(), nil, func(objs []*unstructured.Unstructured) (bool, error) {
		return slices.Equal(objs, nil), nil
	})
	if err != nil {
		t.Error(err)
	}
}
