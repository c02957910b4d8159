//go:build api

package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/test/kit"
)

// interrupted sends the signal, and wants the program to end in time, and to say how to go on. In time is a second: tests that call it do not
// run beside others.
func (s *scene) interrupted(c *call, signal os.Signal, resume string) {
	s.t.Helper()
	began := time.Now()
	if err := c.cmd.Process.Signal(signal); err != nil {
		s.t.Fatalf("it had ended: %v\n%s", err, c.stderr.String())
	}
	<-c.ended
	if took := time.Since(began); took > time.Second {
		s.t.Errorf("it took %s to end, want a second at most", took)
	}
	if code := c.code(); code != 130 {
		s.t.Errorf("exit code %d, want 130\n%s", code, c.stderr.String())
	}
	if want := "to go on: kubectl mlflow " + resume; !strings.Contains(c.stderr.String(), want) {
		s.t.Errorf("it says\n%s\nwant %q", c.stderr.String(), want)
	}
	if strings.Contains(c.stderr.String(), "error:") {
		s.t.Errorf("it says more than it should:\n%s", c.stderr.String())
	}
}

// released wants no lock to be left.
func (s *scene) released() {
	s.t.Helper()
	if held := s.controller.Held(s.t, s.namespace); held != "" {
		s.t.Errorf("at the end %s", held)
	}
}

// TestRealInterruptedWhileWaiting stops install in each of its waits, and the next install is green.
func TestRealInterruptedWhileWaiting(t *testing.T) {
	stage := newStage(t)
	for _, component := range []string{"database", "migration", "server"} {
		t.Run(component, func(t *testing.T) {
			s := stage.scene(t)
			waits := make(chan struct{}, 1)
			stage.controller.Live(s.namespace, func(p *corev1.Pod) kit.Life {
				if p.Labels["app.kubernetes.io/component"] == component {
					select {
					case waits <- struct{}{}:
					default:
					}
					return kit.Life{State: kit.Waits}
				}
				return kit.Life{State: kit.Runs}
			})
			c := s.start("install")
			select {
			case <-waits:
			case <-c.ended:
				t.Fatalf("it did not wait\n%s", c.stderr.String())
			}
			s.interrupted(c, os.Interrupt, "install")
			s.released()
			stage.controller.Live(s.namespace, nil)
			s.run(0, "install")
		})
	}
}

// TestRealInterruptedAtEveryWrite stops the verbs while the API server takes its time over a write: over any of them with the tag long.
func TestRealInterruptedAtEveryWrite(t *testing.T) {
	stage := newStage(t)
	for _, verb := range verbs() {
		t.Run(verb.name, func(t *testing.T) {
			whole := stage.scene(t)
			verb.ready(whole)
			first := len(whole.proxy.Writes())
			whole.run(0, verb.args...)
			want := stage.controller.Portrait(t, whole.namespace)
			for n := 1; n <= len(whole.proxy.Writes())-first; n += every {
				t.Run(fmt.Sprint(n), func(t *testing.T) {
					s := stage.scene(t)
					verb.ready(s)
					first := len(s.proxy.Writes())
					stuck, free := make(chan kit.Write, 1), make(chan struct{})
					s.proxy.OnWrite(func(m kit.Moment, w kit.Write) bool {
						if m == kit.Before && w.N == first+n {
							stuck <- w
							<-free
						}
						return true
					})
					c := s.start(verb.args...)
					var at kit.Write
					select {
					case at = <-stuck:
					case <-c.ended:
						t.Fatalf("it ended with %d before its write %d\n%s", c.code(), n, c.stderr.String())
					}
					t.Logf("stuck is %s", at)
					s.interrupted(c, syscall.SIGTERM, strings.Join(verb.args, " "))
					if !strings.Contains(at.Path, "/leases") { // which cannot be given back by a request that is stuck
						s.released()
					}
					s.proxy.OnWrite(nil)
					close(free)
					before := stage.controller.Portrait(t, s.namespace)
					s.run(0, verb.args...)
					s.same(want, before)
				})
			}
		})
	}
}

// TestRealInterruptedUninstall stops uninstall while a pod does not go.
func TestRealInterruptedUninstall(t *testing.T) {
	s := newStage(t).scene(t)
	s.run(0, "install")
	hold := func(finalizers string) {
		s.controller.Edit(t, s.namespace, "pods", "postgres-0", `{"metadata":{"finalizers":`+finalizers+`}}`)
	}
	hold(`["kit.example.com/stays"]`)
	c := s.start("uninstall")
	s.controller.Await(t, s.namespace, "pods", "postgres-0", func(pod *unstructured.Unstructured) bool { return pod.GetDeletionTimestamp() != nil })
	s.interrupted(c, os.Interrupt, "uninstall")
	s.released()
	hold("null")
	s.run(0, "uninstall")
}
