// Package artifacts builds what the lab runs: binaries, images and manifests. Everything comes from package registries, is built once per
// recipe, and is kept in the lab's cache folder under the key of that recipe.
package artifacts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Profile says how much of a cluster is wanted.
type Profile string

// The profiles.
const (
	// API is etcd, kube-apiserver and kubectl: no root needed.
	API Profile = "api"
	// Full is a node that runs pods, with Knative and the stand-in images. It installs Debian packages, so it needs root.
	Full Profile = "full"
)

// Set says where everything is. All paths are absolute and inside the cache folder.
type Set struct {
	// Bin holds etcd, kube-apiserver and kubectl; with Full also kube-controller-manager, kube-scheduler, kubelet, kube-proxy,
	// containerd, containerd-shim-runc-v2, ctr, runc, unpigz, docker-registry and uv.
	Bin string
	// CNI holds the CNI plugins. Empty with API, like all that follow but Key.
	CNI string
	// Registry is the storage folder of docker-registry (filesystem rootdirectory). It already holds every stand-in image,
	// in repositories of the images' full names. Nothing may be written to it: it is the same for all runs.
	Registry string
	// Manifests holds knative-crds.yaml, knative-serving.yaml, kourier.yaml and local-path.yaml, with images under the names the stand-ins have.
	Manifests string
	// Key changes whenever anything in the set does.
	Key string
}

// Reporter is told what is being done and how long that usually takes. Steps may overlap.
type Reporter interface {
	Step(name string, usual time.Duration) (done func(err error))
}

// Ensure builds what is missing of a profile's set under the cache folder. A second call with the same recipes builds nothing.
// Of several runs on one cache folder one builds and the others wait. A step that fails returns a *StepError,
// which names its log and shows the end of it.
func Ensure(ctx context.Context, cache string, p Profile, r Reporter) (Set, error) {
	if p == Full && os.Geteuid() != 0 {
		return Set{}, errors.New("the profile full needs root: it installs Debian packages and runs a node")
	}
	src, err := findCheckout()
	if err != nil {
		return Set{}, err
	}
	s, unlock, err := open(ctx, cache, r)
	if err != nil {
		return Set{}, err
	}
	defer unlock()
	if p == API {
		return ensureAPI(ctx, s, src)
	}
	set, err := ensureFull(ctx, s, src)
	return set.Set, err
}

// Clean removes what no recipe asks for any more, and what only makes building faster. It returns the folders that it removed.
// Nothing may run from the cache folder meanwhile.
func Clean(ctx context.Context, cache string, r Reporter) ([]string, error) {
	src, err := findCheckout()
	if err != nil {
		return nil, err
	}
	s, unlock, err := open(ctx, cache, r)
	if err != nil {
		return nil, err
	}
	defer unlock()
	s.plan = true
	if _, err := ensureAPI(ctx, s, src); err != nil {
		return nil, err
	}
	below, err := ensureFull(ctx, s, src)
	if err != nil {
		return nil, err
	}
	for _, name := range Addons() {
		if _, err := ensureAddon(ctx, s, src, name, below); err != nil {
			return nil, err
		}
	}
	stale, err := s.stale()
	if err != nil {
		return nil, err
	}
	stale = append(stale, s.wheelCache(), s.logs())
	for i, folder := range stale {
		if err := os.RemoveAll(folder); err != nil {
			return stale[:i], fmt.Errorf("clean the cache folder: %w", err)
		}
	}
	return stale, nil
}

func ensureAPI(ctx context.Context, s *store, src checkout) (Set, error) {
	programs, err := src.components.build(ctx, s, apiPrograms(), compileStep)
	if err != nil {
		return Set{}, err
	}
	bin, err := s.link(ctx, "bin-api", programs)
	if err != nil {
		return Set{}, err
	}
	return Set{Bin: bin, Key: keyOf(filepath.Base(bin))}, nil
}
