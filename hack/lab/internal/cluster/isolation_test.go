//go:build lab

package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/artifacts"
	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/node"
	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/report"
	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/snapshot"
)

const nodeVariable = "LAB_TEST_NODE"

func TestMain(m *testing.M) {
	if os.Getenv(nodeVariable) != "" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		if err := node.Main(ctx, os.Args[1], os.Stdout); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// messy does on its node what components and pods do: it writes, mounts, makes interfaces, sets sysctls, leaves children
// to PID 1 and cgroups behind.
const messy = `set -eu
hostname
test "$(cat /proc/1/comm)" != init
echo x > /tmp/lab-left; echo x > /var/lib/lab-left; echo x > /var/log/lab-left; echo x > /run/lab-left
echo 10 > /proc/sys/kernel/panic
mkdir /tmp/m && mount -t tmpfs tmpfs /tmp/m
ip link add name cni0 type bridge
ip -4 addr show lab0
for h in /sys/fs/cgroup /sys/fs/cgroup/*; do
  if [ -d $h/kubectl-mlflow-lab ]; then mkdir -p $h/kubectl-mlflow-lab/kubepods/pod1; fi
done
ls @CACHE@/CACHEDIR.TAG
cat /sys/class/net/lo/mtu
(sleep 300 &)
touch @RUN@/messy
exec sleep 300
`

// TestNodeLeavesNothing needs root, and no full lab that is up.
func TestNodeLeavesNothing(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root")
	}
	for _, test := range []struct {
		name string
		end  func(t *testing.T, pid int)
	}{
		{"ended", func(*testing.T, int) {}},
		{"killed", func(t *testing.T, pid int) {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			// Below /tmp, which the node covers with its own.
			cache := filepath.Join(t.TempDir(), "cache")
			if err := EnsureCache(cache); err != nil {
				t.Fatal(err)
			}
			before := take(t, cache)
			l := Layout{Cache: cache, Profile: artifacts.Full}
			t.Cleanup(func() {
				if err := l.Down(context.Background()); err != nil {
					t.Error(err)
				}
			})
			pid := upMessy(t, l)
			during := take(t, cache)
			if !slices.Contains(during, "address "+hostLink+" "+hostAddress+"/24") {
				t.Error("the snapshot does not show the node's link, so it proves nothing")
			}
			test.end(t, pid)
			for range 2 {
				if err := l.Down(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if d := snapshot.Left(snapshot.Diff(before, take(t, cache))); len(d) > 0 {
				t.Errorf("left behind, or taken away:\n%s", strings.Join(d, "\n"))
			}
			if entries, err := os.ReadDir(filepath.Join(cache, "run")); err != nil || len(entries) != 0 {
				t.Errorf("in the run folder: %v, %v", entries, err)
			}
		})
	}
}

func upMessy(t *testing.T, l Layout) int {
	t.Helper()
	script := strings.NewReplacer("@CACHE@", l.Cache, "@RUN@", l.Run()).Replace(messy)
	set := artifacts.Set{Bin: "/usr/bin", Registry: filepath.Join(l.Cache, "registry")}
	if err := os.MkdirAll(set.Registry, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := l.writeConfig(set); err != nil {
		t.Fatal(err)
	}
	spec := l.fullSpec(set)
	spec.Env = append(spec.Env, nodeVariable+"=1")
	spec.Components = []node.Component{{
		Name: "messy", Command: []string{"/bin/sh", "-c", script},
		Ready:  []node.Condition{{File: filepath.Join(l.Run(), "messy")}},
		Cgroup: filepath.Join(cgroupMemory(), cgroupRoot, "kubepods"),
	}}
	if err := spec.Write(l.spec()); err != nil {
		t.Fatal(err)
	}
	talk := report.New(os.Stderr)
	u := Upper{Layout: l, Program: os.Args[0], Report: talk, Talk: talk}
	ended, err := u.launch(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := u.awaitComponents(ctx, ended); err != nil {
		t.Fatalf("%v\n%s\n%s", err, tail(u.NodeLog(), 20), tail(l.Log("messy"), 1000))
	}
	pid, err := node.Alive(l.Run())
	if err != nil || pid == 0 {
		t.Fatalf("no supervisor: %d, %v", pid, err)
	}
	if out, err := exec.Command("nsenter", "--target", strconv.Itoa(pid), "--pid", "--mount", "ps", "ax").CombinedOutput(); err != nil { // #nosec G204 -- fixed command
		t.Errorf("look into the node: %v: %s", err, out)
	}
	return pid
}

func take(t *testing.T, cache string) []string {
	t.Helper()
	lines, err := snapshot.Take(cache, filepath.Dir(cache))
	if err != nil {
		t.Fatal(err)
	}
	return lines
}
