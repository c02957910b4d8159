package uv

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"regexp"
	"runtime"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image/layer"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image/registry"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

const (
	// ownLayers is how many packages get layers of their own, the largest ones, each with its libraries: layers travel in
	// parallel, and two environments that share a package share its layer.
	ownLayers = 5
	// ownFrom is the least size of such a package.
	ownFrom = 8 << 20
)

// Pack makes the layers of the packages in dir, and sends each to the repository as soon as it is packed.
// warn, which may be nil, is told what the packages will miss.
func Pack(ctx context.Context, scratch *layer.Scratch, dir string, e image.Environment, to *registry.Repository, sum *registry.Sum, warn func(string)) ([]v1.Layer, error) {
	lacks, err := provide(dir, e)
	if err != nil {
		return nil, err
	}
	if warn != nil {
		for _, lack := range lacks {
			warn(lack)
		}
	}
	groups, err := group(dir)
	if err != nil {
		return nil, err
	}
	layers := make([]v1.Layer, len(groups))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(2, runtime.NumCPU()))
	for i, files := range groups {
		g.Go(func() error {
			l, err := scratch.Layer(ctx, image.EnvironmentDir, files)
			if err != nil {
				return err
			}
			layers[i] = l
			return to.Upload(ctx, []v1.Layer{l}, sum.Part())
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return layers, nil
}

// publish puts layers with e's packages onto e's base, of which config is the configuration, pushes the image as e.Tag() and returns its
// digest. Another machine may have been faster: all who deploy then stand on one environment.
func publish(ctx context.Context, to *registry.Repository, e image.Environment, config *v1.ConfigFile, layers []v1.Layer, s progress.Step) (digest string, err error) {
	if digest, ok, err := to.Digest(ctx, e.Tag()); err != nil || ok {
		return digest, err
	}
	libraries := image.EnvironmentDir + "/" + librariesDir
	if base := variable(config, "LD_LIBRARY_PATH", ""); base != "" {
		libraries = base + ":" + libraries
	}
	return to.Append(ctx, e.Tag(), e.Base, registry.Addition{
		Platform: e.Platform,
		Layers:   layers,
		Env: map[string]string{
			"LD_LIBRARY_PATH":         libraries,
			"PYTHONPATH":              image.EnvironmentDir,
			"PYTHONDONTWRITEBYTECODE": "1", // the root filesystem may be read-only
			"PYTHONUNBUFFERED":        "1",
			"PATH":                    variable(config, "PATH", "/usr/local/bin:/usr/bin:/bin") + ":" + image.EnvironmentDir + "/bin",
		},
		User:       "1000:1000",
		WorkingDir: "/tmp",
		Labels:     map[string]string{image.EnvironmentLabel: e.Key(), image.DescriptionLabel: e.Description()},
	}, s)
}

// group splits the files of dir into layers: the largest packages by name, then the rest.
func group(dir string) ([][]layer.File, error) {
	packages := map[string][]layer.File{}
	sizes := map[string]int64{}
	root := os.DirFS(dir)
	files, err := layer.Files(root)
	if err != nil {
		return nil, fmt.Errorf("list the environment's files: %w", err)
	}
	for _, f := range files {
		if f.Path == ".lock" || origin(f.Path) { // uv's own
			continue
		}
		if f, err = neutral(root, f); err != nil {
			return nil, fmt.Errorf("list the environment's files: %w", err)
		}
		top, _, _ := strings.Cut(f.Path, "/")
		top = strings.TrimSuffix(top, ".libs")
		packages[top] = append(packages[top], f)
		sizes[top] += f.Size
	}
	bySize := slices.SortedFunc(maps.Keys(sizes), func(a, b string) int {
		return cmp.Or(cmp.Compare(sizes[b], sizes[a]), cmp.Compare(a, b))
	})
	own := bySize[:min(len(bySize), ownLayers)]
	own = slices.DeleteFunc(slices.Clone(own), func(name string) bool { return sizes[name] < ownFrom })
	slices.Sort(own)
	groups := make([][]layer.File, 0, len(own)+1)
	for _, name := range own {
		groups = append(groups, packages[name])
	}
	var rest []layer.File
	for name, files := range packages {
		if !slices.Contains(own, name) {
			rest = append(rest, files...)
		}
	}
	if len(rest) > 0 {
		groups = append(groups, rest)
	}
	return groups, nil
}

// scriptLine is how uv makes a script start this machine's interpreter; the second form is for long paths.
func scriptLine() *regexp.Regexp {
	return regexp.MustCompile(`\A#!(?:/bin/sh\n'''exec' [^\n]*\n' '''|[^\n]*python[^\n]*)\n`)
}

// origin tells the files in which uv keeps from where it has a package: a path on this machine and a time, or a URL.
func origin(name string) bool {
	return (path.Base(name) == "direct_url.json" || path.Base(name) == "uv_cache.json") && strings.HasSuffix(path.Dir(name), ".dist-info")
}

// neutral takes this machine's interpreter out of scripts, and the scripts' digests and the origins out of the lists of installed files.
func neutral(root fs.FS, f layer.File) (layer.File, error) {
	record := path.Base(f.Path) == "RECORD" && strings.HasSuffix(path.Dir(f.Path), ".dist-info")
	if !record && path.Dir(f.Path) != "bin" {
		return f, nil
	}
	content, err := fs.ReadFile(root, f.Path)
	if err != nil {
		return f, err
	}
	if record {
		content = recordedScript().ReplaceAll(content, []byte("$1,,"))
		content = recordedOrigin().ReplaceAll(content, nil)
	} else {
		content = scriptLine().ReplaceAll(content, []byte("#!/usr/bin/env python\n"))
	}
	f.Size = int64(len(content))
	f.Open = func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
	return f, nil
}

// recordedOrigin is the line in RECORD of a file that origin tells.
func recordedOrigin() *regexp.Regexp {
	return regexp.MustCompile(`(?m)^[^/\n]*\.dist-info/(?:direct_url|uv_cache)\.json,[^\n]*\n`)
}

// recordedScript is a script's line in RECORD: path, digest, size.
func recordedScript() *regexp.Regexp {
	return regexp.MustCompile(`(?m)^((?:\.\./)*bin/[^,\n]*),[^,\n]*,[0-9]*`)
}
