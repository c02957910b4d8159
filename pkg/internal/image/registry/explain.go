package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// keychainError is a failure of the keychain itself, not of the registry.
type keychainError struct{ err error }

func (e *keychainError) Error() string { return e.err.Error() }
func (e *keychainError) Unwrap() error { return e.err }

// explain says in one sentence why the repository could not be used. doing is "push to" or "read from".
func (r *Repository) explain(ctx context.Context, doing string, err error) error {
	what := fmt.Sprintf("cannot %s the image repository %s", doing, r.given)
	return explain(ctx, err, what, r.repo, r.keychain)
}

// explainImage says why an image, not necessarily of this repository, could not be read.
func (r *Repository) explainImage(ctx context.Context, ref name.Reference, err error) error {
	what := fmt.Sprintf("cannot read the base image %s", ref)
	if e, ok := errors.AsType[*transport.Error](err); ok && e.StatusCode == http.StatusNotFound {
		return &failure.Error{
			Class: failure.Invalid, Reason: "BaseImageNotFound", Message: what + ": it is not there", Err: err,
			Hint: "name one that exists with --base-image",
		}
	}
	return explain(ctx, err, what, ref.Context(), r.keychain)
}

func explain(ctx context.Context, err error, what string, repo name.Repository, keychain authn.Keychain) error {
	if ctx.Err() != nil || failure.ClassOf(err) != "" {
		return fmt.Errorf("%s: %w", what, err)
	}
	host := repo.RegistryStr()
	out := &failure.Error{Class: failure.Diagnosed, Err: err}
	answer, answered := errors.AsType[*transport.Error](err)
	dns, noName := errors.AsType[*net.DNSError](err)
	switch {
	case asked[*keychainError](err):
		out.Class, out.Reason = failure.Forbidden, "RegistryCredentialsUnreadable"
		out.Message = what + ": its credentials cannot be read"
		out.Hint = "mend the Docker configuration, or log in again: kubectl mlflow registry login " + host
	// Before the answer, which a registry on this machine has given to the question in plain HTTP that comes next.
	case asked[*tls.CertificateVerificationError](err), asked[x509.UnknownAuthorityError](err):
		out.Reason, out.Message = "RegistryCertificate", what+": its certificate is not trusted here"
		out.Hint = "put the certificate of the registry's authority into " + certificatesFor(host) + ", or into the system's store"
	case answered:
		out.Class, out.Reason, out.Message, out.Hint = explainAnswer(ctx, answer, what, repo, keychain)
	case errors.Is(err, syscall.ECONNREFUSED):
		out.Reason, out.Message = "RegistryUnreachable", what+": nothing listens at "+host
		out.Hint = "check host and port, and whether the registry runs"
	case noName && dns.IsNotFound:
		out.Reason, out.Message = "RegistryUnreachable", fmt.Sprintf("%s: there is no host named %s", what, dns.Name)
		out.Hint = "check the spelling of the registry's name"
	case timedOut(err):
		out.Reason, out.Message = "RegistryUnreachable", what+": "+host+" does not answer"
		out.Hint = "check the network, HTTPS_PROXY and NO_PROXY"
	default:
		out.Reason, out.Message = "RegistryFailed", what
		out.Hint = "try again; what was sent is kept and not sent again"
	}
	return out
}

func explainAnswer(ctx context.Context, e *transport.Error, what string, repo name.Repository, keychain authn.Keychain) (class failure.Class, reason, message, hint string) {
	host := repo.RegistryStr()
	has := func(code transport.ErrorCode) bool {
		return slices.ContainsFunc(e.Errors, func(d transport.Diagnostic) bool { return d.Code == code })
	}
	switch {
	case has(transport.NameUnknownErrorCode):
		return failure.Diagnosed, "ImageRepositoryUnknown", what + ": the registry does not have it and does not make it by itself",
			createHint(repo)
	case e.StatusCode == http.StatusUnauthorized:
		return failure.Forbidden, "RegistryUnauthorized", fmt.Sprintf("%s: not accepted %s", what, tried(ctx, repo, keychain)),
			loginHint(host)
	case e.StatusCode == http.StatusForbidden:
		return failure.Forbidden, "RegistryForbidden", fmt.Sprintf("%s: not allowed %s", what, tried(ctx, repo, keychain)),
			"ask for the right to push, or choose another repository with --image-repository" + orCreate(repo)
	case e.StatusCode == http.StatusMethodNotAllowed, has(transport.UnsupportedErrorCode):
		return failure.Diagnosed, "RegistryReadOnly", what + ": " + host + " takes no uploads there; it is read-only or a mirror",
			"choose a repository that can be written with --image-repository"
	case e.StatusCode == http.StatusTooManyRequests:
		return failure.Diagnosed, "RegistryRateLimit", what + ": " + host + " limits how often one may ask",
			loginHint(host) + "; or try again later"
	case e.StatusCode == http.StatusNotFound && len(e.Errors) == 0:
		return failure.Diagnosed, "NotARegistry", what + ": " + host + " answers, but not as an image registry",
			"check host and port"
	default:
		return failure.Diagnosed, "RegistryFailed", fmt.Sprintf("%s: %s answered %d", what, host, e.StatusCode),
			"try again; what was sent is kept and not sent again"
	}
}

// createHint says how to make a repository.
func createHint(repo name.Repository) string {
	if line := cloudOf(repo.RegistryStr(), repo.RepositoryStr()).create; line != "" {
		return "create it: " + line
	}
	return fmt.Sprintf("create the repository %s in %s first", repo.RepositoryStr(), repo.RegistryStr())
}

// orCreate is createHint for a provider that answers "forbidden" where there is no repository.
func orCreate(repo name.Repository) string {
	if c := cloudOf(repo.RegistryStr(), repo.RepositoryStr()); c.google && c.create != "" {
		return "; where the repository does not exist yet, create it: " + c.create
	}
	return ""
}

// immutable tells that a registry does not let a tag move: ECR and Harbor say so in the message, Artifact Registry and Quay with 409.
func immutable(err error) bool {
	e, ok := errors.AsType[*transport.Error](err)
	return ok && (e.StatusCode == http.StatusConflict || strings.Contains(strings.ToLower(e.Error()), "immutable"))
}

// tried names the credentials that a registry did not accept, never what they hold.
func tried(ctx context.Context, repo name.Repository, keychain authn.Keychain) string {
	const where = "(looked in Docker's config.json with its helpers, and in Podman's auth.json)"
	auth, err := authn.Resolve(ctx, keychain, repo)
	if err != nil || auth == authn.Anonymous {
		return "without credentials " + where
	}
	config, err := authn.Authorization(ctx, auth)
	switch {
	case err != nil:
		return "without credentials " + where
	case config.Username != "" && config.Username != "<token>":
		return fmt.Sprintf("as user %q %s", config.Username, where)
	default:
		return "with a stored token " + where
	}
}

func timedOut(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

func asked[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}
