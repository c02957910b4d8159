// Package artifacts builds what the lab runs: binaries, images and manifests. Everything comes from package registries, is built once per
// recipe, and is kept in the lab's cache folder under the key of that recipe.
package artifacts

import (
	"context"
	"errors"
	"time"
)

// Profile says how much of a cluster is wanted.
type Profile string

// The profiles.
const (
	// API is etcd, kube-apiserver and kubectl: no root needed.
	API Profile = "api"
	// Full is a node that runs pods, with Knative and the stand-in images.
	Full Profile = "full"
)

// Set says where everything is. All paths are absolute and inside the cache folder.
type Set struct {
	// Bin holds etcd, kube-apiserver and kubectl; with Full also kube-controller-manager, kube-scheduler, kubelet, kube-proxy,
	// containerd, containerd-shim-runc-v2, ctr, runc, docker-registry and uv.
	Bin string
	// CNI holds the CNI plugins. Empty with API, like all that follow but Key.
	CNI string
	// Registry is the storage folder of docker-registry (filesystem rootdirectory). It already holds every stand-in image.
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

// Ensure builds what is missing of a profile's set under the cache folder.
// A step that fails names its log and shows the end of it.
func Ensure(ctx context.Context, cache string, p Profile, r Reporter) (Set, error) {
	return Set{}, errors.New("being written")
}
