package uv

import (
	"errors"
	"io"
	"io/fs"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image/registry"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// inRegistry is a repository in a new registry, and an environment on a base image that is there.
func inRegistry(t *testing.T) (*registry.Repository, image.Environment) {
	t.Helper()
	server := httptest.NewServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	base, err := mutate.ConfigFile(mutate.MediaType(empty.Image, types.OCIManifestSchema1), &v1.ConfigFile{OS: "linux", Architecture: "amd64"})
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(host + "/python:3.11-slim")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, base); err != nil {
		t.Fatal(err)
	}
	to, err := registry.Open(host+"/models", registry.WithKeychain(authn.NewMultiKeychain()))
	if err != nil {
		t.Fatal(err)
	}
	e := environment()
	if e.Base, err = to.Resolve(t.Context(), ref.String()); err != nil {
		t.Fatal(err)
	}
	return to, e
}

// installs is a uv that finds no interpreter, and installs one package as text says.
const installs = `
case "$1" in
--version) echo 'uv 0.13.9 (x86_64-unknown-linux-gnu)' ;;
python) exit 1 ;;
pip)
	while [ "$1" != --target ]; do shift; done
	info="$2/mine-1.0.dist-info"; mkdir -p "$info" "$2/mine"
	echo "TEXT" > "$2/mine/__init__.py"
	echo '{"url":"file:///home/bob/.cache/build-1/wheels/mine-1.0-py3-none-any.whl"}' > "$info/direct_url.json"
	date +%N > "$info/uv_cache.json"
	printf 'mine/__init__.py,,8\nmine-1.0.dist-info/direct_url.json,sha256=%s,1\nmine-1.0.dist-info/uv_cache.json,sha256=%s,1\n' "$$" "$$" > "$info/RECORD"
	;;
esac
`

func build(t *testing.T, text string, b *Builder, to *registry.Repository, e image.Environment) string {
	t.Helper()
	pathWith(t, strings.ReplaceAll(installs, "TEXT", text))
	digest, err := b.Build(t.Context(), e, to, progress.Discard{}.Start(""))
	if err != nil {
		t.Fatal(err)
	}
	return digest
}

func TestWhereAndWhenAWheelWasInstalledIsNotInTheImage(t *testing.T) {
	var digests []string
	for range 2 {
		to, e := inRegistry(t)
		digests = append(digests, build(t, "v = 1", &Builder{Cache: t.TempDir()}, to, e))
	}
	if digests[0] != digests[1] {
		t.Errorf("one environment has two digests: %q", digests)
	}
}

func TestWhoIsFasterDecides(t *testing.T) {
	to, e := inRegistry(t)
	first := build(t, "v = 1", &Builder{Cache: t.TempDir()}, to, e)
	// Another machine, whose index had something newer. It began before the first one's push.
	if second := build(t, "v = 2", &Builder{Cache: t.TempDir()}, to, e); second != first {
		t.Errorf("the environment changed from %s to %s", first, second)
	}
}

func TestWhatKilledBuildsLeftIsRemoved(t *testing.T) {
	b := &Builder{Cache: t.TempDir()}
	left := filepath.Join(b.Cache, "work-123")
	for _, name := range []string{left, filepath.Join(b.Cache, "uv-0.13.9")} {
		if err := os.MkdirAll(filepath.Join(name, "env"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	first, removeFirst, err := WorkDir(b.Cache)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: %v", left, err)
	}
	// A build that is under way is no litter.
	_, removeSecond, err := WorkDir(b.Cache)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(first); err != nil {
		t.Errorf("the second build removed the first: %v", err)
	}
	if err := errors.Join(removeFirst(), removeSecond()); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(b.Cache)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	if !slices.Equal(names, []string{"builds.lock", "uv-0.13.9"}) {
		t.Errorf("left in the cache: %q", names)
	}
}
