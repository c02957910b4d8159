// Package images makes the lab's stand-in images: the list of them, the root file systems they are cut from, their layers, and the
// storage of a registry that holds them.
package images

import (
	"fmt"
	"os"
	"strings"

	"sigs.k8s.io/yaml"
)

// Image is one stand-in, as images.yaml describes it.
type Image struct {
	// Name is the reference in full: host/path:tag.
	Name    string   `json:"name"`
	For     string   `json:"for"`
	Differs string   `json:"differs,omitempty"`
	Sources []string `json:"sources,omitempty"`
	// Addon is the addon that it is part of; the others are in every lab.
	Addon   string   `json:"addon,omitempty"`
	Layers  []string `json:"layers"`
	Program *Program `json:"program,omitempty"`
	Config  Config   `json:"config,omitempty"`
}

// Program is a compiled program in an image. It is the entrypoint where Config has none.
type Program struct {
	Name string `json:"name"`
	Path string `json:"path"`
}

// Config is what an image says to the container runtime.
type Config struct {
	User       string   `json:"user,omitempty"`
	Env        []string `json:"env,omitempty"`
	Entrypoint []string `json:"entrypoint,omitempty"`
	Cmd        []string `json:"cmd,omitempty"`
	StopSignal string   `json:"stopSignal,omitempty"`
	Ports      []string `json:"ports,omitempty"`
	Volumes    []string `json:"volumes,omitempty"`
}

// Repository and tag of the name.
func (i Image) reference() (repository, tag string, err error) {
	repository, tag, ok := strings.Cut(i.Name, ":")
	if !ok || !strings.Contains(repository, "/") || strings.ContainsAny(tag, ":/@") {
		return "", "", fmt.Errorf("image %q is not host/path:tag", i.Name)
	}
	return repository, tag, nil
}

// Read reads images.yaml.
func Read(file string) ([]Image, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("list of stand-in images: %w", err)
	}
	var list struct {
		Images []Image `json:"images"`
	}
	if err := yaml.UnmarshalStrict(text, &list); err != nil {
		return nil, fmt.Errorf("list of stand-in images, %s: %w", file, err)
	}
	seen := map[string]bool{}
	for _, image := range list.Images {
		if _, _, err := image.reference(); err != nil {
			return nil, fmt.Errorf("list of stand-in images, %s: %w", file, err)
		}
		for _, name := range append([]string{image.Name}, image.Sources...) {
			if seen[name] {
				return nil, fmt.Errorf("list of stand-in images, %s: %s stands there twice", file, name)
			}
			seen[name] = true
		}
	}
	return list.Images, nil
}

// Of are the images of an addon; of "", those that are in every lab.
func Of(list []Image, addon string) []Image {
	var of []Image
	for _, image := range list {
		if image.Addon == addon {
			of = append(of, image)
		}
	}
	return of
}
