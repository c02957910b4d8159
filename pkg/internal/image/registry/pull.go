package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// PullSecret is a Secret of the type kubernetes.io/dockerconfigjson, or of its forerunner kubernetes.io/dockercfg.
type PullSecret struct {
	Name   string
	Config []byte // JSON
}

// Pull is what a registry says to nodes that want an image.
type Pull struct {
	Allowed bool
	Denied  bool   // to every Secret that is for the registry; neither is true where there is none, and nobody may pull without
	Secrets string // that allow it, or are denied; "" for no Secret at all
	Cloud   bool   // nodes of the registry's own cloud pull as what they are, which cannot be seen from here
}

// CheckPull asks the registry as a kubelet with these Secrets would. It needs no image to be there: who may not pull is not told that it
// is missing.
func (r *Repository) CheckPull(ctx context.Context, secrets []PullSecret) (Pull, error) {
	p, err := r.checkPull(ctx, secrets)
	if err != nil {
		return Pull{}, r.explain(ctx, "read from", err)
	}
	p.Cloud = cloudOf(r.repo.RegistryStr(), "").nodesIdentity()
	return p, nil
}

func (r *Repository) checkPull(ctx context.Context, secrets []PullSecret) (Pull, error) {
	var denied []string
	for _, s := range secrets {
		refused := false
		for _, c := range s.forImage(r.repo.RegistryStr(), r.repo.RepositoryStr()) {
			answer, err := r.mayPull(ctx, c)
			if answer == allowed || err != nil {
				return Pull{Allowed: answer == allowed, Secrets: s.Name}, err
			}
			refused = refused || answer == denies
		}
		if refused {
			denied = append(denied, s.Name)
		}
	}
	if len(denied) > 0 {
		return Pull{Denied: true, Secrets: strings.Join(denied, ", ")}, nil
	}
	answer, err := r.mayPull(ctx, authn.Anonymous)
	return Pull{Allowed: answer == allowed}, err
}

// answer is what a registry says to one who wants an image.
type answer int

const (
	unclear answer = iota // nothing that tells: not a reason to stop anybody
	allowed
	denies
)

// mayPull asks for a manifest that is not there: "not found" is told to those alone who may see what is.
func (r *Repository) mayPull(ctx context.Context, auth authn.Authenticator) (answer, error) {
	scopes := []string{r.repo.Scope(transport.PullScope)}
	authorized, err := transport.NewWithContext(ctx, r.repo.Registry, auth, transport.NewUserAgent(r.transport, userAgent), scopes)
	if err != nil {
		return answerOf(err)
	}
	url := fmt.Sprintf("%s://%s/v2/%s/manifests/kubectl-mlflow-pull-check", r.repo.Scheme(), r.repo.RegistryStr(), r.repo.RepositoryStr())
	resp, err := send(ctx, &http.Client{Transport: authorized}, http.MethodGet, url)
	if err != nil {
		return answerOf(err)
	}
	defer func() { _ = resp.Body.Close() }() // it was read
	return answerOf(transport.CheckError(resp, http.StatusOK, http.StatusNotFound))
}

func answerOf(err error) (answer, error) {
	e, ok := errors.AsType[*transport.Error](err)
	switch {
	case err == nil:
		return allowed, nil
	case !ok:
		return unclear, err
	case e.StatusCode == http.StatusUnauthorized, e.StatusCode == http.StatusForbidden:
		return denies, nil
	default:
		return unclear, nil
	}
}

// forImage are the credentials that a kubelet takes of s for an image: those whose key has the image's host, in which each part may be a
// glob, and a path that the image's begins with.
// See https://kubernetes.io/docs/concepts/containers/images/#config-json.
func (s PullSecret) forImage(host, repository string) []authn.Authenticator {
	type entry struct{ Username, Password, Auth, IdentityToken, RegistryToken string }
	var config struct{ Auths map[string]entry }
	// What is not of this form is nothing to a kubelet, too.
	if json.Unmarshal(s.Config, &config) != nil || config.Auths == nil {
		config.Auths = map[string]entry{}
		_ = json.Unmarshal(s.Config, &config.Auths)
	}
	var found []authn.Authenticator
	for key, e := range config.Auths {
		if !matches(key, host, repository) {
			continue
		}
		if text, err := base64.StdEncoding.DecodeString(e.Auth); err == nil && e.Username == "" {
			e.Username, e.Password, _ = strings.Cut(string(text), ":")
		}
		found = append(found, authn.FromConfig(authn.AuthConfig{Username: e.Username, Password: e.Password, IdentityToken: e.IdentityToken, RegistryToken: e.RegistryToken}))
	}
	return found
}

// matches tells whether a key of a configuration is for an image.
func matches(key, host, repository string) bool {
	if _, after, ok := strings.Cut(key, "://"); ok {
		key = after
	}
	keyHost, keyPath, _ := strings.Cut(key, "/")
	if keyPath == "v1/" || keyPath == "v2/" || keyPath == "v1" || keyPath == "v2" { // of old API addresses
		keyPath = ""
	}
	keyPath = strings.TrimSuffix(keyPath, "/")
	if keyHost == "docker.io" {
		keyHost = "index.docker.io"
	}
	want, has := strings.Split(keyHost, "."), strings.Split(host, ".")
	if len(want) != len(has) {
		return false
	}
	for i := range want {
		if ok, err := path.Match(want[i], has[i]); err != nil || !ok {
			return false
		}
	}
	return keyPath == "" || repository == keyPath || strings.HasPrefix(repository, keyPath+"/")
}
