//go:build e2e

package e2e

import (
	"bufio"
	"path/filepath"
	"strings"
	"testing"
)

// TestInstallKilledFiveTimes kills install after each of its stages, one run after the other in one namespace, and then lets it
// end: with the password and the volumes that the first runs made, and nothing left to change. The sweep over the writes is
// TestRealKilledAtEveryWrite, on an API server without pods.
func TestInstallKilledFiveTimes(t *testing.T) {
	t.Parallel()
	l := openLab(t)
	n := l.namespace(t, "e2e-killed")
	kept := map[string]string{}
	remember := func() {
		t.Helper()
		list := n.kubectl(t, "get", "secrets,persistentvolumeclaims", "-l", "app.kubernetes.io/managed-by=kubectl-mlflow", "-o",
			`jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.uid}{"\n"}{end}`)
		list += n.kubectl(t, "get", "secrets", "-l", "app.kubernetes.io/managed-by=kubectl-mlflow", "-o",
			`jsonpath={range .items[*]}content of {.metadata.name} {.metadata.resourceVersion}{"\n"}{end}`)
		for line := range strings.Lines(list) {
			line = strings.TrimSpace(line)
			name, is := line[:strings.LastIndex(line, " ")], line[strings.LastIndex(line, " "):]
			if was, known := kept[name]; known && was != is {
				t.Errorf("%s is another one than before", name)
			}
			kept[name] = is
		}
	}
	for _, stage := range []string{
		"Checking what will change", "Preparing the namespace", "Starting the database", "Bringing the database's schema to MLflow's", "Starting MLflow",
	} {
		n.killAt(t, stage+" ... done", "install", "-n", n.namespace)
		remember()
	}
	n.mlflow(t, "install")
	remember()
	if len(kept) != 4 {
		t.Errorf("there are %v, want a Secret, what is in it, and two volumes", kept)
	}
	if again := n.mlflow(t, "install"); !strings.Contains(again.stderr, "nothing changed") {
		t.Errorf("an install afterwards changed something:\n%s", again.stdout)
	}
	if leases := n.kubectl(t, "get", "leases", "-o", "name"); leases != "" {
		t.Errorf("a lock was left behind: %s", leases)
	}
}

// killAt starts the program, and kills it as soon as it has said a line.
func (n *installed) killAt(t *testing.T, line string, args ...string) {
	t.Helper()
	cmd := n.command(t.Context(), nil, filepath.Join(n.root, "bin/kubectl-mlflow"), args...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	killed := false
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		said.WriteString(lines.Text() + "\n")
		if strings.HasPrefix(lines.Text(), line) {
			killed = true
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	_ = cmd.Wait() // it was killed
	t.Logf("%s, killed after %q, had said:\n%s", args[0], line, said.String())
	if !killed {
		t.Fatalf("%s never said %q", args[0], line)
	}
}
