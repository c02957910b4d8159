package image

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func TestLoad(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	img, err := random.Image(512, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		source func(t *testing.T) string
		want   string
	}{
		{"docker archive", func(t *testing.T) string { return dockerArchive(t, img, "hello:1") }, host + "/docker.io/library/hello:1"},
		{"OCI layout in a tarball", func(t *testing.T) string { return pack(t, ociLayout(t, img, "ghcr.io/me/hello:2")) }, host + "/ghcr.io/me/hello:2"},
		{"OCI layout", func(t *testing.T) string { return ociLayout(t, img, "quay.io/me/hello:3") }, host + "/quay.io/me/hello:3"},
		{"image of a registry", func(*testing.T) string { return host + "/ghcr.io/me/hello:2" }, host + "/ghcr.io/me/hello:2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := Load(context.Background(), host, test.source(t), filepath.Join(t.TempDir(), "scratch"))
			if err != nil || !slices.Equal(got, []string{test.want}) {
				t.Fatalf("loaded as %v, %v; want %s", got, err, test.want)
			}
			ref, err := name.ParseReference(test.want)
			if err != nil {
				t.Fatal(err)
			}
			pushed, err := remote.Image(ref)
			if err != nil {
				t.Fatal(err)
			}
			if a, b := layersOf(t, pushed), layersOf(t, img); !slices.Equal(a, b) {
				t.Errorf("the registry has layers %v, the source %v", a, b)
			}
		})
	}
}

func TestLoadSaysWhatIsWrong(t *testing.T) {
	img, err := random.Image(10, 1)
	if err != nil {
		t.Fatal(err)
	}
	noise := filepath.Join(t.TempDir(), "noise.tar")
	if err := os.WriteFile(noise, []byte("no tarball"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ source, want string }{
		{noise, noise},
		{ociLayout(t, img, ""), "names no image"},
		{"NOT A NAME", "neither a file nor an image's name"},
	} {
		if _, err := Load(context.Background(), "registry.invalid", test.source, t.TempDir()); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.source, err, test.want)
		}
	}
}

func TestArchiveCannotLeaveItsFolder(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "evil.tar")
	writeTar(t, file, map[string]string{"oci-layout": "{}", "../escaped": "x"})
	if err := unpack(file, filepath.Join(folder, "scratch")); err == nil {
		t.Error("it was unpacked")
	}
	if _, err := os.Stat(filepath.Join(folder, "escaped")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it left its folder: %v", err)
	}
}

func TestTarget(t *testing.T) {
	const digest = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	for image, want := range map[string]string{
		"python:3.11-slim":        "r:1/docker.io/library/python:3.11-slim",
		"me/x":                    "r:1/docker.io/me/x:latest",
		"ghcr.io/a/b@" + digest:   "r:1/ghcr.io/a/b@" + digest,
		"r:1/models/iris:v1":      "r:1/models/iris:v1",
		"registry.k8s.io/pause:3": "r:1/registry.k8s.io/pause:3",
	} {
		if got, err := Target("r:1", image); err != nil || got != want {
			t.Errorf("%s becomes %s, %v; want %s", image, got, err, want)
		}
	}
}

func dockerArchive(t *testing.T, img v1.Image, tag string) string {
	t.Helper()
	ref, err := name.NewTag(tag)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "image.tar")
	if err := tarball.WriteToFile(file, ref, img); err != nil {
		t.Fatal(err)
	}
	return file
}

func ociLayout(t *testing.T, img v1.Image, reference string) string {
	t.Helper()
	folder := t.TempDir()
	index, err := random.Index(1, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	path, err := layout.Write(folder, index)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": reference})); err != nil {
		t.Fatal(err)
	}
	return folder
}

// pack makes a tarball of a folder.
func pack(t *testing.T, folder string) string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path) // #nosec G304 G122 -- a file of this test
		rel, _ := filepath.Rel(folder, path)
		files[rel] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "layout.tar")
	writeTar(t, file, files)
	return file
}

func writeTar(t *testing.T, file string, files map[string]string) {
	t.Helper()
	f, err := os.Create(file) // #nosec G304 -- a file of this test
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(f)
	for path, text := range files {
		if err := w.WriteHeader(&tar.Header{Name: path, Mode: 0o600, Size: int64(len(text)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func layersOf(t *testing.T, img v1.Image) []string {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, l := range layers {
		id, err := l.DiffID()
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id.String())
	}
	return ids
}
