//go:build e2e

package e2e

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestExport is the guide's manual way: manifests in a folder, a look at them, kubectl apply -k. The plugin only makes the Secrets.
func TestExport(t *testing.T) {
	t.Parallel()
	l := openLab(t)
	l.addon(t, "google")
	n := l.namespace(t, "lab-export")
	n.create(t)
	r := n.mlflow(t, "export", filepath.Join(t.TempDir(), "mlflow"),
		"--overlay", "gcp", "--artifacts-destination", "gs://"+bucket+"/exported", "-k", kustomization(t, storage))
	overlay := strings.TrimSpace(r.stdout)
	n.mlflow(t, "install", "--secrets-only")
	l.kubectl(t, "kustomize", overlay)
	if r := l.run(t, nil, l.Kubectl, "apply", "-k", overlay); r.code != 0 || strings.Contains(r.stderr, "would violate") {
		t.Fatalf("kubectl apply -k: exit %d:\n%s", r.code, r.stderr)
	}
	timed(t, "from kubectl apply to a server", func() {
		n.kubectl(t, "wait", "--for=condition=available", "deployment/mlflow", "--timeout=5m")
	})
	n.url = n.portForward(t) // that of the plugin knows what the plugin has installed
	n.artifacts(t, "exported/")
	n.guide(t, "mlflow", "postgres")
	for _, line := range strings.Split(strings.TrimSpace(l.kubectl(t, "apply", "-k", overlay)), "\n") {
		if !strings.HasSuffix(line, " unchanged") {
			t.Errorf("a second kubectl apply says %q", line)
		}
	}
}
