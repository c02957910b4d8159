package images

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Image reads an image that Tag stored.
func (s Storage) Image(image Image) (v1.Image, error) {
	stored, err := s.image(image)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", image.Name, err)
	}
	return partial.CompressedToImage(stored)
}

func (s Storage) image(image Image) (*stored, error) {
	repository, tag, err := image.reference()
	if err != nil {
		return nil, err
	}
	link, err := os.ReadFile(filepath.Join(s.root, "repositories", filepath.FromSlash(repository), "_manifests", "tags", tag, "current", "link"))
	if err != nil {
		return nil, err
	}
	digest, err := v1.NewHash(string(link))
	if err != nil {
		return nil, err
	}
	i := &stored{storage: s}
	if i.text, err = s.read(digest); err != nil {
		return nil, err
	}
	i.manifest, err = v1.ParseManifest(strings.NewReader(string(i.text)))
	return i, err
}

// stored is an image in a Storage, as package partial wants it.
type stored struct {
	storage  Storage
	text     []byte
	manifest *v1.Manifest
}

func (i *stored) MediaType() (types.MediaType, error) { return i.manifest.MediaType, nil }
func (i *stored) RawManifest() ([]byte, error)        { return i.text, nil }
func (i *stored) RawConfigFile() ([]byte, error)      { return i.storage.read(i.manifest.Config.Digest) }

func (i *stored) LayerByDigest(digest v1.Hash) (partial.CompressedLayer, error) {
	at := slices.IndexFunc(i.manifest.Layers, func(d v1.Descriptor) bool { return d.Digest == digest })
	if at < 0 {
		return nil, fmt.Errorf("there is no layer %s", digest)
	}
	return storedLayer{i.storage, i.manifest.Layers[at]}, nil
}

type storedLayer struct {
	storage    Storage
	descriptor v1.Descriptor
}

func (l storedLayer) Digest() (v1.Hash, error)            { return l.descriptor.Digest, nil }
func (l storedLayer) Size() (int64, error)                { return l.descriptor.Size, nil }
func (l storedLayer) MediaType() (types.MediaType, error) { return l.descriptor.MediaType, nil }
func (l storedLayer) Compressed() (io.ReadCloser, error)  { return l.storage.open(l.descriptor.Digest) }
