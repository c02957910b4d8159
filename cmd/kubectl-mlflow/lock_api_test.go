//go:build api

package main

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/test/kit"
)

// lease is that of an installation.
const lease = "leases.v1.coordination.k8s.io"

// busy is an install that has the lock and waits for its server's pods.
func (s *scene) busy() *call {
	s.t.Helper()
	s.live("server", kit.Life{State: kit.Waits})
	c := s.start("install")
	// The migration's end is the last that is written before that wait.
	s.controller.Await(s.t, s.namespace, "configmaps.v1.", "kubectl-mlflow", func(record *unstructured.Unstructured) bool {
		if record == nil {
			return false
		}
		schema, _, err := unstructured.NestedString(record.Object, "data", "schema")
		return err == nil && schema != ""
	})
	return c
}

// TestRealTwoInstalls has one install refused while another is at work, and green when that one is done.
func TestRealTwoInstalls(t *testing.T) {
	s := newStage(t).scene(t)
	first := s.busy()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	holder := fmt.Sprintf("install on %s/%d/", host, first.cmd.Process.Pid)
	for _, args := range [][]string{{"install"}, {"upgrade"}, {"uninstall"}} {
		s.untouched(5, []string{"another run is at work here: " + holder, "lease.coordination.k8s.io/kubectl-mlflow"}, args...)
	}
	s.controller.Live(s.namespace, nil)
	if code := first.code(); code != 0 {
		t.Errorf("the first install: exit code %d\n%s", code, first.stderr.String())
	}
	s.released()
	s.run(0, "install")
}

// TestRealInstallsAtOnce starts many installs at the same moment, where there is not even a namespace. One does the work.
func TestRealInstallsAtOnce(t *testing.T) {
	stage := newStage(t)
	whole := stage.scene(t)
	whole.run(0, "install")
	s := stage.scene(t)
	s.live("server", kit.Life{State: kit.Waits})
	calls := make([]*call, 4)
	for i := range calls {
		calls[i] = s.start("install")
	}
	ended := make(chan *call, len(calls))
	for _, c := range calls {
		go func() {
			<-c.ended
			ended <- c
		}()
	}
	for range len(calls) - 1 { // the one that waits for pods cannot be among them
		if c := <-ended; c.code() != 5 || !strings.Contains(c.stderr.String(), "another run is at work here") {
			t.Errorf("exit code %d, want 5\n%s", c.code(), c.stderr.String())
		}
	}
	s.controller.Live(s.namespace, nil)
	if c := <-ended; c.code() != 0 {
		t.Errorf("exit code %d, want 0\n%s", c.code(), c.stderr.String())
	}
	s.same(stage.controller.Portrait(t, whole.namespace), kit.Portrait{})
}

// TestRealNamespaceOfTwo has one install make the namespace, and another one be faster to take the lock in it: the first is
// refused, and does not take the namespace away again.
func TestRealNamespaceOfTwo(t *testing.T) {
	stage := newStage(t)
	first := stage.scene(t)
	second := &scene{stage: stage, t: t, namespace: first.namespace, proxy: first.newProxy(t)}
	second.config = second.proxy.Kubeconfig("")
	made, faster := make(chan struct{}), make(chan struct{})
	first.proxy.OnWrite(func(m kit.Moment, w kit.Write) bool {
		if m == kit.After && w.N == 1 {
			close(made)
			<-faster
		}
		return true
	})
	slow := first.start("install")
	<-made
	quick := second.busy()
	close(faster)
	if code := slow.code(); code != 5 || !strings.Contains(slow.stderr.String(), "another run is at work here") {
		t.Errorf("exit code %d, want 5\n%s", code, slow.stderr.String())
	}
	stage.controller.Live(first.namespace, nil)
	if code := quick.code(); code != 0 {
		t.Errorf("exit code %d, want 0\n%s", code, quick.stderr.String())
	}
}

// TestRealHolderIsKilled has the lock of a process that was killed on this machine taken over at once.
func TestRealHolderIsKilled(t *testing.T) {
	s := newStage(t).scene(t)
	c := s.busy()
	if err := c.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-c.ended
	if s.controller.Held(t, s.namespace) == "" {
		t.Fatal("there is no lock to take over")
	}
	s.controller.Live(s.namespace, nil)
	again := s.run(0, "install")
	if again.took > 20*time.Second || strings.Contains(again.stderr.String(), "sign of life") {
		t.Errorf("it took %s\n%s", again.took, again.stderr.String())
	}
	s.released()
}

