package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// previewed is n objects, and the handlers that take each for new.
func previewed(n int) ([]*unstructured.Unstructured, map[string]http.HandlerFunc) {
	objs := make([]*unstructured.Unstructured, n)
	handlers := map[string]http.HandlerFunc{}
	for i := range n {
		objs[i] = configMap(fmt.Sprintf("c%02d", i), nil)
		handlers["PATCH "+configMaps+"/"+objs[i].GetName()] = answer(objs[i])
	}
	return objs, handlers
}

func TestPreviewAsksAFewAtOnceAndKeepsTheOrder(t *testing.T) {
	objs, handlers := previewed(20)
	var now, most atomic.Int32
	full := make(chan struct{})
	for key, h := range handlers {
		handlers[key] = func(w http.ResponseWriter, r *http.Request) {
			n := now.Add(1)
			defer now.Add(-1)
			if n > most.Load() {
				most.Store(n)
			}
			if n == atOnce {
				close(full)
			}
			select { // the first ones wait for each other: if they came one by one, they would wait long
			case <-full:
			case <-time.After(10 * time.Second):
				t.Error("the requests do not come at once")
			}
			if r.URL.Query().Get("dryRun") != "All" {
				t.Error("not a dry run")
			}
			h(w, r)
		}
	}
	_, c := newAPI(t, handlers)
	got, err := c.Preview(t.Context(), objs, ApplyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i, a := range got {
		if a.Name != objs[i].GetName() || a.Action != Created || a.After == nil {
			t.Errorf("%d: %+v", i, a)
		}
	}
	if most.Load() != atOnce {
		t.Errorf("%d requests at once, want %d", most.Load(), atOnce)
	}
}

func TestPreviewTellsEachFailureOnce(t *testing.T) {
	objs, handlers := previewed(6)
	set := func(i int, h http.HandlerFunc) { handlers["PATCH "+configMaps+"/"+objs[i].GetName()] = h }
	denied := refuse(403, metav1.StatusReasonForbidden, `User "eve" cannot patch resource "configmaps"`, &metav1.StatusDetails{Kind: "configmaps"})
	set(1, refuse(422, metav1.StatusReasonInvalid, "data: Invalid value: 1", nil))
	set(2, denied)
	set(3, denied)
	set(5, refuse(422, metav1.StatusReasonInvalid, "data: Invalid value: 1", nil)) // the same, of another object
	_, c := newAPI(t, handlers)
	_, err := c.Preview(t.Context(), objs, ApplyOptions{})
	if err == nil {
		t.Fatal("no error")
	}
	lines := strings.Split(err.Error(), "\n")
	for i, want := range []string{"configmap/c01: ", "configmap/c02: you may not patch", "configmap/c05: "} {
		if len(lines) != 3 || !strings.HasPrefix(lines[i], want) {
			t.Fatalf("got\n%s\nwant a line that begins with %q", err, want)
		}
	}
}

func TestPreviewEndsWithItsContextAndWithTheCluster(t *testing.T) {
	objs, handlers := previewed(30)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	interrupted := errors.New("interrupted")
	for key := range handlers {
		handlers[key] = func(_ http.ResponseWriter, r *http.Request) {
			cancel(interrupted)
			<-r.Context().Done()
		}
	}
	_, c := newAPI(t, handlers)
	_, err := c.Preview(ctx, objs, ApplyOptions{})
	if !errors.Is(err, interrupted) || strings.Contains(err.Error(), "\n") || failure.ClassOf(err) != "" {
		t.Errorf("err = %v, want the one cause", err)
	}
	var asked atomic.Int32
	_, handlers = previewed(30)
	for key := range handlers {
		handlers[key] = func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			refuse(401, metav1.StatusReasonUnauthorized, "Unauthorized", nil)(w, r)
		}
	}
	_, c = newAPI(t, handlers)
	_, err = c.Preview(t.Context(), objs, ApplyOptions{})
	wantFailure(t, err, failure.Forbidden, "Unauthorized", "credentials")
	if n := asked.Load(); strings.Contains(err.Error(), "\n") || n > 2*atOnce {
		t.Errorf("%d requests, then %v; want one error, and few requests after it", n, err)
	}
}
