//go:build e2e && bench

package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// TestBenchTunnel is what people feel of the way to MLflow, against kubectl's own. The server is the tests' own, so that its time is small.
func TestBenchTunnel(t *testing.T) {
	l := openLab(t)
	n := l.namespace(t, "e2e-bench-tunnel")
	n.mlflow(t, "install")
	n.serve(t)
	b := &benchTunnel{tunnel: &tunnel{installed: n}}
	b.url, b.pid = l.start(t, nil, filepath.Join(l.root, "bin/kubectl-mlflow"), "port-forward", ":5000", "-n", n.namespace)
	t.Run("throughput", b.throughput)
	t.Run("kept connection", b.keptConnection)
	t.Run("new connection", b.newConnection)
	t.Run("connections at once", b.atOnce)
	t.Run("recovery", b.recovery)
}

type benchTunnel struct{ *tunnel }

// direct is how many seconds the same takes without a tunnel.
func (b *benchTunnel) direct(t *testing.T, what string, n int) float64 {
	t.Helper()
	script, err := os.ReadFile(filepath.Join(b.root, "test/e2e/testdata/direct.py"))
	if err != nil {
		t.Fatal(err)
	}
	took, err := strconv.ParseFloat(b.kubectl(t, "exec", "deployment/mlflow", "--", "python", "-c", string(script), what, fmt.Sprint(n)), 64)
	if err != nil {
		t.Fatal(err)
	}
	return took
}

func (b *benchTunnel) throughput(t *testing.T) {
	const size, mib = gibi / 4, 1 << 20
	theirs := b.portForward(t)
	through := func(url string) func(*testing.T) float64 {
		return func(t *testing.T) float64 {
			return size / mib / seconds(func() {
				if err := drain(url, size); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
	row{
		what: "256 MiB down through `port-forward` (more is better)", unit: "MiB/s",
		floor: way{name: "the same within the pod", once: func(t *testing.T) float64 { return size / mib / b.direct(t, "bytes", size) }},
		peer:  way{name: "`kubectl port-forward`", once: through(theirs)},
		ours:  way{once: through(b.url)},
	}.measure(t, 11)
}

// Questions are put twenty times a second, as by somebody who works: what is done ahead for the next one has its time.
const (
	questions = 40
	pause     = 50 * time.Millisecond
)

func (b *benchTunnel) keptConnection(t *testing.T) {
	kept := &http.Client{Timeout: time.Minute}
	b.latency(t, "small request through `port-forward`, on a kept connection", b.within("kept"), func(tun *tunnel) error {
		_, err := tun.askBy(kept)
		return err
	})
}

func (b *benchTunnel) newConnection(t *testing.T) {
	b.latency(t, "small request through `port-forward`, on a new connection", b.within("new"), (*tunnel).ask)
}

// atOnce is what a browser does.
func (b *benchTunnel) atOnce(t *testing.T) {
	one := b.within("new")
	one.name = "one of them within the pod"
	b.latency(t, "six new connections at once through `port-forward`, until all are answered", one, func(tun *tunnel) error {
		const six = 6
		errs := make(chan error, six)
		for range six {
			go func() { errs <- tun.ask() }()
		}
		var all error
		for range six {
			all = errors.Join(all, <-errs)
		}
		return all
	})
}

// within is the way of small requests without a tunnel.
func (b *benchTunnel) within(connection string) way {
	return way{name: "the same within the pod", once: func(t *testing.T) float64 { return 1000 * b.direct(t, connection, questions) }}
}

// latency is the median of many questions.
func (b *benchTunnel) latency(t *testing.T, what string, floor way, ask func(*tunnel) error) {
	t.Helper()
	through := func(tun *tunnel) func(*testing.T) float64 {
		return func(t *testing.T) float64 {
			took := way{}
			next := time.NewTicker(pause)
			defer next.Stop()
			for range questions {
				took.values = append(took.values, 1000*seconds(func() {
					if err := ask(tun); err != nil {
						t.Fatal(err)
					}
				}))
				<-next.C
			}
			return took.median()
		}
	}
	row{
		what: what, unit: "ms", digits: 2, floor: floor,
		peer: way{name: "`kubectl port-forward`", once: through(&tunnel{url: b.portForward(t)})},
		ours: way{once: through(b.tunnel)},
	}.measure(t, 5)
}

// recovery is of connections that are asked for all the time. kubectl's port-forward does not come back; those who know that have a shell
// start it again.
func (b *benchTunnel) recovery(t *testing.T) {
	const patience = time.Minute
	ready := way{name: "until the successor is ready"}
	after := func(w *way, url string) {
		t.Helper()
		deleted, succeeded, first := (&tunnel{installed: b.installed, url: url}).replaced(t, patience)
		if first.IsZero() {
			first = deleted.Add(patience)
		}
		ready.values = append(ready.values, succeeded.Sub(deleted).Seconds())
		w.values = append(w.values, first.Sub(deleted).Seconds())
	}
	alone := way{name: "`kubectl port-forward`", most: patience.Seconds()}
	after(&alone, b.portForward(t))
	_, port, err := net.SplitHostPort(free(t))
	if err != nil {
		t.Fatal(err)
	}
	loop := fmt.Sprintf("trap 'kill $!; exit' INT; while :; do %s -n %s port-forward svc/mlflow %s:5000 & wait $!; done", b.Kubectl, b.namespace, port)
	url, _ := b.start(t, nil, "sh", "-c", loop)
	looped := way{name: "`while :; do kubectl port-forward …; done`"}
	var ours way
	for range rounds(t, 3) {
		after(&looped, url)
		after(&ours, b.url)
	}
	for _, peer := range []way{alone, looped} {
		row{what: "pod deleted, to its successor's first answer on the same port", unit: "s", digits: 2, ours: ours, peer: peer, floor: ready}.print(t)
	}
}
