//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// lab is the running cluster and the binaries under test.
type lab struct {
	root       string // of the checkout
	Kubeconfig string `json:"kubeconfig"`
	Kubectl    string `json:"kubectl"`
	Server     string `json:"server"`
	Registry   string `json:"registry"`
	BaseImage  string `json:"baseImage"`
	Bin        string `json:"bin"`
	Cache      string `json:"cache"`
	NodePID    int    `json:"nodePid"`
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
	cmd.Env = append(cmd.Env, "PATH="+path, "KUBECONFIG="+l.Kubeconfig, "MLFLOW_DISABLE_TELEMETRY=true") // whose thread may break a request of the client
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
	return l.managed(t, "namespaces,services.serving.knative.dev,configmaps,secrets,deployments,statefulsets,jobs,persistentvolumeclaims,serviceaccounts,services")
}

// managed is every object of some kinds that the plugin has written, but for what is in a namespace that is going: no test waits for that.
func (l *lab) managed(t *testing.T, kinds string) string {
	t.Helper()
	going := strings.Fields(l.kubectl(t, "get", "namespaces", "--output", `jsonpath={.items[?(@.status.phase=="Terminating")].metadata.name}`))
	var left strings.Builder
	for line := range strings.Lines(l.kubectl(t, "get", kinds, "--all-namespaces", "--output",
		`jsonpath={range .items[?(@.metadata.labels.app\.kubernetes\.io/managed-by=="kubectl-mlflow")]}{.kind} {.metadata.namespace}/{.metadata.name} {.metadata.uid} {.metadata.generation}{"\n"}{end}`)) {
		namespace, name, _ := strings.Cut(strings.Fields(line)[1], "/")
		if !slices.Contains(going, cmp.Or(namespace, name)) {
			left.WriteString(line)
		}
	}
	return left.String()
}

// forward keeps `kubectl mlflow port-forward` running until the test ends and returns the URL that it printed.
func (l *lab) forward(t *testing.T, flags ...string) string {
	t.Helper()
	url, _ := l.start(t, nil, filepath.Join(l.root, "bin/kubectl-mlflow"), append([]string{"port-forward", ":5000"}, flags...)...)
	return url
}

// start runs a port-forward until the test ends, and returns where it listens.
func (l *lab) start(t *testing.T, env []string, name string, args ...string) (url string, pid int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	cmd := l.command(ctx, env, name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewReader(out)
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // interrupted by us
		if t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(name), stderr.String())
		}
	})
	line, err := said.ReadString('\n')
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	go func() { _, _ = io.Copy(io.Discard, said) }() // kubectl says a line for each connection
	line = strings.TrimSpace(line)
	if address, found := strings.CutPrefix(line, "Forwarding from "); found { // kubectl's
		address, _, _ = strings.Cut(address, " ->")
		line = "http://" + address
	}
	return line, cmd.Process.Pid
}
