//go:build e2e

package e2e

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestInterrupted ends within a second, says how to go on, and gives the lock back.
func TestInterrupted(t *testing.T) {
	l := openLab(t)
	n := l.namespace(t, "lab-interrupted")
	state, said := n.interrupt(t, "Preparing the namespace")
	if code := state.ExitCode(); code != 130 {
		t.Errorf("exit code %d, want 130", code)
	}
	if !strings.Contains(said, "kubectl mlflow install") {
		t.Errorf("it does not say how to go on:\n%s", said)
	}
	began := time.Now()
	n.mlflow(t, "install", "--dry-run=server")
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the next one waited %s: for a lock?", took)
	}
	n.mlflow(t, "install")
}

// interrupt runs install, types Ctrl-C when a step is done, and returns how it ended and what it said from then on.
func (n *installed) interrupt(t *testing.T, step string) (*os.ProcessState, string) {
	t.Helper()
	cmd := n.command(t.Context(), nil, filepath.Join(n.root, "bin/kubectl-mlflow"), "install", "-n", n.namespace)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said, after strings.Builder
	var sent time.Time
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		said.WriteString(lines.Text() + "\n")
		if !sent.IsZero() {
			after.WriteString(lines.Text() + "\n")
		} else if strings.HasPrefix(lines.Text(), step) && strings.Contains(lines.Text(), " done (") {
			t.Logf("%q is done after %.1f s", step, time.Since(began).Seconds())
			sent = time.Now()
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait() // it was ended by us: its state tells
	if sent.IsZero() {
		t.Fatalf("install ended before %q was done:\n%s", step, said.String())
	}
	if took := time.Since(sent); took > time.Second {
		t.Errorf("it ended %s after the signal", took)
	}
	return cmd.ProcessState, after.String()
}
