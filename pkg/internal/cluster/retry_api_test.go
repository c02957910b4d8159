//go:build api

package cluster

import (
	"context"
	"net/http"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/test/kit"
)

// between is a client of the real API server, with accidents in between.
func between(t *testing.T) (*kit.Proxy, *Client) {
	t.Helper()
	proxy := kit.NewProxy(t, os.Getenv(realKubeconfig))
	return proxy, New(loadKubeconfig(proxy.Kubeconfig(""), "")) // with all its patience
}

// troubles of an API server, each of which passes.
func troubles() map[string]kit.Fault {
	return map[string]kit.Fault{
		"429 with a wish": kit.TooManyRequests(time.Second),
		"429 for an hour": kit.TooManyRequests(time.Hour),
		"503":             kit.Unavailable(),
		"leader changed":  kit.LeaderChanged(),
		"reset":           kit.Reset(),
		"all of them":     kit.InTurn(kit.TooManyRequests(time.Second), kit.Reset(), kit.Unavailable(), kit.LeaderChanged()),
	}
}

const (
	troubled = 2 * time.Second
	inTime   = 20 * time.Second // the longest pause, after the trouble, and then some for a slow machine
)

func TestRealCallsOutliveATroubledServer(t *testing.T) {
	for name, fault := range troubles() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, ns := realAPI(t)
			proxy, c := between(t)
			ctx, cancel := context.WithTimeout(t.Context(), inTime)
			defer cancel()
			d := realDeployment(ns, 1)
			for step, call := range map[string]func() error{
				"apply": func() error { _, err := c.ApplyObject(ctx, d, ApplyOptions{}); return err },
				"preview": func() error {
					_, err := c.Preview(ctx, []*unstructured.Unstructured{d, realConfigMap(ns, "a", "")}, ApplyOptions{})
					return err
				},
				"list": func() error {
					_, err := c.List(ctx, Query{GroupVersionKind: d.GroupVersionKind(), Namespace: ns})
					return err
				},
				"may I": func() error {
					_, err := c.Missing(ctx, []Access{{Verb: "get", GroupVersionKind: d.GroupVersionKind(), Namespace: ns}})
					return err
				},
			} {
				var met atomic.Int32
				proxy.Fail(kit.During(troubled/4, counted(&met, fault)))
				if err := call(); err != nil {
					t.Errorf("%s: %v", step, err)
				}
				if met.Load() == 0 {
					t.Errorf("%s met no trouble", step)
				}
			}
		})
	}
}

func TestRealObserveOutlivesATroubledServer(t *testing.T) {
	for name, fault := range troubles() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			direct, ns := realAPI(t)
			proxy, c := between(t)
			ctx, cancel := context.WithTimeout(t.Context(), inTime)
			defer cancel()
			var met atomic.Int32
			proxy.Fail(fromTheFirstWatchOn(kit.During(troubled, counted(&met, fault))))
			began := false
			err := c.Observe(ctx, []Query{{GroupVersionKind: realConfigMap(ns, "", "").GroupVersionKind(), Namespace: ns}}, func(objs []*unstructured.Unstructured) (bool, error) {
				if !began {
					began = true
					_, err := direct.Create(ctx, realConfigMap(ns, "late", ""), false)
					return false, err
				}
				return namesOf(objs) == "late", nil
			})
			if err != nil {
				t.Error(err)
			}
			if met.Load() == 0 {
				t.Error("it met no trouble")
			}
		})
	}
}

func TestRealApplyWhoseAnswerIsLost(t *testing.T) {
	_, ns := realAPI(t)
	proxy, c := between(t)
	var cut atomic.Int32
	proxy.OnWrite(func(m kit.Moment, _ kit.Write) bool { return m == kit.Before || cut.Add(1) > 1 })
	if _, err := c.ApplyObject(t.Context(), realDeployment(ns, 1), ApplyOptions{}); err != nil {
		t.Error(err)
	}
	if cut.Load() < 2 {
		t.Errorf("%d answers, want one that was lost and one that came", cut.Load())
	}
}

// fromTheFirstWatchOn lets the list before it pass.
func fromTheFirstWatchOn(f kit.Fault) kit.Fault {
	var begun atomic.Bool
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Has("watch") {
			begun.Store(true)
		}
		return begun.Load() && f(w, r)
	}
}

func counted(n *atomic.Int32, f kit.Fault) kit.Fault {
	return func(w http.ResponseWriter, r *http.Request) bool {
		n.Add(1)
		return f(w, r)
	}
}
