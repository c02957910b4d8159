// Package registry is one repository of an OCI registry: what it holds, whether one may push, and how an image is put together
// in it from a base image and further layers, without a daemon.
package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

const userAgent = "kubectl-mlflow"

// Repository is one repository. It is safe for concurrent use, and remembers what it has sent: make one for one piece of work.
type Repository struct {
	given     string // as the user wrote it
	repo      name.Repository
	keychain  authn.Keychain
	transport http.RoundTripper
	puller    *remote.Puller
	pusher    *remote.Pusher
}

// Option changes how a Repository reaches its registry.
type Option func(*Repository)

// WithKeychain takes credentials from k. The default is Docker's configuration with its helpers, Podman's, or a cloud's identity.
func WithKeychain(k authn.Keychain) Option { return func(r *Repository) { r.keychain = k } }

// WithWarnings tells say what is amiss and stands in nobody's way, such as a credential helper that is not installed.
func WithWarnings(say func(format string, args ...any)) Option {
	return func(r *Repository) { r.keychain = &stored{getenv: os.Getenv, say: say} }
}

// WithTransport sends requests through t. The default honours HTTPS_PROXY and NO_PROXY, and trusts whom Docker and Podman trust.
func WithTransport(t http.RoundTripper) Option { return func(r *Repository) { r.transport = t } }

// Open parses name, "registry.example.com/team/models", and finds out where credentials come from. It does not dial.
// Registries on localhost and on private addresses are spoken to in plain HTTP where they have no TLS. failure.Invalid shows the form.
func Open(repository string, options ...Option) (*Repository, error) {
	repo, err := name.NewRepository(repository)
	if err != nil || strings.Contains(repository, "://") {
		return nil, &failure.Error{
			Class:   failure.Invalid,
			Reason:  "ImageRepositoryInvalid",
			Message: fmt.Sprintf("%q is not an image repository", repository),
			Hint:    hintForm(repository),
			Err:     err,
		}
	}
	r := &Repository{given: repository, repo: repo, keychain: &stored{getenv: os.Getenv, say: func(string, ...any) {}}, transport: usualTransport()}
	for _, o := range options {
		o(r)
	}
	with := []remote.Option{remote.WithAuthFromKeychain(r.keychain), remote.WithTransport(r.transport), remote.WithUserAgent(userAgent)}
	puller, err := remote.NewPuller(with...)
	if err != nil {
		return nil, fmt.Errorf("image repository %s: %w", repository, err)
	}
	pusher, err := remote.NewPusher(with...)
	if err != nil {
		return nil, fmt.Errorf("image repository %s: %w", repository, err)
	}
	r.puller, r.pusher = puller, pusher
	return r, nil
}

// usualTransport honours HTTPS_PROXY and NO_PROXY, and the certificates that this machine has for a registry.
func usualTransport() http.RoundTripper {
	base, ok := remote.DefaultTransport.(*http.Transport)
	if !ok {
		return remote.DefaultTransport
	}
	return &certified{base: base, dirs: certificateDirs(os.Getenv)}
}

func hintForm(repository string) string {
	scheme, _, isURL := strings.Cut(repository, "://")
	switch _, err := name.ParseReference(repository); {
	case isURL:
		return "leave out " + scheme + "://"
	case err == nil:
		return "leave out tag and digest: the image is deployed by digest"
	case strings.ToLower(repository) != repository:
		return "write it in lower case"
	default:
		return "write it as registry.example.com/team/models"
	}
}

// Name is the repository as the user wrote it.
func (r *Repository) Name() string { return r.given }

// Ref is repository:tag.
func (r *Repository) Ref(tag string) string { return r.given + ":" + tag }

// At is repository@digest.
func (r *Repository) At(digest string) string { return r.given + "@" + digest }

// Digest returns the digest of tag; ok is false where it is not there.
func (r *Repository) Digest(ctx context.Context, tag string) (digest string, ok bool, err error) {
	d, err := r.puller.Head(ctx, r.repo.Tag(tag))
	if absent(err) {
		return "", false, nil
	}
	if err != nil {
		return "", false, r.explain(ctx, "read from", err)
	}
	return d.Digest.String(), true, nil
}

// Tag gives an image of this repository, which is there, one more name. A tag that names another image moves. failure.Refused where the
// registry does not let tags move.
func (r *Repository) Tag(ctx context.Context, digest, tag string) error {
	to := r.repo.Tag(tag)
	present, err := r.puller.Head(ctx, to)
	if err == nil && present.Digest.String() == digest {
		return nil
	}
	image, err := r.puller.Get(ctx, r.repo.Digest(digest))
	if err != nil {
		return r.explain(ctx, "read from", err)
	}
	err = r.pusher.Put(ctx, to, image)
	switch {
	case err == nil:
		return nil
	case present != nil && immutable(err):
		return &failure.Error{
			Class: failure.Refused, Reason: "ImageTagImmutable", Message: fmt.Sprintf("the tag %s is another image's, and the registry does not let it move", r.Ref(tag)),
			Hint: "choose another tag with --image-tag", Evidence: []string{"it is " + present.Digest.String(), "this image is " + digest}, Err: err,
		}
	}
	return r.explain(ctx, "push to", err)
}

// CheckTag is failure.Invalid where tag has not the form of a tag.
func (r *Repository) CheckTag(tag string) error {
	if _, err := name.NewTag(r.given + ":" + tag); err != nil {
		return &failure.Error{
			Class: failure.Invalid, Reason: "ImageTagInvalid", Message: fmt.Sprintf("%q is not an image's tag", tag),
			Hint: "write it as 1.4.2 or release-2026-11: letters, digits, dots, dashes and underscores",
		}
	}
	return nil
}

// absent tells "not there" from other failures. Some registries answer 403 where a repository does not exist yet; whether one
// may write there is CheckPush's question.
func absent(err error) bool {
	e, ok := errors.AsType[*transport.Error](err)
	return ok && (e.StatusCode == http.StatusNotFound || e.StatusCode == http.StatusForbidden)
}

// Resolve makes the name of any image fast: name@digest, of an index where there is one. A name that is fast already costs nothing.
func (r *Repository) Resolve(ctx context.Context, image string) (string, error) {
	ref, err := parseImage(image)
	if err != nil {
		return "", err
	}
	if d, ok := ref.(name.Digest); ok {
		return d.String(), nil
	}
	d, err := r.puller.Head(ctx, ref)
	if err != nil {
		return "", r.explainImage(ctx, ref, err)
	}
	return ref.Context().Digest(d.Digest.String()).String(), nil
}

// Config returns the configuration of an image for a platform, "linux/amd64".
func (r *Repository) Config(ctx context.Context, image, platform string) (*v1.ConfigFile, error) {
	img, ref, err := r.image(ctx, image, platform)
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, r.explainImage(ctx, ref, err)
	}
	return config, nil
}

func parseImage(image string) (name.Reference, error) {
	ref, err := name.ParseReference(image)
	if err != nil {
		return nil, &failure.Error{
			Class:   failure.Invalid,
			Reason:  "ImageNameInvalid",
			Message: fmt.Sprintf("%q is not the name of an image", image),
			Hint:    "write it as registry.example.com/team/python:3.11-slim",
			Err:     err,
		}
	}
	return ref, nil
}
