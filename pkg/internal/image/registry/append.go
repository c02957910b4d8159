package registry

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/match"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// parallel is the number of blobs sent at a time.
const parallel = 8

// Addition is what Append puts on a base image. What it leaves empty stays as the base has it.
type Addition struct {
	Platform   string // of the base, "linux/amd64"
	Layers     []v1.Layer
	Entrypoint []string          // also clears the base's arguments
	Env        map[string]string // set over the base's
	User       string
	WorkingDir string
	Labels     map[string]string // set over the base's
}

// Append makes an image of base and a, pushes it as tag and returns its digest. Blobs that are there are not sent; a base in the
// same registry is mounted, one in another registry is streamed through. The same input gives the same digest.
func (r *Repository) Append(ctx context.Context, tag, base string, a Addition, step progress.Step) (digest string, err error) {
	from, ref, err := r.image(ctx, base, a.Platform)
	if err != nil {
		return "", err
	}
	img, err := assemble(from, a)
	if err != nil {
		return "", r.explainImage(ctx, ref, err)
	}
	config, err := partial.ConfigLayer(img)
	if err != nil {
		return "", r.explainImage(ctx, ref, err)
	}
	blobs := append(slices.Clone(a.Layers), config)
	// A base in this repository is whole: its manifest could not be there else.
	if ref.Context().Name() != r.repo.Name() {
		layers, err := from.Layers()
		if err != nil {
			return "", r.explainImage(ctx, ref, err)
		}
		blobs = append(blobs, layers...)
	}
	if err := r.Upload(ctx, blobs, step); err != nil {
		return "", err
	}
	h, err := img.Digest()
	if err != nil {
		return "", fmt.Errorf("image repository %s: %w", r.given, err)
	}
	err = r.pusher.Put(ctx, r.repo.Tag(tag), img)
	if immutable(err) {
		// The tag is that of an image which was made before of the same. Ours needs none to be deployed.
		step.Note("the registry does not let the tag " + tag + " move: the image is pushed without it")
		err = r.pusher.Put(ctx, r.repo.Digest(h.String()), img)
	}
	if err != nil {
		return "", r.explain(ctx, "push to", err)
	}
	return h.String(), nil
}

// UploadImage sends the layers of an image that is about to be a base, so that they are there when Append needs them.
func (r *Repository) UploadImage(ctx context.Context, image, platform string, step progress.Step) error {
	img, ref, err := r.image(ctx, image, platform)
	if err != nil {
		return err
	}
	layers, err := img.Layers()
	if err != nil {
		return r.explainImage(ctx, ref, err)
	}
	return r.Upload(ctx, layers, step)
}

// Upload sends layers that are not there yet, each once.
func (r *Repository) Upload(ctx context.Context, layers []v1.Layer, step progress.Step) error {
	count := &counter{step: step}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, l := range layers {
		g.Go(func() error {
			if err := r.pusher.Upload(ctx, r.repo, count.watch(l)); err != nil {
				return r.explain(ctx, "push to", err)
			}
			return nil
		})
	}
	return g.Wait()
}

// image reads the manifest of an image for one platform.
func (r *Repository) image(ctx context.Context, image, platform string) (v1.Image, name.Reference, error) {
	ref, err := parseImage(image)
	if err != nil {
		return nil, nil, err
	}
	want, err := v1.ParsePlatform(platform)
	if err != nil {
		return nil, nil, &failure.Error{
			Class: failure.Invalid, Reason: "PlatformInvalid", Message: fmt.Sprintf("%q is not a platform", platform), Hint: "write it as linux/amd64", Err: err,
		}
	}
	d, err := r.puller.Get(ctx, ref)
	if err != nil {
		return nil, nil, r.explainImage(ctx, ref, err)
	}
	if !d.MediaType.IsIndex() {
		img, err := d.Image()
		if err != nil {
			return nil, nil, r.explainImage(ctx, ref, err)
		}
		config, err := img.ConfigFile()
		if err != nil {
			return nil, nil, r.explainImage(ctx, ref, err)
		}
		if has := config.Platform(); has != nil && has.Architecture != "" && !has.Satisfies(*want) {
			return nil, nil, platformMissing(ref, platform, has.String())
		}
		return img, ref, nil
	}
	index, err := d.ImageIndex()
	if err != nil {
		return nil, nil, r.explainImage(ctx, ref, err)
	}
	images, err := partial.FindImages(index, match.Platforms(*want))
	if err != nil {
		return nil, nil, r.explainImage(ctx, ref, err)
	}
	if len(images) == 0 {
		return nil, nil, platformMissing(ref, platform, "other platforms")
	}
	return images[0], ref, nil
}

