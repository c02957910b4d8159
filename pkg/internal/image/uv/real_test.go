//go:build real

package uv_test

import (
	"io"
	"log"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image/registry"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image/uv"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// inRegistry is a repository in a new registry, and an empty base image in it.
func inRegistry(t *testing.T) (to *registry.Repository, base string) {
	t.Helper()
	server := httptest.NewServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: "amd64"})
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(host + "/python:3.11-slim")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img); err != nil {
		t.Fatal(err)
	}
	if to, err = registry.Open(host + "/models"); err != nil {
		t.Fatal(err)
	}
	if base, err = to.Resolve(t.Context(), ref.String()); err != nil {
		t.Fatal(err)
	}
	return to, base
}

// TestARealEnvironment builds what a scikit-learn model needs from the user's Python package index, on what could be three machines:
// same digest. It needs the network, and fetches uv where it is not on PATH. KUBECTL_MLFLOW_TEST_LAUNCHER is a directory with
// launcher.py.
func TestARealEnvironment(t *testing.T) {
	launcher := os.Getenv("KUBECTL_MLFLOW_TEST_LAUNCHER")
	if launcher == "" {
		t.Skip("KUBECTL_MLFLOW_TEST_LAUNCHER names no directory with launcher.py")
	}
	before := syscall.Umask(0)
	defer syscall.Umask(before)
	one, other := t.TempDir(), t.TempDir()
	digests := map[string]string{}
	for _, machine := range []struct {
		name, packages, zone, locale string
		umask                        int
	}{
		{"cold", one, "UTC", "C", 0o022},
		{"warm", one, "Asia/Kathmandu", "C", 0o077},
		{"cold, elsewhere", other, "Pacific/Auckland", "C.UTF-8", 0o002},
	} {
		to, base := inRegistry(t)
		syscall.Umask(machine.umask)
		t.Setenv("UV_CACHE_DIR", machine.packages)
		t.Setenv("TZ", machine.zone)
		t.Setenv("LC_ALL", machine.locale)
		b := &uv.Builder{Launcher: os.DirFS(launcher), Cache: t.TempDir()}
		e := image.Environment{
			Base:         base,
			Platform:     "linux/amd64",
			Python:       "3.11.7",
			Requirements: []string{"mlflow==3.17.2", "scikit-learn==1.7.2", "skops==0.13.0"},
			TorchBackend: image.TorchCPU,
		}
		if err := b.Check(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		digest, err := b.Build(t.Context(), e, to, progress.Discard{}.Start(""))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: built and pushed in %.1f s: %s", machine.name, time.Since(began).Seconds(), digest)
		digests[digest] = machine.name
	}
	if len(digests) != 1 {
		t.Errorf("the same environment has several digests: %v", digests)
	}
}
