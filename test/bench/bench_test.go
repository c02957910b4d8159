// Package bench measures what a user waits for on their own machine, each beside what kubectl takes for the like. Quote
// ratios: machines differ. `make bench` builds the plugin and runs it.
package bench

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"k8s.io/cli-runtime/pkg/genericclioptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/manifests"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/trackingserver"
)

// BenchmarkRender is the overlay local, from the embedded tree to objects.
func BenchmarkRender(b *testing.B) {
	client := trackingserver.New(genericclioptions.NewConfigFlags(false), manifests.FS, progress.Discard{})
	b.ReportAllocs()
	for b.Loop() {
		objects, err := client.Render(trackingserver.Parameters{Overlay: "local"})
		if err != nil {
			b.Fatal(err)
		}
		if len(objects) == 0 {
			b.Fatal("nothing was rendered")
		}
	}
}

// BenchmarkKubectlKustomize is the same overlay, rendered by kubectl: a whole process, as BenchmarkHelp is.
func BenchmarkKubectlKustomize(b *testing.B) {
	process(b, kubectl(b), "kustomize", filepath.Join("..", "..", "manifests", "overlays", "local"))
}

// BenchmarkHelp is the plugin's start.
func BenchmarkHelp(b *testing.B) {
	plugin, err := filepath.Abs(filepath.Join("..", "..", "bin", "kubectl-mlflow"))
	if err != nil {
		b.Fatal(err)
	}
	if _, err := os.Stat(plugin); err != nil {
		b.Fatalf("%v: make build", err)
	}
	process(b, plugin, "--help")
}

// BenchmarkKubectlHelp is kubectl's.
func BenchmarkKubectlHelp(b *testing.B) {
	process(b, kubectl(b), "--help")
}

func kubectl(b *testing.B) string {
	b.Helper()
	path, err := exec.LookPath("kubectl")
	if err != nil {
		b.Skip("there is no kubectl on PATH to compare with")
	}
	return path
}

func process(b *testing.B, program string, args ...string) {
	b.Helper()
	for b.Loop() {
		cmd := exec.CommandContext(b.Context(), program, args...)
		cmd.Stdout, cmd.Stderr = io.Discard, io.Discard
		if err := cmd.Run(); err != nil {
			b.Fatal(err)
		}
	}
}