// leaseYAML is held by somebody on another machine, whose clock is another one.
func leaseYAML(holder string, renewed time.Time) string {
	return fmt.Sprintf(`apiVersion: coordination.k8s.io/v1
kind: Lease
metadata:
  name: kubectl-mlflow
  annotations: {mlflow.kubectl/operation: upgrade}
spec: {holderIdentity: %s, leaseDurationSeconds: 30, renewTime: %q}`, holder, renewed.UTC().Format("2006-01-02T15:04:05.000000Z07:00"))
}

// TestRealHolderElsewhere has a lock whose holder is on another machine: taken over in a minute where he is silent, whatever
// his clock says, and not at all where he lives.
func TestRealHolderElsewhere(t *testing.T) {
	t.Parallel() // it waits
	stage := newStage(t)
	for _, clock := range []struct {
		name string
		off  time.Duration
	}{{"the same clock", 0}, {"a clock ahead", 10 * time.Minute}, {"a clock behind", -10 * time.Minute}} {
		t.Run(clock.name, func(t *testing.T) {
			silent, alive := stage.scene(t), stage.scene(t)
			for _, s := range []*scene{silent, alive} {
				s.controller.Apply(t, s.namespace, "kit", namespaceYAML+"\n---\n"+leaseYAML("elsewhere/1/ABCDEF", time.Now().Add(clock.off)))
			}
			looks := alive.watches("/leases")
			waits, refused := silent.start("install"), alive.start("install")
			select {
			case <-looks:
			case <-refused.ended:
				t.Fatalf("it did not wait for a sign of life\n%s", refused.stderr.String())
			}
			alive.controller.Apply(t, alive.namespace, "kit", leaseYAML("elsewhere/1/ABCDEF", time.Now().Add(clock.off+5*time.Second)))
			if code := refused.code(); code != 5 || !strings.Contains(refused.stderr.String(), "upgrade on elsewhere/1/ABCDEF") {
				t.Errorf("the holder lives: exit code %d, want 5\n%s", code, refused.stderr.String())
			}
			if t.Name() != "TestRealHolderElsewhere/the_same_clock" { // the others have shown what they should: they do not wait for a minute too
				_ = waits.cmd.Process.Signal(os.Interrupt)
				if code := waits.code(); code != 130 {
					t.Errorf("the holder is silent: exit code %d, want 130: it was too early to take over\n%s", code, waits.stderr.String())
				}
				return
			}
			if code := waits.code(); code != 0 || waits.took > time.Minute || waits.took < 30*time.Second {
				t.Errorf("the holder is silent: exit code %d after %s\n%s", code, waits.took, waits.stderr.String())
			}
		})
	}
}

// watches is closed with the first watch of a path by way of the scene's proxy.
func (s *scene) watches(part string) <-chan struct{} {
	seen := make(chan struct{})
	once := sync.OnceFunc(func() { close(seen) })
	s.proxy.Fail(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, part) && r.URL.Query().Has("watch") {
			once()
		}
		return false
	})
	return seen
}

// TestRealLockIsLost takes the lock away from an install, which stops before its next write.
func TestRealLockIsLost(t *testing.T) {
	stage := newStage(t)
	for _, c := range []struct {
		name string
		take func(*scene)
	}{
		{"deleted", func(s *scene) { s.controller.Delete(s.t, s.namespace, lease, "kubectl-mlflow") }},
		{"taken", func(s *scene) { s.controller.Apply(s.t, s.namespace, "kit", leaseYAML("thief/1/ABCDEF", time.Now())) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := stage.scene(t)
			first := s.busy()
			c.take(s)
			before := len(s.proxy.Writes())
			if code := first.code(); code != 5 || !strings.Contains(first.stderr.String(), "lock") {
				t.Errorf("exit code %d, want 5\n%s", code, first.stderr.String())
			}
			if writes := s.proxy.Writes()[before:]; len(writes) > 0 {
				t.Errorf("without the lock it has written %v", writes)
			}
		})
	}
}
