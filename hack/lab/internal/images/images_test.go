package images

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// lay writes files; names that end in / are folders, texts that begin with -> are links.
func lay(t *testing.T, folder string, files map[string]string) {
	t.Helper()
	old := time.Now().Add(-time.Hour).Truncate(time.Second)
	for name, text := range files {
		path := filepath.Join(folder, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		target, isLink := strings.CutPrefix(text, "->")
		var err error
		switch {
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(path, 0o755)
		case isLink:
			err = os.Symlink(target, path)
		default:
			err = errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chtimes(path, old, old))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func entries(t *testing.T, tree Tree) []string {
	t.Helper()
	var out bytes.Buffer
	if err := tree.write(&out); err != nil {
		t.Fatal(err)
	}
	var list []string
	for reader := tar.NewReader(&out); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		entry := header.Name
		if len(text) > 0 {
			entry += "=" + string(text)
		}
		if header.Linkname != "" {
			entry += "->" + header.Linkname
		}
		if header.Uname != "" || !header.AccessTime.IsZero() {
			t.Errorf("%s: owner %q, access %s", header.Name, header.Uname, header.AccessTime)
		}
		list = append(list, entry)
	}
}

func TestLayerOfAWholeTree(t *testing.T) {
	folder := t.TempDir()
	lay(t, folder, map[string]string{"etc/passwd": "root", "bin": "->usr/bin", "tmp/": "", "a": "1"})
	want := []string{"a=1", "bin->usr/bin", "etc/", "etc/passwd=root", "tmp/"}
	if got := entries(t, Tree{Folder: folder}); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestLayerIsWhatDiffersFromTheTreeBelow(t *testing.T) {
	below, above := t.TempDir(), t.TempDir()
	same := map[string]string{"etc/same": "1", "etc/link": "->same", "usr/lib/same": "1"}
	lay(t, below, same)
	lay(t, above, same)
	for name := range same {
		info, err := os.Lstat(filepath.Join(below, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().IsRegular() {
			if err := os.Chtimes(filepath.Join(above, name), info.ModTime(), info.ModTime()); err != nil {
				t.Fatal(err)
			}
		}
	}
	lay(t, below, map[string]string{"etc/gone": "1", "var/gone/file": "1", "etc/changed": "old", "turned": "file", "mode": "1", "points": "->here"})
	lay(t, above, map[string]string{"var/": "", "etc/changed": "newer", "etc/new": "1", "turned/file": "1", "mode": "1", "points": "->there"})
	if err := os.Chmod(filepath.Join(above, "mode"), 0o755); err != nil {
		t.Fatal(err)
	}

	want := []string{
		"etc/changed=newer", "etc/new=1", "etc/.wh.gone", "mode=1", "points->there", "turned/", "turned/file=1", "var/.wh.gone",
	}
	if got := entries(t, Tree{Folder: above, Below: below}); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}

	part := slices.DeleteFunc(slices.Clone(want), func(entry string) bool { return strings.Contains(entry, whiteout) })
	if got := entries(t, Tree{Folder: above, Below: below, Part: true}); !slices.Equal(got, part) {
		t.Errorf("of a part: %q, want %q", got, part)
	}
}

// The files must be as distribution lays them out: what it cannot follow is as good as absent.
func TestStorageIsLinkedFromTagToBlobs(t *testing.T) {
	folder, root := t.TempDir(), t.TempDir()
	lay(t, folder, map[string]string{"bin/tool": "program"})
	storage := NewStorage(root)
	layer, err := storage.Put(Tree{Folder: folder})
	if err != nil {
		t.Fatal(err)
	}
	image := Image{Name: "registry.example/team/tool:v1", Program: &Program{Name: "tool", Path: "/bin/tool"}, Config: Config{User: "65532", Ports: []string{"80/tcp"}}}
	if err := storage.Tag(image, []Layer{layer}); err != nil {
		t.Fatal(err)
	}

	repository := filepath.Join(root, "docker/registry/v2/repositories/registry.example/team/tool")
	follow := func(link string) []byte {
		t.Helper()
		digest, err := os.ReadFile(filepath.Join(repository, link, "link"))
		if err != nil {
			t.Fatal(err)
		}
		hex := strings.TrimPrefix(string(digest), "sha256:")
		text, err := os.ReadFile(filepath.Join(root, "docker/registry/v2/blobs/sha256", hex[:2], hex, "data"))
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%x", sha256.Sum256(text)); got != hex {
			t.Errorf("blob %s has the digest %s", hex, got)
		}
		return text
	}
	var manifest v1.Manifest
	if err := json.Unmarshal(follow("_manifests/tags/v1/current"), &manifest); err != nil {
		t.Fatal(err)
	}
	var config v1.ConfigFile
	if err := json.Unmarshal(follow("_layers/sha256/"+manifest.Config.Digest.Hex), &config); err != nil {
		t.Fatal(err)
	}
	content := follow("_layers/sha256/" + manifest.Layers[0].Digest.Hex)
	if manifest.Layers[0].Size != int64(len(content)) || config.RootFS.DiffIDs[0] != manifest.Layers[0].Digest {
		t.Errorf("layer of %d bytes is described as %+v, unpacked %s", len(content), manifest.Layers[0], config.RootFS.DiffIDs)
	}
	if c := config.Config; c.User != "65532" || !slices.Equal(c.Entrypoint, []string{"/bin/tool"}) || len(c.ExposedPorts) != 1 {
		t.Errorf("config %+v", c)
	}
	whole := follow("_manifests/tags/v1/current")
	for _, link := range []string{"_manifests/revisions/sha256/", "_manifests/tags/v1/index/sha256/"} {
		if !bytes.Equal(follow(fmt.Sprintf("%s%x", link, sha256.Sum256(whole))), whole) {
			t.Errorf("%s leads to another manifest", link)
		}
	}
	left, err := filepath.Glob(filepath.Join(root, "docker/registry/v2/blobs/sha256/.new-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
}

func TestImageIsReadBackFromItsStorageAndTheOneBelow(t *testing.T) {
	shared, own := t.TempDir(), t.TempDir()
	lay(t, shared, map[string]string{"etc/passwd": "root"})
	lay(t, own, map[string]string{"bin/tool": "program"})
	below := NewStorage(t.TempDir())
	if _, err := below.Put(Tree{Folder: shared}); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	storage := NewStorage(root).Over(below)
	var layers []Layer
	for _, folder := range []string{shared, own} {
		layer, err := storage.Put(Tree{Folder: folder})
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, layer)
	}
	image := Image{Name: "registry.example/team/tool:v1", Config: Config{User: "65532"}}
	if err := storage.Tag(image, layers); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(blobFile(storage.root, layers[0].digest)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the layer of the storage below is stored again: %v", err)
	}
	read, err := storage.Image(image)
	if err != nil {
		t.Fatal(err)
	}
	if config, err := read.ConfigFile(); err != nil || config.Config.User != "65532" {
		t.Errorf("config %+v, %v", config, err)
	}
	list, err := read.Layers()
	if err != nil || len(list) != 2 {
		t.Fatalf("%d layers, %v", len(list), err)
	}
	for i, layer := range list {
		content, err := layer.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(content)
		if got := fmt.Sprintf("%x", sha256.Sum256(text)); err != nil || got != layers[i].digest.Hex {
			t.Errorf("layer %d has the digest %s, want %s: %v", i, got, layers[i].digest, err)
		}
		if err := content.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := storage.Image(Image{Name: "registry.example/team/tool:v2"}); err == nil {
		t.Error("an image that is not there was read")
	}
}

func TestReadRefusesWhatCannotBe(t *testing.T) {
	for _, test := range []struct{ name, text, err string }{
		{name: "good", text: "images: [{name: 'docker.io/library/a:1', for: x, layers: [], sources: [a]}]"},
		{name: "short name", text: "images: [{name: 'a:1', for: x, layers: []}]", err: "not host/path:tag"},
		{name: "no tag", text: "images: [{name: docker.io/library/a, for: x, layers: []}]", err: "not host/path:tag"},
		{name: "twice", text: "images: [{name: 'h/a:1', for: x, layers: []}, {name: 'h/b:1', for: x, layers: [], sources: ['h/a:1']}]", err: "twice"},
		{name: "misspelt", text: "images: [{name: 'h/a:1', for: x, layer: [debian]}]", err: "layer"},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "images.yaml")
			if err := os.WriteFile(file, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Read(file)
			if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
				t.Errorf("error %v, want %q", err, test.err)
			}
		})
	}
}
