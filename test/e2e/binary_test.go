//go:build e2e

package e2e

import (
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestHelpIsQuick holds the start against kubectl's, which is waited for before it. The shortest of many runs is what the
// programs themselves take.
func TestHelpIsQuick(t *testing.T) {
	const share, rounds, enough = 0.3, 100, 10
	l := openLab(t)
	var ours, kubectls time.Duration
	for i := range rounds {
		kubectls = quickest(kubectls, help(t, l.Kubectl))
		ours = quickest(ours, help(t, filepath.Join(l.root, "bin/kubectl-mlflow")))
		if i >= enough && ours.Seconds() <= share*kubectls.Seconds() {
			break
		}
	}
	t.Logf("--help: %v, kubectl's: %v (%.2f)", ours, kubectls, ours.Seconds()/kubectls.Seconds())
	if ours.Seconds() > share*kubectls.Seconds() {
		t.Errorf("--help takes %v, want at most %v of kubectl's %v", ours, share, kubectls)
	}
}

// quickest is the shorter one; none has been measured where best is 0.
func quickest(best, next time.Duration) time.Duration {
	if best == 0 {
		return next
	}
	return min(best, next)
}

func help(t *testing.T, program string) time.Duration {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, "--help")
	began := time.Now()
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s --help: %v", program, err)
	}
	return time.Since(began)
}
