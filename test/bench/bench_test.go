// Package bench measures what a user waits for on their own machine, each beside what kubectl takes for the like. Quote
// ratios: machines differ. `make bench` builds the plugin and runs it.
package bench

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// BenchmarkManifests renders each overlay, beside `kubectl kustomize` of the same files: whole processes.
func BenchmarkManifests(b *testing.B) {
	bucket := []string{"--artifacts-destination", "gs://my-bucket/mlflow"}
	for overlay, flags := range map[string][]string{
		"local":        nil,
		"gcp":          bucket,
		"gcp-cloudsql": append([]string{"--cloudsql-instance", "my-project:europe-west1:mlflow"}, bucket...),
	} {
		b.Run(overlay+"/plugin", func(b *testing.B) {
			process(b, plugin(b), append([]string{"manifests", "--overlay", overlay}, flags...)...)
		})
		b.Run(overlay+"/kubectl", func(b *testing.B) {
			process(b, kubectl(b), "kustomize", filepath.Join("..", "..", "manifests", "overlays", overlay))
		})
	}
}

// BenchmarkHelp is the plugin's start.
func BenchmarkHelp(b *testing.B) { process(b, plugin(b), "--help") }

// BenchmarkKubectlHelp is kubectl's.
func BenchmarkKubectlHelp(b *testing.B) {
	process(b, kubectl(b), "--help")
}

func plugin(b *testing.B) string {
	b.Helper()
	path, err := filepath.Abs(filepath.Join("..", "..", "bin", "kubectl-mlflow"))
	if err != nil {
		b.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		b.Fatalf("%v: make build", err)
	}
	return path
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
