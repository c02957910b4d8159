//go:build e2e && bench

package e2e

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

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
	t.Cleanup(func() { e.prune(t) })
	return e
}

// prune leaves nothing in the engine.
func (e *engine) prune(t *testing.T) {
	t.Helper()
	e.docker(t, "system", "prune", "--all", "--force")
	e.docker(t, "builder", "prune", "--all", "--force")
}

// do runs a program with the engine at hand, and returns how long it took.
func (e *engine) do(t *testing.T, program string, args ...string) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 15*time.Minute) // cleanups call it, too
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

// buildDocker is MLflow's own way to a new image, at its best: no other environment manager than pip, on a slim image; then the push.
func (e *engine) buildDocker(t *testing.T, model string) (image string, took time.Duration) {
	t.Helper()
	image = e.host + "/peer/iris:" + fmt.Sprint(time.Now().UnixNano())
	return image, e.buildAs(t, model, image)
}

func (e *engine) buildAs(t *testing.T, model, image string) time.Duration {
	t.Helper()
	base := e.base(t)
	built := e.do(t, e.python(t), "-c", `import sys, mlflow.models
mlflow.models.build_docker(model_uri=sys.argv[1], name=sys.argv[2], env_manager="local", base_image=sys.argv[3])`, model, image, base)
	return built + e.docker(t, "push", image)
}
