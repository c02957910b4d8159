//go:build e2e && bench

package e2e

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// rounds is how often each is measured, in turns; what is cold is measured less.
const (
	rounds     = 5
	coldRounds = 2
)

// median of durations, and how far they spread around it, in percent.
func median(d []time.Duration) (time.Duration, float64) {
	d = slices.Sorted(slices.Values(d))
	m := d[len(d)/2]
	return m, 100 * float64(d[len(d)-1]-d[0]) / float64(m)
}

// row prints one line of the table: ours, the peer's, and what there is of the one in the other.
func row(t *testing.T, what, peer string, ours, theirs []time.Duration) {
	t.Helper()
	m, spread := median(ours)
	p, peerSpread := median(theirs)
	marks := ""
	if spread > 15 || peerSpread > 15 {
		marks = " (spread over 15 %)"
	}
	t.Logf("| %s | %.2f s ± %.0f %% | %s | %.2f s ± %.0f %% | %.3f%s |", what, m.Seconds(), spread/2, peer, p.Seconds(), peerSpread/2, m.Seconds()/p.Seconds(), marks)
}

// engine is a Docker engine, and MLflow's client that builds with it.
type engine struct {
	*store
	path string // with docker first in it
}

// newEngine skips where DOCKER_HOST names none. The docker command gives builds the host's network: the engine has no other.
func newEngine(t *testing.T, s *store) *engine {
	t.Helper()
	if os.Getenv("DOCKER_HOST") == "" {
		t.Skip("DOCKER_HOST names no Docker engine")
	}
	docker := filepath.Join(s.Cache, "docker/root/usr/bin/docker")
	dir := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\nif [ \"$1\" = build ]; then shift; exec %[1]s build --network host \"$@\"; fi\nexec %[1]s \"$@\"\n", docker)
	if err := os.WriteFile(filepath.Join(dir, "docker"), []byte(script), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	e := &engine{s, dir + string(filepath.ListSeparator) + os.Getenv("PATH")}
	if out, err := exec.CommandContext(t.Context(), docker, "images", "--quiet").Output(); err != nil || len(out) > 0 { //nolint:gosec // ours
		t.Fatalf("the engine has images of somebody, which the rounds would remove: %s%v", out, err)
	}
	return e
}

// do runs a program with the engine at hand, and returns how long it took.
func (e *engine) do(t *testing.T, program string, args ...string) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "PATH="+e.path, "DOCKER_BUILDKIT=1", "MLFLOW_DISABLE_TELEMETRY=true")
	began := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
	return time.Since(began)
}

func (e *engine) docker(t *testing.T, args ...string) time.Duration {
	t.Helper()
	return e.do(t, filepath.Join(strings.Split(e.path, string(filepath.ListSeparator))[0], "docker"), args...)
}

// base gives the engine the base image for MLflow's builds, which have no way to the certificate authority that this machine's package index
// may have: it is in the image. MLflow does not pay for it.
func (e *engine) base(t *testing.T) (image string) {
	t.Helper()
	dir, dockerfile := t.TempDir(), "FROM "+e.BaseImage+"\n"
	ca := cmp.Or(os.Getenv("PIP_CERT"), os.Getenv("SSL_CERT_FILE"), os.Getenv("REQUESTS_CA_BUNDLE"))
	if ca != "" {
		text, err := os.ReadFile(ca) //nolint:gosec // the user's own
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "ca.pem"), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		dockerfile += "COPY ca.pem /ca.pem\nENV PIP_CERT=/ca.pem SSL_CERT_FILE=/ca.pem REQUESTS_CA_BUNDLE=/ca.pem\n"
	}
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o600); err != nil {
		t.Fatal(err)
	}
	e.docker(t, "build", "-t", "bench-base", dir)
	return "bench-base"
}

// buildDocker is MLflow's own way at its best: no other environment manager than pip, on a slim image; then the push.
func (e *engine) buildDocker(t *testing.T, model string) time.Duration {
	t.Helper()
	base := e.base(t)
	image := e.host + "/peer/iris:" + fmt.Sprint(time.Now().UnixNano())
	took := e.do(t, e.python(t), "-c", `import sys, mlflow.models
mlflow.models.build_docker(model_uri=sys.argv[1], name=sys.argv[2], env_manager="local", base_image=sys.argv[3])`, model, image, base)
	return took + e.docker(t, "push", image)
}