func platformMissing(ref name.Reference, want, has string) error {
	return &failure.Error{
		Class:   failure.Invalid,
		Reason:  "PlatformMissing",
		Message: fmt.Sprintf("the image %s is for %s, not for %s", ref, has, want),
		Hint:    "choose a base image for the nodes' platform with --base-image",
	}
}

func assemble(base v1.Image, a Addition) (v1.Image, error) {
	kind, err := base.MediaType()
	if err != nil {
		return nil, err
	}
	additions := make([]mutate.Addendum, 0, len(a.Layers))
	for _, l := range a.Layers {
		media, err := l.MediaType()
		if err != nil {
			return nil, err
		}
		additions = append(additions, mutate.Addendum{Layer: l, MediaType: mediaType(media, kind), History: v1.History{CreatedBy: userAgent}})
	}
	img, err := mutate.Append(base, additions...)
	if err != nil {
		return nil, err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	// What an image is made of tells when it was made; a clock here would make two images of one content.
	file.Created = v1.Time{Time: time.Unix(0, 0).UTC()}
	c := &file.Config
	if len(a.Entrypoint) > 0 {
		c.Entrypoint, c.Cmd = slices.Clone(a.Entrypoint), nil
	}
	for _, key := range slices.Sorted(maps.Keys(a.Env)) {
		c.Env = slices.DeleteFunc(c.Env, func(v string) bool { return strings.HasPrefix(v, key+"=") })
		c.Env = append(c.Env, key+"="+a.Env[key])
	}
	if a.User != "" {
		c.User = a.User
	}
	if a.WorkingDir != "" {
		c.WorkingDir = a.WorkingDir
	}
	if len(a.Labels) > 0 {
		labels := maps.Clone(c.Labels)
		if labels == nil {
			labels = map[string]string{}
		}
		maps.Copy(labels, a.Labels)
		c.Labels = labels
	}
	return mutate.ConfigFile(img, file)
}

// mediaType says in the words of the base's manifest what a layer is.
func mediaType(layer, manifest types.MediaType) types.MediaType {
	if manifest != types.DockerManifestSchema2 {
		return layer
	}
	if layer == types.OCIUncompressedLayer {
		return types.DockerUncompressedLayer
	}
	return types.DockerLayer
}

// counter adds up what is read of several layers. What a layer reads again after a failed try counts once.
type counter struct {
	step progress.Step

	mu       sync.Mutex
	n, total int64
}

func (c *counter) add(n, total int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n += n
	c.total += total
	c.step.Bytes(c.n, c.total)
}

// watch returns l as it is, with its bytes counted; what could be mounted still can.
func (c *counter) watch(l v1.Layer) v1.Layer {
	if m, ok := l.(*remote.MountableLayer); ok {
		return &remote.MountableLayer{Layer: &watched{Layer: m.Layer, counter: c}, Reference: m.Reference}
	}
	return &watched{Layer: l, counter: c}
}

type watched struct {
	v1.Layer
	counter *counter
	read    int64 // of the present try
	sized   bool
}

func (w *watched) Compressed() (io.ReadCloser, error) {
	in, err := w.Layer.Compressed()
	if err != nil {
		return nil, err
	}
	if !w.sized {
		size, err := w.Size()
		if err != nil {
			return nil, err
		}
		w.sized = true
		w.counter.add(0, size)
	}
	w.counter.add(-w.read, 0)
	w.read = 0
	return struct {
		io.Reader
		io.Closer
	}{io.TeeReader(in, w), in}, nil
}

func (w *watched) Write(p []byte) (int, error) {
	w.read += int64(len(p))
	w.counter.add(int64(len(p)), 0)
	return len(p), nil
}
