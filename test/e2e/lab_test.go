//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// lab is the running cluster and the binaries under test.
type lab struct {
	root       string // of the checkout
	Kubeconfig string `json:"kubeconfig"`
	Kubectl    string `json:"kubectl"`
	Registry   string `json:"registry"`
	BaseImage  string `json:"baseImage"`
	Bin        string `json:"bin"`
	Cache      string `json:"cache"`
}

// openLab asks the lab where it is; `make test-e2e` has booted it.
func openLab(t *testing.T) *lab {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{root: root}
	out, err := exec.CommandContext(t.Context(), filepath.Join(root, "bin/lab"), "env", "-o", "json").Output()
	if err != nil {
		t.Fatalf("bin/lab env: %v: is the lab up? (make lab-up)", err)
	}
	if err := json.Unmarshal(out, l); err != nil {
		t.Fatalf("bin/lab env -o json printed %q: %v", out, err)
	}
	return l
}

// result is what a finished command left.
type result struct {
	code           int
	stdout, stderr string
}

// command is one call of a program, with the lab's environment and none of the caller's MLflow or cluster settings.
func (l *lab) command(ctx context.Context, env []string, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = l.root
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "MLFLOW_") && !strings.HasPrefix(kv, "KUBE") && !strings.HasPrefix(kv, "PATH=") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	path := strings.Join([]string{filepath.Join(l.root, "bin"), l.Bin, os.Getenv("PATH")}, string(filepath.ListSeparator))
	cmd.Env = append(cmd.Env, "PATH="+path, "KUBECONFIG="+l.Kubeconfig)
	cmd.Env = append(cmd.Env, env...)
	return cmd
}

// run runs a command to its end and returns what it left, whatever its exit code.
func (l *lab) run(t *testing.T, env []string, name string, args ...string) result {
	t.Helper()
	// Cleanups call it, too, when the context of the test has ended.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 15*time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := l.command(ctx, env, name, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	began := time.Now()
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", name, err)
	}
	r := result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
	t.Logf("$ %s %s\n(exit %d, %.1f s)\n%s%s", name, strings.Join(args, " "), r.code, time.Since(began).Seconds(), r.stdout, r.stderr)
	return r
}

// mlflow runs `kubectl mlflow ARGS` through kubectl, as a user does, and expects success.
func (l *lab) mlflow(t *testing.T, args ...string) result {
	t.Helper()
	r := l.run(t, nil, l.Kubectl, append([]string{"mlflow"}, args...)...)
	if r.code != 0 {
		t.Fatalf("kubectl mlflow %s: exit %d:\n%s", strings.Join(args, " "), r.code, r.stderr)
	}
	return r
}

// kubectl runs kubectl itself and expects success.
func (l *lab) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	r := l.run(t, nil, l.Kubectl, args...)
	if r.code != 0 {
		t.Fatalf("kubectl %s: exit %d:\n%s", strings.Join(args, " "), r.code, r.stderr)
	}
	return r.stdout
}

// written is every object that the plugin could write, with its version: equal before and after means nothing was changed.
func (l *lab) written(t *testing.T) string {
	t.Helper()
	return l.kubectl(t, "get", "namespaces,services.serving.knative.dev,configmaps,secrets,deployments,statefulsets,jobs,persistentvolumeclaims,serviceaccounts,services",
		"--all-namespaces", "--output",
		`jsonpath={range .items[?(@.metadata.labels.app\.kubernetes\.io/managed-by=="kubectl-mlflow")]}{.kind} {.metadata.namespace}/{.metadata.name} {.metadata.uid} {.metadata.generation}{"\n"}{end}`)
}

// forward keeps `kubectl mlflow port-forward` running until the test ends and returns the URL that it printed.
func (l *lab) forward(t *testing.T, flags ...string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	cmd := l.command(ctx, nil, filepath.Join(l.root, "bin/kubectl-mlflow"), append([]string{"port-forward", ":5000"}, flags...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // interrupted by us: its exit code is that of the interrupt
	})
	line := make([]byte, 256)
	n, err := stdout.Read(line)
	if err != nil {
		t.Fatalf("port-forward printed no URL: %v\n%s", err, stderr.String())
	}
	return strings.TrimSpace(string(line[:n]))
}
