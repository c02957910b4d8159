package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image/layer"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image/registry"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/model"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// EnvironmentLabel of an image is the key of its environment.
const EnvironmentLabel = "mlflow.kubectl/environment-key"

// Content is what goes on top of the environment.
type Content struct {
	// Key identifies the content without reading it (URI made fast, digest of MLmodel, names and sizes); "" for a local
	// directory, which is read. An image with this key is used as it is: an unchanged model is not even downloaded.
	Key      string
	Model    model.Files
	Launcher fs.FS // and settings: the last layer, so that a change of them leaves model layers as they are
	Command  []string
	Labels   map[string]string
	Tag      string // one more name of the image, or ""
	Anew     bool   // environment and image are made although the repository may have them
	Builder  string // name of the one that builds a missing environment, "" or BuilderAuto for the first that can
	// Present finds the image that the deployment has now, "" for none: where the environment is new, it is told in what. It may be nil.
	Present func(context.Context) (string, error)
}

// Maker makes images in one repository. The first builder whose Check is nil builds a missing environment.
type Maker struct {
	Repository *registry.Repository
	Builders   []Builder
	Progress   progress.Reporter
	// Cache is where locks are, so that one environment is built once at a time; "" is kubectl-mlflow in the user's cache directory.
	Cache string
}

// ResolveBase returns the base image by digest. An empty base is the default one for the model's Python.
func (m *Maker) ResolveBase(ctx context.Context, base, python string) (string, error) {
	if base == "" {
		chosen, err := DefaultBase(python)
		if err != nil {
			return "", err
		}
		base = chosen
	}
	return m.Repository.Resolve(ctx, base)
}

// Made is an image, and how long its parts took. A part that the registry had took nothing.
type Made struct {
	Ref         string // repository@sha256:…
	Environment time.Duration
	Model       time.Duration // of reading, packing and sending, beside the environment's where that was built too
}

// Make returns the image of c on e. What the registry has is neither built nor sent. Same input, same digest.
func (m *Maker) Make(ctx context.Context, e Environment, c Content) (Made, error) {
	made, digest, err := m.make(ctx, e, c)
	if err != nil {
		return Made{}, err
	}
	made.Ref = m.Repository.At(digest)
	if c.Tag != "" {
		err = m.Repository.Tag(ctx, digest, c.Tag)
	}
	return made, err
}

