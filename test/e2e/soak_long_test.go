//go:build e2e && long

package e2e

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestTunnelOutlivesItsPods lets a tracking client work through port-forward for ten minutes, while the server's pod is killed every
// half minute: what the client's own retries do not heal would be lost, and nothing is.
func TestTunnelOutlivesItsPods(t *testing.T) {
	const length, every = 10 * time.Minute, 30 * time.Second
	l := openLab(t)
	n := l.namespace(t, "e2e-soak")
	n.mlflow(t, "install")
	url := n.forward(t, "-n", n.namespace)
	ctx, cancel := context.WithTimeout(t.Context(), 2*length)
	defer cancel()
	cmd := n.command(ctx, []string{"MLFLOW_TRACKING_URI=" + url}, n.python(t), filepath.Join(n.root, "test/e2e/testdata/soak.py"), "600")
	var out, said strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	began, tick, kills := time.Now(), time.NewTicker(every), 0
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			if err != nil {
				t.Fatalf("the client: %v\n%s", err, said.String())
			}
			var counted struct {
				Requests int
				Slowest  float64
				Lost     map[string][]int
			}
			if err := json.Unmarshal([]byte(out.String()), &counted); err != nil {
				t.Fatalf("the client printed %q: %v", out.String(), err)
			}
			t.Logf("%d requests, the slowest %.1f s, with %d kills", counted.Requests, counted.Slowest, kills)
			if len(counted.Lost) > 0 || counted.Requests == 0 || kills < 15 {
				t.Errorf("lost: %v, after %d requests and %d kills", counted.Lost, counted.Requests, kills)
			}
			return
		case <-tick.C:
			if time.Since(began) < length-every {
				n.kubectl(t, "delete", "pods", "-l", "app=mlflow", "--grace-period=0", "--force", "--wait=false")
				kills++
			}
		}
	}
}
