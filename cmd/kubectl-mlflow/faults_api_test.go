//go:build api

package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/streaming/pkg/httpstream"

	"github.com/kubectl-mlflow/kubectl-mlflow/test/kit"
)

// patience is how long one call of the program may take before its test gives up.
const patience = 90 * time.Second

// stage is a real API server with the kit's controller and an MLflow that answers: what a test needs to install.
type stage struct {
	kubeconfig string // the administrator's, to the API server itself
	prefix     string // of all namespaces
	controller *kit.Controller
	mlflow     *kit.MLflow
	scenes     atomic.Int64
}

func newStage(t *testing.T) *stage {
	t.Helper()
	kubeconfig := os.Getenv("KUBECTL_MLFLOW_TEST_KUBECONFIG")
	if kubeconfig == "" {
		t.Skip("KUBECTL_MLFLOW_TEST_KUBECONFIG names no API server")
	}
	prefix := "fault-" + strconv.FormatInt(time.Now().UnixNano(), 36) + "-"
	return &stage{kubeconfig: kubeconfig, prefix: prefix, mlflow: kit.NewMLflow(t), controller: kit.NewController(t, kubeconfig, prefix)}
}

// scene is a namespace of its own, and a way to the API server that accidents can happen on.
type scene struct {
	*stage
	t         *testing.T
	namespace string
	proxy     *kit.Proxy
	config    string       // kubeconfig by way of the proxy
	shut      *atomic.Bool // what some scenes' webhook refuses by
}

func (s *stage) newProxy(t *testing.T) *kit.Proxy {
	t.Helper()
	proxy := kit.NewProxy(t, s.kubeconfig)
	proxy.Kubelet = &kit.Kubelet{Forward: func(_, _ string, data httpstream.Stream) error { return kit.TCP(s.mlflow.Address, data) }}
	return proxy
}

func (s *stage) scene(t *testing.T) *scene {
	t.Helper()
	proxy := s.newProxy(t)
	namespace := s.prefix + strconv.FormatInt(s.scenes.Add(1), 10)
	t.Cleanup(func() { s.controller.End(t, namespace) })
	return &scene{stage: s, t: t, namespace: namespace, proxy: proxy, config: proxy.Kubeconfig("")}
}

// call is the program, running.
type call struct {
	t              *testing.T
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
	ended          chan struct{}
	took           time.Duration // until it ended
}

// start starts the program on the scene's namespace.
func (s *scene) start(args ...string) *call {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	s.t.Cleanup(cancel)
	args = append(args, "--namespace", s.namespace, "--kubeconfig", s.config)
	if args[0] == "install" && !slices.Contains(args, "--storage-class") {
		args = append(args, "--storage-class", s.controller.StorageClass)
	}
	c := &call{t: s.t, cmd: exec.CommandContext(ctx, "kubectl-mlflow", args...), ended: make(chan struct{})}
	c.cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "KUBE") })
	c.cmd.Env = append(c.cmd.Env, "HOME="+filepath.Join(s.t.TempDir(), "home"))
	c.cmd.Stdout, c.cmd.Stderr = &c.stdout, &c.stderr
	began := time.Now()
	if err := c.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		_ = c.cmd.Wait()
		c.took = time.Since(began)
		close(c.ended)
	}()
	return c
}

// code waits for the end and returns the exit code, -1 where a signal was the end.
func (c *call) code() int {
	<-c.ended
	return c.cmd.ProcessState.ExitCode()
}

// run runs the program to its end and wants the exit code.
func (s *scene) run(want int, args ...string) *call {
	s.t.Helper()
	c := s.start(args...)
	if got := c.code(); got != want {
		s.t.Fatalf("%s: exit code %d, want %d\n%s", strings.Join(args, " "), got, want, c.stderr.String())
	}
	return c
}

// TestRealLife is the whole life of an installation, without accidents.
func TestRealLife(t *testing.T) {
	s := newStage(t).scene(t)
	for _, step := range []struct {
		args        []string
		says, never string // in what is printed
	}{
		{[]string{"install"}, "deployment.apps/mlflow created", "unchanged"},
		{[]string{"install"}, "deployment.apps/mlflow unchanged", "created"},
		{[]string{"wait"}, "", ""},
		{[]string{"uninstall"}, "persistentvolumeclaim/postgres-data kept", "unchanged"},
		{[]string{"install"}, "persistentvolumeclaim/postgres-data unchanged", "configured"},
		{[]string{"uninstall", "--delete-data"}, "namespace/" + s.namespace + " deleted", "kept"},
	} {
		c := s.run(0, step.args...)
		said := c.stdout.String()
		if !strings.Contains(said, step.says) || step.never != "" && strings.Contains(said, step.never) {
			t.Errorf("%v: got\n%s\nwant %q and not %q", step.args, said, step.says, step.never)
		}
	}
	if n := s.mlflow.Searches(); n != 4 { // all but uninstall
		t.Errorf("MLflow's database was asked %d times, want 4", n)
	}
}
