//go:build e2e

package e2e

import (
	"strings"
	"testing"
)

// TestDryRunIsWhatKubectlTakes pipes what install would send into kubectl, whose server-side dry run has nothing against it: before the
// installation, with the namespace alone, and over it.
func TestDryRunIsWhatKubectlTakes(t *testing.T) {
	t.Parallel()
	l := openLab(t)
	n := l.namespace(t, "lab-dry-run")
	if r := n.mlflow(t, "install", "--dry-run=client", "-o", "yaml"); !strings.Contains(r.stderr, "kubectl create namespace "+n.namespace) {
		t.Errorf("it does not say that kubectl wants the namespace first:\n%s", r.stderr)
	}
	n.create(t)
	n.taken(t, "created (server dry run)")
	if left := n.kubectl(t, "get", "all,pvc,secrets", "-o", "name"); left != "" {
		t.Errorf("the dry runs left\n%s", left)
	}
	n.mlflow(t, "install", "--dry-run=server")
	n.mlflow(t, "install")
	n.taken(t, "configured (server dry run)") // it would add its own annotation
}

// taken expects kubectl to say the same of each object that install would send.
func (n *installed) taken(t *testing.T, want string) {
	t.Helper()
	manifests := n.mlflow(t, "install", "--dry-run=client", "-o", "yaml").stdout
	objects := 0
	for line := range strings.Lines(n.lab.kubectl(t, "apply", "--dry-run=server", "-f", write(t, "mlflow.yaml", manifests))) {
		objects++
		if !strings.HasSuffix(strings.TrimSpace(line), want) {
			t.Errorf("kubectl says %q, want %q", line, want)
		}
	}
	if sent := strings.Count("\n"+manifests, "\nkind: "); objects != sent || sent < 8 {
		t.Errorf("kubectl took %d objects of %d", objects, sent)
	}
}
