package cluster

import (
	"os/exec"
	"testing"
	"time"
)

// child is a process of this machine that runs until the test ends it.
func child(t *testing.T) (process, *exec.Cmd) {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	p := thisProcess()
	p.pid = cmd.Process.Pid
	_, started, err := stat(p.pid)
	if err != nil {
		t.Fatal(err)
	}
	p.started = started
	return p, cmd
}

func TestProcess(t *testing.T) {
	p, cmd := child(t)
	elsewhere, later := p, p
	elsewhere.place, later.started = "another", "1"
	check := func(name string, p process, want int) {
		t.Helper()
		if got := p.state(); got != want {
			t.Errorf("%s: state %d, want %d", name, got, want)
		}
		if again := readProcess(p.String()); again != p {
			t.Errorf("%s: read %+v, want %+v", name, again, p)
		}
	}
	check("this one", thisProcess(), alive)
	check("its child", p, alive)
	check("on another machine", elsewhere, unknown)
	check("of the same number", later, dead)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); p.state() != dead; { // its parent, this test, has not asked for it yet
		if time.Now().After(deadline) {
			t.Fatal("killed, and not dead")
		}
	}
	_ = cmd.Wait()
	check("gone", p, dead)
	for _, text := range []string{"", "place 1", "place x 1", "place 0 1", "place -1 1", "a b c d"} {
		if got := readProcess(text); got != (process{}) || got.state() != unknown {
			t.Errorf("%q is read as %+v", text, got)
		}
	}
}

func TestTheLockOfAProcessThatDiedHereIsTakenAtOnce(t *testing.T) {
	p, cmd := child(t)
	s := newLeaseStore(t)
	lease := foreignLease("here/1/A", "x")
	notes := lease.GetAnnotations()
	notes[processKey] = p.String()
	lease.SetAnnotations(notes)
	s.set(lease)
	if _, _, err := s.client().Lock(t.Context(), "team", "l", "install", quiet(t)); err == nil {
		t.Fatal("taken from a process that runs")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	mustLock(t, s.client(), quiet(t)) // without a wait
}