func (m *Maker) make(ctx context.Context, e Environment, c Content) (made Made, image string, err error) {
	launcher, err := digestFS(c.Launcher)
	if err != nil {
		return Made{}, "", err
	}
	environment := e.Image
	g, looking := errgroup.WithContext(ctx)
	if c.Key != "" && !c.Anew {
		g.Go(func() (err error) {
			image, _, err = m.Repository.Digest(looking, contentTag(e, launcher, c))
			return err
		})
	}
	if environment == "" && !c.Anew {
		g.Go(func() (err error) {
			environment, err = m.known(looking, e)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return Made{}, "", err
	}
	if image != "" {
		return Made{}, image, nil
	}

	scratch := layer.NewScratch("")
	defer func() { err = errors.Join(err, scratch.Close()) }()
	var layers []v1.Layer
	// The model is read and sent while its environment is built.
	g, working := errgroup.WithContext(ctx)
	if environment == "" {
		g.Go(func() (err error) {
			start := time.Now()
			environment, err = m.provide(working, e, c)
			made.Environment = time.Since(start)
			return err
		})
	}
	g.Go(func() (err error) {
		start := time.Now()
		layers, err = m.pack(working, scratch, c)
		made.Model = time.Since(start)
		return err
	})
	if err := g.Wait(); err != nil {
		return Made{}, "", err
	}
	if c.Key == "" {
		if c.Key, err = digestLayers(layers); err != nil {
			return Made{}, "", err
		}
	}
	labels := maps.Clone(c.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[EnvironmentLabel] = e.Key()
	if e.Image == "" { // else what the image says of itself stays
		labels[DescriptionLabel] = e.Description()
	}
	start := time.Now()
	err = progress.Do(m.Progress, "Pushing the image", func(s progress.Step) error {
		image, err = m.Repository.Append(ctx, contentTag(e, launcher, c), environment, registry.Addition{
			Platform:   e.Platform,
			Layers:     layers,
			Entrypoint: c.Command,
			Labels:     labels,
		}, s)
		return err
	})
	if err != nil {
		return Made{}, "", err
	}
	made.Model += time.Since(start)
	return made, image, nil
}

// pack makes the model's layers and the launcher's, and sends them.
func (m *Maker) pack(ctx context.Context, scratch *layer.Scratch, c Content) (layers []v1.Layer, err error) {
	err = progress.Do(m.Progress, "Reading the model", func(s progress.Step) error {
		layers, err = scratch.Pack(ctx, c.Model, ModelDir, s)
		if err != nil {
			return err
		}
		last, err := scratch.FS(ctx, LauncherDir, c.Launcher)
		if err != nil {
			return err
		}
		layers = append(layers, last)
		return m.Repository.Upload(ctx, layers, s)
	})
	return layers, err
}

// noWheel is the reason of a failure that another builder may not have: a requirement has to be built of its source code.
const noWheel = "NoWheel"

// build lets the first builder that can build e do it, or the one that is named. One that finds out while it builds that it cannot leaves
// it to the next.
func (m *Maker) build(ctx context.Context, e Environment, named string) (digest string, err error) {
	var refused []error
	var reasons []string
	for _, b := range m.Builders {
		if named != "" && named != BuilderAuto && b.Name() != named {
			continue
		}
		err := b.Check(ctx, e)
		if err == nil {
			if len(reasons) > 0 {
				progress.Say(m.Progress, "%s; so %s builds it", reasons[len(reasons)-1], b.Name())
			}
			err = progress.Do(m.Progress, "Building the environment with "+b.Name(), func(s progress.Step) error {
				digest, err = b.Build(ctx, e, m.Repository, s)
				return err
			})
			f, ok := errors.AsType[*failure.Error](err)
			if !ok || f.Reason != noWheel {
				return digest, err
			}
		}
		if ctx.Err() != nil {
			return "", err
		}
		refused = append(refused, err)
		reasons = append(reasons, b.Name()+": "+err.Error())
	}
	if len(refused) == 1 {
		return "", refused[0]
	}
	all := errors.Join(refused...)
	// What the first one misses is about the model; what the others miss is about this machine.
	if f, ok := errors.AsType[*failure.Error](all); ok {
		first := *f
		first.Evidence = slices.Concat(f.Evidence, reasons[1:])
		return "", &first
	}
	return "", &failure.Error{
		Class:    failure.Diagnosed,
		Reason:   "NoBuilder",
		Message:  "no builder can build the model's environment here",
		Hint:     "mend what one of them misses",
		Evidence: reasons,
		Err:      all,
	}
}

// contentTag covers all that decides an image. Labels count: they tell which model version is deployed.
func contentTag(e Environment, launcher string, c Content) string {
	// Strings, maps and slices of them: Marshal has nothing to refuse, and sorts the maps.
	text, err := json.Marshal([]any{e.Key(), launcher, c.Key, c.Command, c.Labels})
	if err != nil {
		text = fmt.Appendf(nil, "%q %q %q %q %q", e.Key(), launcher, c.Key, c.Command, c.Labels)
	}
	sum := sha256.Sum256(text)
	return "m-" + hex.EncodeToString(sum[:])
}

func digestFS(fsys fs.FS) (string, error) {
	sum := sha256.New()
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(sum, "%q %d\n%s", name, len(content), content)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("read the launcher: %w", err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func digestLayers(layers []v1.Layer) (string, error) {
	sum := sha256.New()
	for _, l := range layers {
		d, err := l.Digest()
		if err != nil {
			return "", fmt.Errorf("digest of a layer: %w", err)
		}
		if _, err := fmt.Fprintln(sum, d); err != nil {
			return "", fmt.Errorf("digest of a layer: %w", err)
		}
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
