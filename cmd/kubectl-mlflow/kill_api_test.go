//go:build api

package main

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kubectl-mlflow/kubectl-mlflow/test/kit"
)

// kill runs the program and ends it with SIGKILL at a moment of its n-th write.
func (s *scene) kill(n int, moment kit.Moment, args ...string) {
	s.t.Helper()
	running := make(chan *call, 1)
	first := len(s.proxy.Writes())
	s.proxy.OnWrite(func(m kit.Moment, w kit.Write) bool {
		if m != moment || w.N != first+n {
			return true
		}
		c := <-running
		_ = c.cmd.Process.Signal(syscall.SIGKILL)
		<-c.ended
		return false
	})
	defer s.proxy.OnWrite(nil)
	c := s.start(args...)
	running <- c
	// The lock's release is not waited for long: on a busy machine the program may be done before it is killed there, or before the
	// release has come as far as the proxy. It is the last write; same sees whether any other is missing.
	if code := c.code(); code > 0 || code == 0 && len(s.proxy.Writes()) < first+n-1 {
		s.t.Fatalf("%s ended with exit code %d before its write %d\n%s", strings.Join(args, " "), code, n, c.stderr.String())
	}
}

// same wants the scene's namespace to look as it does elsewhere, and what must never be made anew to be what it was.
func (s *scene) same(want, before kit.Portrait) {
	s.t.Helper()
	got := s.controller.Portrait(s.t, s.namespace)
	if diff := cmp.Diff(want.Objects, got.Objects); diff != "" {
		s.t.Errorf("the namespace differs from that of a run without accidents (-want +got):\n%s", diff)
	}
	for key, value := range before.Secrets {
		if got.Secrets[key] != value {
			s.t.Errorf("the Secret's %s is not what it was", key)
		}
	}
	for name, uid := range before.UIDs {
		if strings.HasPrefix(name, "persistentvolumeclaims/") && got.UIDs[name] != uid {
			s.t.Errorf("%s is another one", name)
		}
	}
	if held := s.controller.Held(s.t, s.namespace); held != "" {
		s.t.Errorf("at the end %s", held)
	}
}

// older is an image of an earlier version, which upgrade leaves behind.
const older = "ghcr.io/mlflow/mlflow:v3.16.1-full"

// verb is a command that writes.
type verb struct {
	name  string
	ready func(*scene) // makes what it works on
	args  []string
}

func verbs() []verb {
	return []verb{
		{"install", func(*scene) {}, []string{"install"}},
		{"upgrade", func(s *scene) { s.run(0, "install", "--image", older) }, []string{"upgrade", "--backup"}},
		{"restore", func(s *scene) {
			s.run(0, "install", "--backup-schedule", "manual")
			s.hasBackup()
		}, []string{"restore", "latest", "--replace"}},
		{"uninstall", func(s *scene) { s.run(0, "install") }, []string{"uninstall"}},
	}
}

// hasBackup lets the pods that look find a backup, and rows in the database.
func (s *scene) hasBackup() {
	s.proxy.Kubelet.Log = func(_, container string) string {
		if container == "restore" {
			return "backup\tmlflow-20260102T000000Z\nrows\truns\t12\n"
		}
		return ""
	}
}

// TestRealKilledAtEveryWrite kills the verbs at their writes: before and after each of them with the tag long. The same command again has
// to arrive where a run without accidents does, with the same passwords and the same volumes.
func TestRealKilledAtEveryWrite(t *testing.T) {
	stage := newStage(t)
	for _, verb := range verbs() {
		t.Run(verb.name, func(t *testing.T) {
			whole := stage.scene(t)
			verb.ready(whole)
			first := len(whole.proxy.Writes())
			whole.run(0, verb.args...)
			writes := whole.proxy.Writes()[first:]
			want := stage.controller.Portrait(t, whole.namespace)
			if len(writes) < 5 {
				t.Fatalf("%v writes %d times", verb.args, len(writes))
			}
			for i, w := range writes {
				for _, moment := range moments(i + 1) {
					path := strings.ReplaceAll(w.Path, whole.namespace, "NAMESPACE")
					t.Run(fmt.Sprintf("%s %d %s %s", moment, i+1, w.Method, path[strings.LastIndex(path, "/")+1:]), func(t *testing.T) {
						t.Parallel()
						s := stage.scene(t)
						verb.ready(s)
						s.kill(i+1, moment, verb.args...)
						before := stage.controller.Portrait(t, s.namespace)
						s.run(0, verb.args...)
						s.same(want, before)
					})
				}
			}
		})
	}
}
