package artifacts

import (
	"context"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/images"
)

func ensureFull(ctx context.Context, s *store, src checkout) (Set, error) {
	list, err := images.Read(src.images())
	if err != nil {
		return Set{}, err
	}
	all := append(append(apiPrograms(), nodePrograms()...), podPrograms()...)
	forNode := len(apiPrograms()) + len(nodePrograms())

	// Compilers use the processors, the rest waits for the network and the disk.
	var programs []string
	var manifests, debian string
	var tools wheels
	var trees map[string]images.Tree
	work, together := errgroup.WithContext(ctx)
	work.Go(func() (err error) {
		programs, err = src.build(together, s, all)
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
		return Set{}, err
	}

	registry, err := s.registry(ctx, list, trees, programs[forNode:])
	if err != nil {
		return Set{}, err
	}
	files := append(programs[:forNode:forNode], tools.uv)
	for _, name := range debianPrograms() {
		files = append(files, filepath.Join(debian, filepath.Base(name)))
	}
	bin, err := s.link(ctx, "bin-full", files)
	if err != nil {
		return Set{}, err
	}
	cni := filepath.Join(debian, "cni")
	return Set{
		Bin: bin, CNI: cni, Registry: registry, Manifests: manifests,
		Key: keyOf(filepath.Base(bin), filepath.Base(debian), filepath.Base(registry), filepath.Base(manifests)),
	}, nil
}