// again changes a model as a further training does.
func again(t *testing.T, model string) {
	t.Helper()
	fill(t, filepath.Join(model, "weights.bin"), 1<<20)
}

// TestBenchImages is what a data scientist waits for between a model and its image in the registry, against MLflow's own
// build_docker.
func TestBenchImages(t *testing.T) {
	s := newStore(t)
	e := newEngine(t, s)
	model := s.logged(t)
	t.Log("| what | kubectl mlflow | peer | peer's time | ratio |")
	t.Log("|---|---|---|---|---|")

	t.Run("new environment", func(t *testing.T) {
		var ours, byDocker, theirs []time.Duration
		for range coldRounds {
			again(t, model)
			// Nothing is left of the round before: packages, uv's cache, the engine's.
			t.Setenv("UV_CACHE_DIR", t.TempDir())
			e.docker(t, "system", "prune", "--all", "--force")
			e.docker(t, "builder", "prune", "--all", "--force")
			theirs = append(theirs, e.buildDocker(t, model))
			ours = append(ours, s.build(t, model, "--rebuild", "--builder", "uv").wall)
			e.docker(t, "system", "prune", "--all", "--force")
			e.docker(t, "builder", "prune", "--all", "--force")
			byDocker = append(byDocker, s.build(t, model, "--rebuild", "--builder", "docker").wall)
		}
		row(t, "new environment, uv, pushed", "build_docker, cold, push", ours, theirs)
		row(t, "new environment, Docker, pushed", "build_docker, cold, push", byDocker, theirs)
	})
	t.Run("further version", func(t *testing.T) {
		var ours, theirs []time.Duration
		s.build(t, model)
		e.buildDocker(t, model)
		for range rounds {
			again(t, model)
			theirs = append(theirs, e.buildDocker(t, model))
			b := s.build(t, model)
			if b.Timings.Environment != 0 {
				t.Error("the environment was built again")
			}
			ours = append(ours, b.wall)
		}
		row(t, "further version of 1 MiB, pushed", "build_docker, warm, push", ours, theirs)
	})
	t.Run("two gigabytes", func(t *testing.T) {
		crane := filepath.Join(s.Cache, "bench/bin/crane")
		s.build(t, model) // the environment
		var ours, put, appended []time.Duration
		for range 3 {
			weights := filepath.Join(model, "weights.bin")
			digest := fill(t, weights, 2<<30)
			b := s.build(t, model)
			ours = append(ours, b.wall)
			t.Logf("%d MiB of memory", b.memory>>20)
			put = append(put, s.put(t, weights, 2<<30, digest))
			fill(t, weights, 2<<30)
			archive := filepath.Join(t.TempDir(), "model.tar")
			e.do(t, "tar", "-C", filepath.Dir(model), "-cf", archive, filepath.Base(model))
			appended = append(appended, e.do(t, crane, "append", "--insecure", "--base", s.BaseImage, "--new_layer", archive, "--new_tag", s.host+"/crane:latest"))
			if err := os.Remove(archive); err != nil {
				t.Fatal(err)
			}
		}
		row(t, "version of 2 GiB, pushed", "plain PUT of the file", ours, put)
		row(t, "version of 2 GiB, pushed", "crane append of its archive", ours, appended)
	})
}

// TestBenchRedeploy measures a deployment of what is deployed already, on the lab's cluster, where the demo has run.
func TestBenchRedeploy(t *testing.T) {
	l := openLab(t)
	uri := deployed(t, l)
	var took []time.Duration
	for range rounds {
		began := time.Now()
		r := l.mlflow(t, append([]string{"deploy", "iris", uri}, l.deployFlags(l.Registry+"/models/iris")...)...)
		took = append(took, time.Since(began))
		if !strings.Contains(r.stderr, "nothing changed") {
			t.Errorf("it was not unchanged:\n%s", r.stderr)
		}
	}
	m, spread := median(took)
	t.Logf("| unchanged model redeployed | %.2f s ± %.0f %% | | | |", m.Seconds(), spread/2)
}
