package trackingserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

func TestWaitLooksAtBothPodsAndThenAsks(t *testing.T) {
	w := newWorld()
	w.install(t, Parameters{})
	w.journal = nil
	if err := w.client().Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{"wait for statefulset.apps/postgres", "wait for deployment.apps/mlflow", "ask MLflow"}
	if !slices.Equal(w.journal, want) {
		t.Errorf("did %v, want %v", w.journal, want)
	}
}

func TestWaitEndsWithTheFirstThatWillNotBeReady(t *testing.T) {
	w := newWorld()
	w.install(t, Parameters{})
	w.journal = nil
	pending := &failure.Error{Class: failure.TimedOut, Reason: "NotReady", Object: "statefulset.apps/postgres"}
	w.notReady = func(r cluster.Ref) error {
		if r.Name == "postgres" {
			return pending
		}
		return nil
	}
	if err := w.client().Wait(t.Context()); !errors.Is(err, error(pending)) {
		t.Errorf("got %v", err)
	}
	if slices.Contains(w.journal, "ask MLflow") {
		t.Error("MLflow was asked although its database is not ready")
	}
}

func TestWaitAsksUntilThereIsAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.install(t, Parameters{})
		asked := 0
		w.probe = func() error {
			if asked++; asked < 4 {
				return fmt.Errorf("500: the database is away")
			}
			return nil
		}
		if err := w.client().Wait(t.Context()); err != nil || asked != 4 {
			t.Errorf("asked %d times: %v", asked, err)
		}
	})
}

func TestWaitThatIsNotAnswered(t *testing.T) {
	for _, c := range []struct {
		name  string
		probe error
		class failure.Class
		says  string
	}{
		{"it answers with errors", errors.New("500: the database is away"), failure.TimedOut, "the database is away"},
		{"no right to a tunnel", &failure.Error{Class: failure.Forbidden, Message: "pods/portforward"}, failure.Forbidden, "pods/portforward"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.install(t, Parameters{})
				w.probe = func() error { return c.probe }
				w.pods = map[string]pod{"mlflow-1": {log: []string{"TypeError"}}}
				w.put(serverPod("mlflow-1"), "")
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				began := time.Now()
				err := w.client().Wait(ctx)
				if took := time.Since(began); took > 5*time.Minute {
					t.Errorf("it took %s to say so", took)
				}
				if f, ok := errors.AsType[*failure.Error](err); ok && c.class == failure.TimedOut && !slices.Contains(f.Evidence, "  TypeError") {
					t.Errorf("the server's log is not in %q", f.Evidence)
				}
				if failure.ClassOf(err) != c.class || !strings.Contains(err.Error(), c.says) {
					t.Errorf("got %v, want %s with %q", err, c.class, c.says)
				}
			})
		})
	}
	t.Run("interrupted", func(t *testing.T) {
		w := newWorld()
		w.install(t, Parameters{})
		ctx, cancel := context.WithCancel(t.Context())
		w.probe = func() error { cancel(); return ctx.Err() }
		if err := w.client().Wait(ctx); !errors.Is(err, context.Canceled) || failure.ClassOf(err) != "" {
			t.Errorf("got %v", err)
		}
	})
}

// serverPod is one of the server's.
func serverPod(name string) *unstructured.Unstructured {
	pod := &unstructured.Unstructured{}
	pod.SetGroupVersionKind(core("Pod", "", "").GroupVersionKind)
	pod.SetNamespace("mlflow")
	pod.SetName(name)
	pod.SetLabels(map[string]string{"app": "mlflow", component: server})
	return pod
}

func TestWithoutAServerThereIsNothingToWaitForOrToForward(t *testing.T) {
	for _, c := range []struct {
		name  string
		given func(*testing.T, *world)
		says  string
	}{
		{"never installed", func(*testing.T, *world) {}, "there is no MLflow in namespace mlflow"},
		{"uninstalled", func(t *testing.T, w *world) {
			w.install(t, Parameters{})
			w.uninstall(t, false)
		}, "its data is kept"},
	} {
		w := newWorld()
		c.given(t, w)
		for verb, run := range map[string]func() error{
			"wait": func() error { return w.client().Wait(t.Context()) },
			"port-forward": func() error {
				return w.client().PortForward(t.Context(), nil, func() { t.Error("ready") })
			},
		} {
			if err := run(); failure.ClassOf(err) != failure.Invalid || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s, %s: got %v", c.name, verb, err)
			}
		}
	}
}

func TestPortForwardIsReadyOnlyWhenMLflowHasAnswered(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	w := newWorld()
	w.install(t, Parameters{})
	away := errors.New("the database is away")
	w.probe = func() error { return away }
	if err := w.client().PortForward(t.Context(), []net.Listener{listener}, func() { t.Error("ready") }); !errors.Is(err, away) {
		t.Errorf("got %v", err)
	}
	w.probe = nil
	ctx, cancel := context.WithCancel(t.Context())
	ready := false
	err = w.client().PortForward(ctx, []net.Listener{listener}, func() { ready = true; cancel() })
	if !ready || err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("ready %t, %v", ready, err)
	}
}
