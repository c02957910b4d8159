package images

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Storage is the storage folder of a registry (distribution's filesystem driver, rootdirectory), written without the registry:
// blobs lie under their digests, and repositories are folders of links to them.
// See https://distribution.github.io/distribution/storage-drivers/ and registry/storage/paths.go there.
type Storage struct {
	root  string
	below string
}

// NewStorage is the storage in a folder.
func NewStorage(folder string) Storage {
	return Storage{root: filepath.Join(folder, "docker", "registry", "v2")}
}

// Over is the storage upon another one, whose blobs it does not store again.
func (s Storage) Over(below Storage) Storage { return Storage{root: s.root, below: below.root} }

// Layer is a layer that the storage holds. It is not compressed: the registry is on the machine of those who pull, and unpacking
// would cost more than reading.
type Layer struct{ blob }

// Put stores a tree's layer.
func (s Storage) Put(t Tree) (Layer, error) {
	stored, err := s.put(t.write)
	return Layer{stored}, err
}

type blob struct {
	digest v1.Hash
	size   int64
}

// put stores what write writes, under the digest it turns out to have.
func (s Storage) put(write func(io.Writer) error) (b blob, err error) {
	blobs := filepath.Join(s.root, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil { //nolint:gosec // public images
		return blob{}, err
	}
	file, err := os.CreateTemp(blobs, ".new-")
	if err != nil {
		return blob{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(file.Name()))
		}
	}()
	meter := newMeter()
	if err := errors.Join(write(io.MultiWriter(file, meter)), file.Chmod(0o644), file.Close()); err != nil {
		return blob{}, err
	}
	b = blob{digest: meter.digest(), size: meter.size}
	if s.below != "" {
		if _, err := os.Stat(blobFile(s.below, b.digest)); err == nil {
			return b, os.Remove(file.Name())
		}
	}
	data := blobFile(s.root, b.digest)
	if err := os.MkdirAll(filepath.Dir(data), 0o755); err != nil { //nolint:gosec // public images
		return blob{}, err
	}
	return b, os.Rename(file.Name(), data)
}

func blobFile(root string, digest v1.Hash) string {
	return filepath.Join(root, "blobs", digest.Algorithm, digest.Hex[:2], digest.Hex, "data")
}

// open reads a blob, from wherever it lies.
func (s Storage) open(digest v1.Hash) (io.ReadCloser, error) {
	file, err := os.Open(blobFile(s.root, digest))
	if errors.Is(err, fs.ErrNotExist) && s.below != "" {
		return os.Open(blobFile(s.below, digest))
	}
	return file, err
}

func (s Storage) read(digest v1.Hash) ([]byte, error) {
	file, err := s.open(digest)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(file)
	return text, errors.Join(err, file.Close())
}

// meter measures what is written to it.
type meter struct {
	hash hash.Hash
	size int64
}

func newMeter() *meter { return &meter{hash: sha256.New()} }

func (m *meter) Write(p []byte) (int, error) {
	m.size += int64(len(p))
	return m.hash.Write(p)
}

func (m *meter) digest() v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(m.hash.Sum(nil))}
}

// Tag stores an image of layers, from the bottom, under its name.
func (s Storage) Tag(image Image, layers []Layer) error {
	repository, tag, err := image.reference()
	if err != nil {
		return err
	}
	manifest, config, err := s.manifest(image, layers)
	if err != nil {
		return fmt.Errorf("image %s: %w", image.Name, err)
	}
	folder := filepath.Join(s.root, "repositories", filepath.FromSlash(repository))
	links := map[string]v1.Hash{
		filepath.Join("_manifests", "revisions", "sha256", manifest.Hex):          manifest,
		filepath.Join("_manifests", "tags", tag, "current"):                       manifest,
		filepath.Join("_manifests", "tags", tag, "index", "sha256", manifest.Hex): manifest,
		filepath.Join("_layers", "sha256", config.Hex):                            config,
	}
	for _, layer := range layers {
		links[filepath.Join("_layers", "sha256", layer.digest.Hex)] = layer.digest
	}
	for place, digest := range links {
		if err := link(filepath.Join(folder, place), digest); err != nil {
			return fmt.Errorf("image %s: %w", image.Name, err)
		}
	}
	return nil
}

func link(folder string, digest v1.Hash) error {
	if err := os.MkdirAll(folder, 0o755); err != nil { //nolint:gosec // public images
		return err
	}
	return os.WriteFile(filepath.Join(folder, "link"), []byte(digest.String()), 0o644) //nolint:gosec // public images
}

// manifest stores manifest and config and returns their digests.
func (s Storage) manifest(image Image, layers []Layer) (manifest, config v1.Hash, err error) {
	file := v1.ConfigFile{
		Architecture: runtime.GOARCH,
		OS:           "linux",
		RootFS:       v1.RootFS{Type: "layers"},
		Config: v1.Config{
			User: image.Config.User, Env: image.Config.Env, Entrypoint: image.Config.Entrypoint, Cmd: image.Config.Cmd,
			StopSignal: image.Config.StopSignal, ExposedPorts: set(image.Config.Ports), Volumes: set(image.Config.Volumes),
		},
	}
	if file.Config.Entrypoint == nil && image.Program != nil {
		file.Config.Entrypoint = []string{image.Program.Path}
	}
	m := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1}
	for _, layer := range layers {
		file.RootFS.DiffIDs = append(file.RootFS.DiffIDs, layer.digest)
		m.Layers = append(m.Layers, v1.Descriptor{MediaType: types.OCIUncompressedLayer, Size: layer.size, Digest: layer.digest})
	}
	stored, err := s.json(file)
	if err != nil {
		return v1.Hash{}, v1.Hash{}, err
	}
	m.Config = v1.Descriptor{MediaType: types.OCIConfigJSON, Size: stored.size, Digest: stored.digest}
	whole, err := s.json(m)
	return whole.digest, stored.digest, err
}

func (s Storage) json(value any) (blob, error) {
	text, err := json.Marshal(value)
	if err != nil {
		return blob{}, err
	}
	return s.put(func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
}

func set(list []string) map[string]struct{} {
	if len(list) == 0 {
		return nil
	}
	m := make(map[string]struct{}, len(list))
	for _, entry := range list {
		m[entry] = struct{}{}
	}
	return m
}
