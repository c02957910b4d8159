//go:build lab

package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/artifacts"
	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/report"
	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/snapshot"
)

// These tests run real clusters of the user's own cache, so that nothing is built twice:
//
//	go test -tags lab -timeout 60m .

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "node" {
		// The test binary is its own supervisor, as the program is.
		main()
		return
	}
	os.Exit(m.Run())
}

// TestFullClusterHealsAndLeavesNothing is the life of a full cluster: up, up again, wounded, well again, killed, down.
func TestFullClusterHealsAndLeavesNothing(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: profile full needs root")
	}
	u := upper(t, artifacts.Full, "")
	if _, err := u.Env(); err == nil {
		t.Skip("SKIPPED: the lab is up, and whoever uses it would lose it; `lab down` first")
	}
	// What has to be built, and which packages are installed for it, is not what is looked at.
	if _, err := artifacts.Ensure(t.Context(), u.Cache, u.Profile, u.Report); err != nil {
		t.Fatal(err)
	}
	before := take(t, u)
	t.Cleanup(func() {
		if err := u.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})

	env := bringUp(t, u, time.Minute)
	if again := bringUp(t, u, 10*time.Second); again.NodePID != env.NodePID {
		t.Errorf("a second up replaced node %d by %d", env.NodePID, again.NodePID)
	}
	for _, component := range []string{"kube-apiserver", "kubelet", "containerd", "etcd"} {
		kill(t, component)
		awaitReady(t, u)
	}
	if err := syscall.Kill(env.NodePID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	bringUp(t, u, time.Minute)
	if during := take(t, u); !slices.Contains(during, "lab process kubelet") {
		t.Error("the snapshot does not show the node's kubelet, so it proves nothing")
	}
	if err := u.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d := snapshot.Left(snapshot.Diff(before, take(t, u))); len(d) > 0 {
		t.Errorf("the machine is not as it was:\n%s", strings.Join(d, "\n"))
	}
}

// TestAPIClusters are two at a time, quick, for any user.
func TestAPIClusters(t *testing.T) {
	for _, name := range []string{"test-a", "test-b"} {
		u := upper(t, artifacts.API, name)
		if _, err := artifacts.Ensure(t.Context(), u.Cache, u.Profile, u.Report); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := u.Down(context.Background()); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(u.Run()); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("its run folder is still there: %v", err)
			}
		})
		bringUp(t, u, 10*time.Second)
	}
}

func upper(t *testing.T, profile artifacts.Profile, name string) cluster.Upper {
	t.Helper()
	cache, err := cluster.DefaultCache(os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	talk := report.New(os.Stderr)
	return cluster.Upper{
		Layout:  cluster.Layout{Cache: cache, Profile: profile, Name: name},
		Program: os.Args[0], Arguments: []string{"node"}, Report: talk, Talk: talk,
	}
}

func bringUp(t *testing.T, u cluster.Upper, limit time.Duration) cluster.Env {
	t.Helper()
	began := time.Now()
	env, err := u.Up(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > limit {
		t.Errorf("up took %s, more than %s", took, limit)
	}
	return env
}

func awaitReady(t *testing.T, u cluster.Upper) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	ticker := time.NewTicker(250 * time.Millisecond)
	defer ticker.Stop()
	for {
		s, err := u.Status(t.Context())
		if err == nil && s.Ready() {
			return
		}
		select {
		case <-ticker.C:
		case <-deadline.C:
			t.Fatalf("not well again: %+v, %v", s, err)
		}
	}
}

// kill ends a component of the node, found by its name among the processes of the lab's cgroup.
func kill(t *testing.T, component string) {
	t.Helper()
	procs := "/sys/fs/cgroup/memory/kubectl-mlflow-lab/node/cgroup.procs"
	if _, err := os.Stat(procs); err != nil {
		procs = "/sys/fs/cgroup/kubectl-mlflow-lab/node/cgroup.procs"
	}
	text, err := os.ReadFile(procs) // #nosec G304 -- the kernel's own filesystem
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range strings.Fields(string(text)) {
		command, err := os.ReadFile("/proc/" + field + "/cmdline") // #nosec G304 -- the kernel's own filesystem
		program, _, _ := bytes.Cut(command, []byte{0})
		if err != nil || !bytes.HasSuffix(program, []byte("/"+component)) {
			continue
		}
		pid, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("%s does not run", component)
}

func take(t *testing.T, u cluster.Upper) []string {
	t.Helper()
	lines, err := snapshot.Take(u.Cache)
	if err != nil {
		t.Fatal(err)
	}
	return lines
}
