package trackingserver

import (
	"os/exec"
	"testing"

	"github.com/kubectl-mlflow/kubectl-mlflow/manifests"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// Of each pair, the first is to take no more than half of the second.
func BenchmarkRender(b *testing.B) {
	kubectl, err := exec.LookPath("kubectl")
	if err != nil {
		b.Skip("SKIPPED: there is no kubectl on PATH to compare with")
	}
	client := New(nil, manifests.FS, progress.Discard{})
	all := goldens()
	for _, name := range []string{"local", "gcp", "gcp-cloudsql", "gcp-all"} {
		b.Run(name+"/plugin", func(b *testing.B) {
			for b.Loop() {
				if _, err := client.Render(all[name]); err != nil {
					b.Fatal(err)
				}
			}
		})
		overlay, err := client.Export(all[name], b.TempDir())
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name+"/kubectl", func(b *testing.B) {
			for b.Loop() {
				if err := exec.CommandContext(b.Context(), kubectl, "kustomize", overlay).Run(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
