// Package docker builds environment images with a Docker engine: uv installs the model's requirements in a container of the base image, where
// source code may run to be built, with a compiler where one is needed, and with system packages. What it leaves there is sent here, packed
// and pushed as by the builder without Docker: the engine keeps no image, and needs no right to push.
//
// Only this package imports Docker's and BuildKit's modules.
package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image/layer"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image/registry"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image/uv"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// Builder builds with a Docker engine. It is safe for concurrent use.
type Builder struct {
	// Getenv finds the engine, as the docker command does. It is os.Getenv in a program.
	Getenv func(string) string
	// Launcher has launcher.py, whose --list-imports tells what the server imports. nil compiles all that is installed.
	Launcher fs.FS
	// Cache is where environments are unpacked; "" is kubectl-mlflow in the user's cache directory.
	Cache string
	// Warn is told what the packages will miss in the image, which stands in no build's way. It may be nil.
	Warn func(text string)
}

var _ image.Builder = (*Builder)(nil)

// Name is docker.
func (*Builder) Name() string { return image.BuilderDocker }

// Check is nil where a Docker engine with BuildKit answers, and nothing in e is of the machine alone that logged the model; else the
// failure says what is in the way.
func (b *Builder) Check(ctx context.Context, e image.Environment) (err error) {
	if err := uv.CheckSources(b.Name(), e); err != nil {
		return err
	}
	at, c, err := b.engine()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	ctx, cancel := context.WithTimeout(ctx, answering)
	defer cancel()
	return at.check(ctx, c)
}

// answering is how long an engine may take to say that it is there.
const answering = 10 * time.Second

func (b *Builder) engine() (endpoint, *client.Client, error) {
	at, err := findEndpoint(b.Getenv)
	if err != nil {
		return endpoint{}, nil, err
	}
	c, err := at.open()
	return at, c, err
}

// Build builds e, pushes it as e.Tag() and returns the digest.
func (b *Builder) Build(ctx context.Context, e image.Environment, to *registry.Repository, s progress.Step) (digest string, err error) {
	_, c, err := b.engine()
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	return uv.Assemble(ctx, b.Cache, e, to, s, func(ctx context.Context, w uv.Work) (layers []v1.Layer, err error) {
		system, err := b.run(ctx, c, e, to, w.Dir, w.Scratch, s)
		if err != nil {
			return nil, err
		}
		if system != nil {
			layers = append(layers, system)
			if err := to.Upload(ctx, layers, w.Sum.Part()); err != nil {
				return nil, err
			}
		}
		s.Note("packing")
		packages, err := uv.Pack(ctx, w.Scratch, filepath.Join(w.Dir, "out", "env"), e, to, w.Sum, b.Warn)
		return append(layers, packages...), err
	})
}

// run lets the engine build, and unpacks what it sends into dir/out. system is the layer of system packages, nil for none.
func (b *Builder) run(ctx context.Context, c *client.Client, e image.Environment, from *registry.Repository, dir string, scratch *layer.Scratch, s progress.Step) (system v1.Layer, err error) {
	context, out := filepath.Join(dir, "context"), filepath.Join(dir, "out")
	for _, d := range []string{context, out} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return nil, fmt.Errorf("make a directory for the build: %w", err)
		}
	}
	if err := writeContext(ctx, context, e, b.Launcher); err != nil {
		return nil, err
	}
	index, err := secret(e)
	if err != nil {
		return nil, err
	}
	options := build.ImageBuildOptions{
		Version:  build.BuilderBuildKit,
		Platform: e.Platform,
		Remove:   true,
		Outputs:  []build.ImageBuildOutput{{Type: "tar"}},
	}
	if options.NetworkMode, err = networkMode(ctx, c); err != nil {
		return nil, err
	}
	received, send := io.Pipe()
	id, end, err := openSession(ctx, c, map[string][]byte{"index": index}, from, e.Base, send)
	if err != nil {
		return nil, fmt.Errorf("open a session with the Docker engine: %w", err)
	}
	defer func() { err = errors.Join(err, end()) }()
	options.SessionID, options.BuildID = id, id

	g, working := errgroup.WithContext(ctx)
	g.Go(func() error {
		err := unpack(received, out, func(in io.Reader) error {
			system, err = scratch.Tar(in)
			return err
		})
		// Nothing more is read: a build that still sends is to know it.
		received.CloseWithError(errors.Join(err, io.ErrClosedPipe))
		if err != nil {
			return fmt.Errorf("unpack what the Docker engine built: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		err := submit(working, c, context, options, e, s)
		send.CloseWithError(err) // of nil, it ends the archive
		return err
	})
	err = g.Wait()
	return system, err
}

// networkMode is "host" where the engine has no network of its own to give to a build, and its default else.
func networkMode(ctx context.Context, c *client.Client) (string, error) {
	_, err := c.NetworkInspect(ctx, network.NetworkBridge, network.InspectOptions{})
	switch {
	case cerrdefs.IsNotFound(err):
		return network.NetworkHost, nil
	case err != nil && !strings.Contains(err.Error(), "not supported"):
		return "", fmt.Errorf("ask the Docker engine for its networks: %w", err)
	}
	return "", nil
}
