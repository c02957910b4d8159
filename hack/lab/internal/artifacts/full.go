package artifacts

import (
	"context"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/images"
)

// full is the set of profile full, and what addons are made from.
type full struct {
	Set
	tools wheels
}

func ensureFull(ctx context.Context, s *store, src checkout) (full, error) {
	list, err := images.Read(src.images())
	if err != nil {
		return full{}, err
	}
	list = images.Of(list, "")
	all := append(append(apiPrograms(), nodePrograms()...), podPrograms()...)
	forNode := len(apiPrograms()) + len(nodePrograms())

	// Compilers use the processors, the rest waits for the network and the disk.
	var programs []string
	var manifests, debian string
	var tools wheels
	var trees map[string]images.Tree
	work, together := errgroup.WithContext(ctx)
	work.Go(func() (err error) {
		programs, err = src.components.build(together, s, all, compileStep)
		return err
	})
	work.Go(func() (err error) {
		manifests, err = src.manifests(together, s, list)
		return err
	})
	work.Go(func() error {
		// One after the other: they take apt's lock, and more at a time would only get in the compilers' way.
		if err := s.hostPackages(together); err != nil {
			return err
		}
		var err error
		if debian, err = s.debian(together); err != nil {
			return err
		}
		if tools, err = s.wheels(together); err != nil {
			return err
		}
		trees, err = s.trees(together, list, tools)
		return err
	})
	if err := work.Wait(); err != nil {
		return full{}, err
	}

	registry, err := s.registry(ctx, "registry", imageSet{list: list, trees: trees, programs: programs[forNode:]})
	if err != nil {
		return full{}, err
	}
	files := append(programs[:forNode:forNode], tools.uv)
	for _, name := range debianPrograms() {
		files = append(files, filepath.Join(debian, filepath.Base(name)))
	}
	bin, err := s.link(ctx, "bin-full", files)
	if err != nil {
		return full{}, err
	}
	cni := filepath.Join(debian, "cni")
	return full{tools: tools, Set: Set{
		Bin: bin, CNI: cni, Registry: registry, Manifests: manifests,
		Key: keyOf(filepath.Base(bin), filepath.Base(debian), filepath.Base(registry), filepath.Base(manifests)),
	}}, nil
}
