//go:build e2e && bench

package e2e

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestBenchInstall is what an administrator waits for between a bare namespace and a server that answers, against the same manifests with
// kubectl, as the guide does it. Its Secrets are there before, which is the guide's own work.
func TestBenchInstall(t *testing.T) {
	i := &installation{ours: openLab(t).namespace(t, "e2e-bench-ours"), peer: openLab(t).namespace(t, "e2e-bench-peer")}
	i.overlay = strings.TrimSpace(i.peer.mlflow(t, "export", filepath.Join(t.TempDir(), "mlflow"), "--overlay", "local").stdout)
	t.Run("first", i.first)
	t.Run("again", i.again)
}

type installation struct {
	ours, peer *installed
	overlay    string // a directory with a kustomization
}

func (i *installation) first(t *testing.T) {
	pods := way{name: "the pods' own times, added up"}
	r := row{
		what: "install, to a server that is ready", unit: "s", digits: 1,
		peer: way{name: "`kubectl apply -k` of the same, with its Secrets there, and `kubectl wait`", once: func(t *testing.T) float64 {
			i.peer.remove(t)
			i.peer.lab.kubectl(t, "create", "namespace", i.peer.namespace)
			i.peer.mlflow(t, "install", "--overlay", "local", "--secrets-only")
			return seconds(func() { i.apply(t) })
		}},
		ours: way{once: func(t *testing.T) float64 {
			i.ours.remove(t)
			lives := i.ours.watchPods(t, i.ours.namespace)
			took := seconds(func() { i.ours.mlflow(t, "install", "--overlay", "local") })
			sum := 0.0
			for name, life := range lives() {
				if life.done.IsZero() {
					t.Fatalf("pod %s was not seen to be done", name)
				}
				sum += life.done.Sub(life.made).Seconds()
			}
			pods.values = append(pods.values, sum)
			return took
		}},
	}
	r.take(t, 3)
	r.floor = pods
	r.print(t)
}

func (i *installation) apply(t *testing.T) {
	t.Helper()
	i.peer.kubectl(t, "apply", "-k", i.overlay)
	i.peer.kubectl(t, "wait", "deployment/mlflow", "--for=condition=available", "--timeout=5m")
}

func (i *installation) again(t *testing.T) {
	row{
		what: "install of what is installed", unit: "s", digits: 2,
		floor: way{name: "one `kubectl get`", once: func(t *testing.T) float64 {
			return seconds(func() { i.ours.kubectl(t, "get", "deployment", "mlflow") })
		}},
		peer: way{name: "`kubectl apply -k` and `kubectl wait`", once: func(t *testing.T) float64 {
			return seconds(func() { i.apply(t) })
		}},
		ours: way{once: func(t *testing.T) float64 {
			return seconds(func() { i.ours.mlflow(t, "install", "--overlay", "local") })
		}},
	}.measure(t, 5)
}
