//go:build e2e

package e2e

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLogs reads MLflow's logs, and follows them over the end of the server's pod.
func TestLogs(t *testing.T) {
	t.Parallel()
	l := openLab(t)
	n := l.namespace(t, "e2e-logs")
	n.create(t)
	n.mlflow(t, "install")

	all := n.mlflow(t, "logs").stdout
	for _, source := range []string{"[server-", "[database-0]", "[migration-"} {
		if !strings.Contains(all, source) {
			t.Errorf("there is nothing of %s", source)
		}
	}
	if server := n.mlflow(t, "logs", "server", "--tail", "1").stdout; strings.Contains(server, "[database") || strings.Count(server, "\n") != 2 { // and its init container's
		t.Errorf("of the server alone, the last line of each container is\n%s", server)
	}
	n.refused(t, 4, []string{"has been started again"}, "logs", "--previous")

	old := strings.TrimPrefix(n.kubectl(t, "get", "pods", "-l", "app=mlflow", "-o", "name"), "pod/")
	cmd := n.command(t.Context(), nil, filepath.Join(n.root, "bin/kubectl-mlflow"), "logs", "server", "--follow", "-n", n.namespace)
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	await := func(pod, text string) {
		t.Helper()
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "[server-"+pod[strings.LastIndex(pod, "-")+1:]+"]") && strings.Contains(lines.Text(), text) {
				return
			}
		}
		t.Fatalf("the log ended before %q of %s", text, pod)
	}
	await(old, "GET /health")
	n.kubectl(t, "delete", "pod", old)
	n.kubectl(t, "rollout", "status", "deployment/mlflow", "--timeout=3m")
	next := strings.TrimPrefix(n.kubectl(t, "get", "pods", "-l", "app=mlflow", "-o", "name"), "pod/")
	await(next, "GET /health")
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // its exit code says how
	if code := cmd.ProcessState.ExitCode(); code != 130 {
		t.Errorf("Ctrl-C ends it with exit code %d, want 130", code)
	}
}
