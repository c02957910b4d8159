//go:build e2e && bench

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// greeting is a program that does nothing else than to say so.
const greeting = `package main

import "fmt"

func main() { fmt.Println("hello") }
`

// TestBenchCommands is what a command takes that asks no cluster.
func TestBenchCommands(t *testing.T) {
	l := openLab(t)
	c := &commands{lab: l, ours: filepath.Join(l.root, "bin/kubectl-mlflow"), hello: filepath.Join(t.TempDir(), "hello")}
	if r := l.run(t, []string{"CGO_ENABLED=0"}, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", c.hello, write(t, "hello.go", greeting)); r.code != 0 {
		t.Fatal("go build failed")
	}
	t.Run("start", c.start)
	t.Run("size", c.size)
	t.Run("render", c.render)
}

type commands struct {
	*lab
	ours, hello string
}

// milliseconds runs a program often, and takes the median: a start is short.
func (c *commands) milliseconds(t *testing.T, program string, args ...string) float64 {
	t.Helper()
	const often = 20
	var w way
	for range often {
		w.values = append(w.values, 1000*seconds(func() {
			cmd := c.command(t.Context(), nil, program, args...)
			if err := cmd.Run(); err != nil {
				t.Fatalf("%s: %v", program, err)
			}
		}))
	}
	return w.median()
}

func (c *commands) start(t *testing.T) {
	row{
		what: "start (`--help`), medians of 20", unit: "ms", digits: 1,
		floor: way{name: "a Go program that prints a line", once: func(t *testing.T) float64 { return c.milliseconds(t, c.hello) }},
		peer:  way{name: "`kubectl --help`", once: func(t *testing.T) float64 { return c.milliseconds(t, c.Kubectl, "--help") }},
		ours:  way{once: func(t *testing.T) float64 { return c.milliseconds(t, c.ours, "--help") }},
	}.measure(t, 5)
}

func (c *commands) size(t *testing.T) {
	size := func(path string) float64 {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return float64(info.Size()) / 1e6
	}
	row{
		what: "binary", unit: "MB", digits: 1,
		floor: way{name: "a Go program that prints a line", values: []float64{size(c.hello)}},
		peer:  way{name: "kubectl", values: []float64{size(c.Kubectl)}},
		ours:  way{values: []float64{size(c.ours)}},
	}.print(t)
}

// render is of the same manifests.
func (c *commands) render(t *testing.T) {
	args := []string{"--overlay", "gcp", "--artifacts-destination", "gs://" + bucket + "/bench"}
	r := c.mlflow(t, append([]string{"export", filepath.Join(t.TempDir(), "mlflow")}, args...)...)
	overlay := strings.TrimSpace(r.stdout)
	row{
		what: "manifests of an overlay, medians of 20", unit: "ms", digits: 1,
		floor: way{name: "our start (`version`)", once: func(t *testing.T) float64 { return c.milliseconds(t, c.ours, "version") }},
		peer:  way{name: "`kubectl kustomize` of the same files", once: func(t *testing.T) float64 { return c.milliseconds(t, c.Kubectl, "kustomize", overlay) }},
		ours: way{once: func(t *testing.T) float64 {
			return c.milliseconds(t, c.ours, append([]string{"manifests"}, args...)...)
		}},
	}.measure(t, 5)
}
