//go:build e2e && bench

package e2e

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
)

// again changes a model as a further training does.
func again(t *testing.T, model string) {
	t.Helper()
	fill(t, filepath.Join(model, "weights.bin"), weights)
}

// weights is the size of a model that is called small, bytes.
const weights = 1 << 20

// TestBenchImages is what a data scientist waits for between a model and its image in the registry, against MLflow's own
// build_docker.
func TestBenchImages(t *testing.T) {
	s := newStore(t)
	e := newEngine(t, s)
	i := &images{e, s.logged(t)}
	t.Run("new environment", i.newEnvironment)
	t.Run("further version", i.furtherVersion)
	t.Run("bytes", i.bytes)
	t.Run("two gigabytes", i.twoGigabytes)
}

type images struct {
	*engine
	model string // its directory
}

// newEnvironment leaves nothing of a round to the next: packages, uv's cache, the engine's.
func (i *images) newEnvironment(t *testing.T) {
	install := way{name: "`uv pip install` of the packages, cold"}
	peer := way{name: "`build_docker`, cold, and `docker push`"}
	var byUV, byDocker way
	requirements := filepath.Join(i.model, "requirements.txt")
	const cold = 2
	for range rounds(t, cold) {
		again(t, i.model)
		t.Setenv("UV_CACHE_DIR", t.TempDir())
		install.values = append(install.values, i.do(t, filepath.Join(i.Bin, "uv"), "pip", "install", "--quiet", "--python", i.python(t), "--target", t.TempDir(), "-r", requirements).Seconds())
		i.prune(t)
		_, took := i.buildDocker(t, i.model)
		peer.values = append(peer.values, took.Seconds())
		t.Setenv("UV_CACHE_DIR", t.TempDir())
		byUV.values = append(byUV.values, i.build(t, i.model, "--rebuild", "--builder", "uv").wall.Seconds())
		i.prune(t)
		byDocker.values = append(byDocker.values, i.build(t, i.model, "--rebuild", "--builder", "docker").wall.Seconds())
	}
	row{what: "new environment, by uv, pushed", unit: "s", digits: 1, ours: byUV, peer: peer, floor: install}.print(t)
	row{what: "new environment, by Docker, pushed", unit: "s", digits: 1, ours: byDocker, peer: peer, floor: install}.print(t)
}

func (i *images) furtherVersion(t *testing.T) {
	i.build(t, i.model)
	i.buildDocker(t, i.model)
	row{
		what: "further version of 1 MiB, pushed", unit: "s", digits: 2,
		floor: way{name: "`PUT` of the file", once: func(t *testing.T) float64 {
			file := filepath.Join(i.model, "weights.bin")
			return i.put(t, file, weights, fill(t, file, weights)).Seconds()
		}},
		peer: way{name: "`build_docker`, warm, and `docker push`", once: func(t *testing.T) float64 {
			_, took := i.buildDocker(t, i.model)
			return took.Seconds()
		}},
		ours: way{once: func(t *testing.T) float64 {
			b := i.build(t, i.model)
			if b.Timings.Environment != 0 {
				t.Error("the environment was built again")
			}
			return b.wall.Seconds()
		}},
	}.measure(t, 5)
}

// bytes has both push through a meter.
func (i *images) bytes(t *testing.T) {
	m := newMeter(t, i.host)
	metered := *i.store
	metered.host = m.host
	ours := &images{&engine{&metered, i.path}, i.model}
	ours.build(t, i.model)
	ours.buildDocker(t, i.model)
	wire, growth := row{what: "the same, sent to the registry", unit: "MiB", digits: 2}, row{what: "the same, growth of the registry", unit: "MiB", digits: 2}
	const mib = 1 << 20
	count := func(wire, growth *way, push func()) {
		sent, size := m.sent.Load(), i.size(t)
		push()
		wire.values = append(wire.values, float64(m.sent.Load()-sent)/mib)
		growth.values = append(growth.values, float64(i.size(t)-size)/mib)
	}
	for range rounds(t, 3) {
		again(t, i.model)
		count(&wire.peer, &growth.peer, func() { ours.buildDocker(t, i.model) })
		again(t, i.model)
		count(&wire.ours, &growth.ours, func() { ours.build(t, i.model) })
	}
	for _, r := range []row{wire, growth} {
		r.peer.name, r.floor = "`build_docker` and `docker push`", way{name: "the file", values: []float64{weights / mib}}
		r.print(t)
	}
}

// twoGigabytes compares with crane append, too, to which a file's archive is given: build_docker takes minutes.
func (i *images) twoGigabytes(t *testing.T) {
	const size = 2 << 30
	crane, file := filepath.Join(i.Cache, "bench/bin/crane"), filepath.Join(i.model, "weights.bin")
	i.build(t, i.model) // the environment
	memory := int64(0)
	row{
		what: "version of 2 GiB, pushed", unit: "s", digits: 1,
		floor: way{name: "`PUT` of the file", once: func(t *testing.T) float64 {
			return i.put(t, file, size, fill(t, file, size)).Seconds()
		}},
		peer: way{name: "`crane append` of its archive, which is made before", once: func(t *testing.T) float64 {
			fill(t, file, size)
			archive := filepath.Join(t.TempDir(), "model.tar")
			i.do(t, "tar", "-C", filepath.Dir(i.model), "-cf", archive, filepath.Base(i.model))
			took := i.do(t, crane, "append", "--insecure", "--base", i.BaseImage, "--new_layer", archive, "--new_tag", i.host+"/crane:latest")
			if err := os.Remove(archive); err != nil {
				t.Fatal(err)
			}
			return took.Seconds()
		}},
		ours: way{once: func(t *testing.T) float64 {
			fill(t, file, size)
			b := i.build(t, i.model)
			memory = max(memory, b.memory)
			return b.wall.Seconds()
		}},
	}.measure(t, 3)
	t.Logf("- The build of 2 GiB had at most %d MiB in memory.", memory>>20)
	_, took := i.buildDocker(t, i.model)
	t.Logf("- `build_docker` and `docker push` of the same 2 GiB: %.1f s (n=1).", took.Seconds())
}

// meter passes on what is sent to a server, and counts it.
type meter struct {
	host string
	sent atomic.Int64 // bytes
}

func newMeter(t *testing.T, server string) *meter {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
	})
	m := &meter{host: listener.Addr().String()}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // closed
			}
			go m.pass(t, client, server)
		}
	}()
	return m
}

// pass copies both ways until both sides have ended. An error ends one way, as it does for client and server.
func (m *meter) pass(t *testing.T, client net.Conn, server string) {
	defer func() { _ = client.Close() }()
	upstream, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", server)
	if err != nil {
		return // the client sees its connection closed
	}
	defer func() { _ = upstream.Close() }()
	down := make(chan struct{})
	go func() {
		defer close(down)
		_, _ = io.Copy(client, upstream)
		_ = client.Close()
	}()
	_, _ = io.Copy(counted{upstream, &m.sent}, client)
	_ = upstream.Close()
	<-down
}

// counted counts what is written.
type counted struct {
	io.Writer
	n *atomic.Int64
}

func (c counted) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	c.n.Add(int64(n))
	return n, err
}
