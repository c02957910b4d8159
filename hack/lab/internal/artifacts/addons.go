package artifacts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/images"
)

// Addon is what a test may want of a full cluster that is not in every one, since it takes its time to be built.
type Addon struct {
	Images []images.Image
	// Storage holds the images.
	Storage images.Storage
	// Key changes whenever the images do.
	Key string
	// Manifests are to be applied. Empty where the addon is images alone.
	Manifests []byte
}

// addonPrograms are the addons, and what is compiled for each.
func addonPrograms() map[string][]program {
	return map[string][]program{
		"google":         googlePrograms(),
		"mlflow-earlier": nil,
	}
}

// Addons are the names of all.
func Addons() []string {
	var names []string
	for name := range addonPrograms() {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// EnsureAddon builds what is missing of an addon of profile full under the cache folder.
func EnsureAddon(ctx context.Context, cache, name string, r Reporter) (Addon, error) {
	if _, ok := addonPrograms()[name]; !ok {
		return Addon{}, fmt.Errorf("there is no addon %q, there are %s", name, strings.Join(Addons(), ", "))
	}
	if os.Geteuid() != 0 {
		return Addon{}, errors.New("addons are of profile full, which needs root")
	}
	src, err := findCheckout()
	if err != nil {
		return Addon{}, err
	}
	s, unlock, err := open(ctx, cache, r)
	if err != nil {
		return Addon{}, err
	}
	defer unlock()
	below, err := ensureFull(ctx, s, src)
	if err != nil {
		return Addon{}, err
	}
	return ensureAddon(ctx, s, src, name, below)
}

func ensureAddon(ctx context.Context, s *store, src checkout, name string, below full) (Addon, error) {
	list, err := images.Read(src.images())
	if err != nil {
		return Addon{}, err
	}
	list = images.Of(list, name)
	var programs []string
	if wanted := addonPrograms()[name]; len(wanted) > 0 {
		m, err := src.addon(name)
		if err != nil {
			return Addon{}, err
		}
		compiling := func(missing int) step {
			return step{name: fmt.Sprintf("compile %d programs of addon %s", missing, name), usual: 3 * time.Minute}
		}
		if programs, err = m.build(ctx, s, wanted, compiling); err != nil {
			return Addon{}, err
		}
	}
	trees, err := s.trees(ctx, list, below.tools)
	if err != nil {
		return Addon{}, err
	}
	folder, err := s.registry(ctx, "registry-"+name, imageSet{list: list, trees: trees, programs: programs, below: below.Registry})
	if err != nil {
		return Addon{}, err
	}
	a := Addon{Images: list, Key: filepath.Base(folder), Storage: images.NewStorage(folder).Over(images.NewStorage(below.Registry))}
	a.Manifests, err = os.ReadFile(src.addonManifests(name))
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return a, err
}

// addon is the module of what an addon runs.
func (c checkout) addon(name string) (module, error) {
	return readModule(filepath.Join(c.folder, "addons", name), "-s -w")
}

func (c checkout) addonManifests(name string) string {
	return filepath.Join(c.folder, "addons", name+".yaml")
}
