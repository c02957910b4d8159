// Package image brings images into the lab's registry under the names that they have elsewhere.
package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// named is an image and the full name that it bears outside of the lab.
type named struct {
	name  string
	image v1.Image
}

// Load pushes an image to the registry: source is a tarball (docker save, or an OCI layout), or else a reference that is
// pulled from where it is. It returns the names under which the registry has it now.
func Load(ctx context.Context, registry, source, scratch string) ([]string, error) {
	list, err := open(ctx, source, scratch)
	if err != nil {
		return nil, err
	}
	var pushed []string
	for _, n := range list {
		target, err := Push(ctx, registry, n.name, n.image)
		if err != nil {
			return pushed, err
		}
		pushed = append(pushed, target)
	}
	return pushed, nil
}

// Push pushes an image to the registry and returns the name under which the registry has it now.
func Push(ctx context.Context, registry, full string, image v1.Image) (string, error) {
	target, err := Target(registry, full)
	if err != nil {
		return "", err
	}
	ref, err := name.ParseReference(target, name.Insecure)
	if err != nil {
		return "", fmt.Errorf("name for %s in the lab's registry: %w", full, err)
	}
	if err := remote.Write(ref, image, remote.WithContext(ctx)); err != nil {
		return "", fmt.Errorf("push %s: %w", ref, err)
	}
	return target, nil
}

// Target is an image's name in the lab's registry: python:3.11-slim → REGISTRY/docker.io/library/python:3.11-slim.
// One that already names the registry stays.
func Target(registry, image string) (string, error) {
	if strings.HasPrefix(image, registry+"/") {
		return image, nil
	}
	ref, err := name.ParseReference(image)
	if err != nil {
		return "", fmt.Errorf("image name %q: %w", image, err)
	}
	host := ref.Context().RegistryStr()
	if host == name.DefaultRegistry {
		host = "docker.io"
	}
	separator := ":"
	if _, isDigest := ref.(name.Digest); isDigest {
		separator = "@"
	}
	return registry + "/" + host + "/" + ref.Context().RepositoryStr() + separator + ref.Identifier(), nil
}

func open(ctx context.Context, source, scratch string) ([]named, error) {
	info, err := os.Stat(source)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return pull(ctx, source)
	case err != nil:
		return nil, err
	case info.IsDir():
		return openLayout(source)
	}
	oci, err := isLayout(source)
	if err != nil {
		return nil, fmt.Errorf("image archive %s: %w", source, err)
	}
	if !oci {
		return openDocker(source)
	}
	if err := unpack(source, scratch); err != nil {
		return nil, fmt.Errorf("image archive %s: %w", source, err)
	}
	return openLayout(scratch)
}

func pull(ctx context.Context, reference string) ([]named, error) {
	ref, err := name.ParseReference(reference)
	if err != nil {
		return nil, fmt.Errorf("%s is neither a file nor an image's name: %w", reference, err)
	}
	img, err := remote.Image(ref, remote.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("%s is no file, and as an image's name it cannot be pulled: %w", reference, err)
	}
	return []named{{reference, img}}, nil
}

// openDocker reads what docker save writes.
func openDocker(file string) ([]named, error) {
	opener := func() (io.ReadCloser, error) { return os.Open(file) } // #nosec G304 -- the user's own archive
	manifest, err := tarball.LoadManifest(opener)
	if err != nil {
		return nil, fmt.Errorf("image archive %s: %w", file, err)
	}
	var list []named
	for _, d := range manifest {
		for _, tag := range d.RepoTags {
			ref, err := name.NewTag(tag)
			if err != nil {
				return nil, fmt.Errorf("image archive %s: %w", file, err)
			}
			img, err := tarball.Image(opener, &ref)
			if err != nil {
				return nil, fmt.Errorf("image archive %s: %s: %w", file, tag, err)
			}
			list = append(list, named{tag, img})
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("image archive %s names no image: save it with its tag", file)
	}
	return list, nil
}

// openLayout reads the folder of an OCI image layout.
func openLayout(folder string) ([]named, error) {
	index, err := layout.ImageIndexFromPath(folder)
	if err != nil {
		return nil, fmt.Errorf("OCI layout %s: %w", folder, err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("OCI layout %s: %w", folder, err)
	}
	var list []named
	for _, d := range manifest.Manifests {
		full := d.Annotations["io.containerd.image.name"]
		if full == "" {
			full = d.Annotations["org.opencontainers.image.ref.name"]
		}
		if full == "" || !d.MediaType.IsImage() {
			continue
		}
		img, err := index.Image(d.Digest)
		if err != nil {
			return nil, fmt.Errorf("OCI layout %s: %s: %w", folder, full, err)
		}
		list = append(list, named{full, img})
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("OCI layout %s names no image (annotation org.opencontainers.image.ref.name)", folder)
	}
	return list, nil
}

// isLayout tells whether a tarball holds an OCI layout and nothing that docker could load.
func isLayout(file string) (oci bool, err error) {
	f, err := os.Open(file) // #nosec G304 -- the user's own archive
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	docker := false
	for entries := tar.NewReader(f); ; {
		h, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return oci && !docker, nil
		}
		if err != nil {
			return false, err
		}
		switch filepath.Clean(h.Name) {
		case "oci-layout":
			oci = true
		case "manifest.json":
			docker = true
		}
	}
}

// unpack writes a tarball's files into a folder, and cannot leave it.
func unpack(file, folder string) (err error) {
	f, err := os.Open(file) // #nosec G304 -- the user's own archive
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	for entries := tar.NewReader(f); ; {
		h, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if err := unpackFile(root, filepath.Clean(h.Name), entries); err != nil {
			return err
		}
	}
}

func unpackFile(root *os.Root, path string, content io.Reader) (err error) {
	if err := root.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := root.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = io.Copy(f, content)
	return err
}
