// Package uv builds environment images with uv, without Docker: it resolves and unpacks wheels for the target platform, compiles
// the bytecode of what the server imports, and puts all that as reproducible layers on the base image.
package uv

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/gofrs/flock"
	"golang.org/x/sync/errgroup"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/filelock"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image/layer"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image/registry"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/model"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// Builder builds with uv. It is safe for concurrent use.
type Builder struct {
	// Launcher has launcher.py, whose --list-imports tells what the server imports. nil compiles all that is installed.
	Launcher fs.FS
	// Cache is where uv itself is kept and environments are unpacked; "" is kubectl-mlflow in the user's cache directory.
	Cache string
	// Warn is told what the packages will miss in the image, which stands in no build's way. It may be nil.
	Warn func(text string)

	mu   sync.Mutex
	path string // of uv, once found
}

var _ image.Builder = (*Builder)(nil)

// Name is uv.
func (*Builder) Name() string { return image.BuilderUV }

// Check is nil where uv can be had and nothing in e needs a compiler, apt or git; else failure.Diagnosed says what is in the way.
// Whether every requirement has a wheel is known when Build has asked the index.
func (b *Builder) Check(ctx context.Context, e image.Environment) error {
	if _, err := pythonPlatform(e.Platform, e.Wheels); err != nil {
		return err
	}
	if len(e.Apt) > 0 {
		return cannot(b.Name(), "it installs no system packages, and the environment needs "+strings.Join(e.Apt, ", "),
			"build with Docker, or give a base image that has them with --base-image")
	}
	if err := checkLines(b.Name(), e, false); err != nil {
		return err
	}
	_, err := b.find(ctx)
	return err
}

// glibc is the minor version of the C library that wheels may ask for: 2.28 is Debian 10's, older than any base that still gets updates.
const glibc = 28

// pythonPlatform is uv's name of an image's platform. Wheels that the model brings were chosen by whoever logged it, so that a newer C
// library that they ask for is taken to be there: the default bases have it.
func pythonPlatform(platform string, wheels []model.Wheel) (string, error) {
	arch, ok := map[string]string{"linux/amd64": "x86_64", "linux/arm64": "aarch64"}[platform]
	if !ok {
		return "", cannot("uv", "the platform "+platform+" is neither linux/amd64 nor linux/arm64", "choose one of them with --platform")
	}
	need := glibc
	for _, w := range wheels {
		need = max(need, glibcOf(w.Path))
	}
	if need > glibc && need < 31 { // uv knows 2.28, and 2.31 and later
		need = 31
	}
	return fmt.Sprintf("%s-manylinux_2_%d", arch, need), nil
}

func manylinux() *regexp.Regexp {
	return regexp.MustCompile(`manylinux_2_([0-9]{1,3})_`)
}

// glibcOf is the least minor version of glibc 2 that a wheel asks for by its name, 0 where it asks for none.
func glibcOf(wheel string) int {
	least := 0
	for _, tag := range manylinux().FindAllStringSubmatch(wheel, -1) {
		if minor, err := strconv.Atoi(tag[1]); err == nil && (least == 0 || minor < least) {
			least = minor
		}
	}
	return least
}

// Build installs e, pushes it as e.Tag() and returns the digest.
func (b *Builder) Build(ctx context.Context, e image.Environment, to *registry.Repository, s progress.Step) (digest string, err error) {
	uv, err := b.find(ctx)
	if err != nil {
		return "", err
	}
	return Assemble(ctx, b.Cache, e, to, s, func(ctx context.Context, w Work) ([]v1.Layer, error) {
		target := filepath.Join(w.Dir, "env")
		s.Note("fetching packages")
		if err := install(ctx, uv, w.Dir, target, e, basePython(w.Base, e.Python)); err != nil {
			return nil, err
		}
		note, err := b.compile(ctx, uv, w.Dir, target, e)
		if err != nil {
			return nil, err
		}
		s.Note(note)
		return Pack(ctx, w.Scratch, target, e, to, w.Sum, b.Warn)
	})
}

// Work is what the building of one environment has at hand.
type Work struct {
	Dir     string // removed in the end
	Scratch *layer.Scratch
	Base    *v1.ConfigFile // of e's base image
	Sum     *registry.Sum  // of what is sent
}

// Assemble lets install make the layers of e's packages while e's base travels, puts them onto it, pushes that as e.Tag() and returns the
// digest. cache is a directory as image.CacheDir knows it.
func Assemble(ctx context.Context, cache string, e image.Environment, to *registry.Repository, s progress.Step,
	install func(ctx context.Context, w Work) ([]v1.Layer, error)) (digest string, err error) {
	base, err := to.Config(ctx, e.Base, e.Platform)
	if err != nil {
		return "", err
	}
	dir, remove, err := WorkDir(cache)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, remove()) }()
	scratch := layer.NewScratch(dir)
	defer func() { err = errors.Join(err, scratch.Close()) }()

	sum := registry.NewSum(s)
	var layers []v1.Layer
	g, working := errgroup.WithContext(ctx)
	g.Go(func() error { return to.UploadImage(working, e.Base, e.Platform, sum.Part()) })
	g.Go(func() (err error) {
		layers, err = install(working, Work{Dir: dir, Scratch: scratch, Base: base, Sum: sum})
		return err
	})
	if err := g.Wait(); err != nil {
		return "", err
	}
	return publish(ctx, to, e, base, layers, sum.Part())
}

// basePython is the full version of the base's Python where it tells, as the official images do, else the model's: requirements
// such as "!=3.9.1" want to know.
func basePython(config *v1.ConfigFile, model string) string {
	if has := variable(config, "PYTHON_VERSION", ""); image.MajorMinor(has) == image.MajorMinor(model) {
		return has
	}
	return model
}

func variable(config *v1.ConfigFile, name, otherwise string) string {
	for _, v := range config.Config.Env {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return cmp.Or(value, otherwise)
		}
	}
	return otherwise
}

// WorkDir is a directory for one build, in a cache directory as image.CacheDir knows it. It is beside uv's own cache where that is where it
// usually is: files are linked then instead of copied. What killed builds left there is removed, where no build is under way.
func WorkDir(cache string) (dir string, remove func() error, err error) {
	cache, err = image.CacheDir(cache)
	if err != nil {
		return "", nil, err
	}
	// Builds under way share the lock; who has it alone may tidy up.
	builds := flock.New(filepath.Join(cache, "builds.lock"))
	alone, err := builds.TryLock()
	if err == nil && alone {
		err = errors.Join(tidy(cache), builds.Unlock())
	}
	if err == nil {
		err = builds.RLock()
	}
	if err != nil && !filelock.Unsupported(err) {
		return "", nil, fmt.Errorf("tidy up the cache directory: %w", err)
	}
	dir, err = os.MkdirTemp(cache, workPrefix)
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("make a directory for the environment: %w", err), builds.Unlock())
	}
	return dir, func() error { return errors.Join(os.RemoveAll(dir), builds.Unlock()) }, nil
}

// workPrefix is a name that no directory of older versions has: their builds take no lock.
const workPrefix = "work-"

// tidy removes what builds left.
func tidy(cache string) error {
	left, err := filepath.Glob(filepath.Join(cache, workPrefix+"*"))
	if err != nil {
		return err
	}
	for _, dir := range left {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}
