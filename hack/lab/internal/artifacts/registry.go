package artifacts

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/images"
)

// imageSet is what images are made from.
type imageSet struct {
	list     []images.Image
	trees    map[string]images.Tree
	programs []string
	// below is the storage of another set, whose layers are not stored again.
	below string
}

// registry returns a registry's storage folder with all images of the set.
func (s *store) registry(ctx context.Context, name string, set imageSet) (string, error) {
	layered, recipe, err := s.layered(ctx, set)
	if err != nil {
		return "", err
	}
	st := step{name: fmt.Sprintf("put %d images into the registry's storage", len(set.list)), usual: 10 * time.Second}
	return s.ensure(ctx, st, name, keyOf(recipe...), func(ctx context.Context, folder string) error {
		storage := images.NewStorage(folder)
		if set.below != "" {
			storage = storage.Over(images.NewStorage(set.below))
		}
		stored := map[images.Tree]images.Layer{}
		for _, image := range layered {
			var layers []images.Layer
			for _, tree := range image.trees {
				layer, ok := stored[tree]
				if !ok {
					if layer, err = storage.Put(tree); err != nil {
						return err
					}
					stored[tree] = layer
				}
				layers = append(layers, layer)
			}
			if err := storage.Tag(image.Image, layers); err != nil {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		return nil
	})
}

type layeredImage struct {
	images.Image
	trees []images.Tree
}

// layered finds the trees of every image, and all that decides what the registry will hold.
func (s *store) layered(ctx context.Context, set imageSet) ([]layeredImage, []string, error) {
	recipe := []string{"uncompressed layers"}
	if set.below != "" {
		recipe = append(recipe, filepath.Base(set.below))
	}
	var all []layeredImage
	for _, image := range set.list {
		layered := layeredImage{Image: image}
		for _, name := range image.Layers {
			layered.trees = append(layered.trees, set.trees[name])
		}
		if image.Program != nil {
			at := slices.IndexFunc(set.programs, func(binary string) bool { return filepath.Base(binary) == image.Program.Name })
			if at < 0 {
				return nil, nil, fmt.Errorf("images.yaml, %s: no program %q is compiled for pods", image.Name, image.Program.Name)
			}
			tree, err := s.programTree(ctx, set.programs[at], image.Program.Path)
			if err != nil {
				return nil, nil, err
			}
			layered.trees = append(layered.trees, tree)
		}
		// What is said about an image is no part of it.
		image.For, image.Differs = "", ""
		config, err := json.Marshal(image)
		if err != nil {
			return nil, nil, err
		}
		recipe = append(recipe, string(config))
		for _, tree := range layered.trees {
			recipe = append(recipe, strings.TrimPrefix(tree.Folder, s.root))
		}
		all = append(all, layered)
	}
	return all, recipe, nil
}
