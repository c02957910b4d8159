package registry

import (
	"context"
	"fmt"
	"net/http"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// CheckPush begins an upload and cancels it: some registries give out a token for pushing to those who may not.
// failure.Forbidden names the repository and the credentials that were tried.
func (r *Repository) CheckPush(ctx context.Context) error {
	if err := r.checkPush(ctx); err != nil {
		return r.explain(ctx, "push to", err)
	}
	return nil
}

func (r *Repository) checkPush(ctx context.Context) (err error) {
	auth, err := authn.Resolve(ctx, r.keychain, r.repo)
	if err != nil {
		return &keychainError{err}
	}
	scopes := []string{r.repo.Scope(transport.PushScope)}
	authorized, err := transport.NewWithContext(ctx, r.repo.Registry, auth, transport.NewUserAgent(r.transport, userAgent), scopes)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: authorized}
	url := fmt.Sprintf("%s://%s/v2/%s/blobs/uploads/", r.repo.Scheme(), r.repo.RegistryStr(), r.repo.RepositoryStr())
	begun, err := send(ctx, client, http.MethodPost, url)
	if err != nil {
		return err
	}
	if err := transport.CheckError(begun, http.StatusAccepted, http.StatusCreated); err != nil {
		return err
	}
	location, err := begun.Location()
	if err != nil {
		return fmt.Errorf("the upload that was begun has no address: %w", err)
	}
	if location.Host != begun.Request.URL.Host {
		// The registry keeps uploads elsewhere; one without content ends there by itself.
		return nil
	}
	cancelled, err := send(ctx, client, http.MethodDelete, location.String())
	if err != nil {
		return err
	}
	// Not every registry lets uploads be cancelled. The question was whether one may begin one: yes.
	return cancelled.Body.Close()
}

// send returns the answer; the caller closes its body, or transport.CheckError has read it.
func send(ctx context.Context, client *http.Client, method, url string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return nil, err
	}
	return client.Do(req)
}
