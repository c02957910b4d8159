package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/types"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

// stored are the credentials in Docker's configuration, with its helpers, and in Podman's; where there are none, those of a cloud's
// identity. authn.DefaultKeychain fails where a helper is not installed, as after Docker Desktop is gone, and does not look into Podman's
// where there is one of Docker's.
type stored struct {
	getenv func(string) string
	say    func(format string, args ...any) // warnings

	mu     sync.Mutex
	warned map[string]bool // of helpers
}

// Resolve implements authn.Keychain.
func (s *stored) Resolve(target authn.Resource) (authn.Authenticator, error) {
	return s.ResolveContext(context.Background(), target)
}

// ResolveContext implements authn.ContextKeychain.
func (s *stored) ResolveContext(ctx context.Context, target authn.Resource) (authn.Authenticator, error) {
	for _, path := range s.files() {
		found, err := s.read(path, target)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if found != (authn.AuthConfig{}) {
			return authn.FromConfig(found), nil
		}
	}
	if auth := s.ofIdentity(ctx, target.RegistryStr()); auth != nil {
		return auth, nil
	}
	return authn.Anonymous, nil
}

// warn says once what there is to say about a helper.
func (s *stored) warn(helper, format string, args ...any) {
	s.mu.Lock()
	first := !s.warned[helper]
	if s.warned == nil {
		s.warned = map[string]bool{}
	}
	s.warned[helper] = true
	s.mu.Unlock()
	if first {
		s.say(format, args...)
	}
}

// files are where credentials may be, the first with some for a registry wins. What is not there is no error.
func (s *stored) files() []string {
	home, err := os.UserHomeDir()
	inHome := func(elements ...string) string {
		if err != nil {
			return ""
		}
		return filepath.Join(append([]string{home}, elements...)...)
	}
	orElse := func(variable, otherwise string, elements ...string) string {
		dir := s.getenv(variable)
		if dir == "" {
			dir = otherwise
		}
		if dir == "" {
			return ""
		}
		return filepath.Join(append([]string{dir}, elements...)...)
	}
	return []string{
		orElse("DOCKER_CONFIG", inHome(".docker"), "config.json"),
		s.getenv("REGISTRY_AUTH_FILE"),
		orElse("XDG_RUNTIME_DIR", "", "containers", "auth.json"),
		orElse("XDG_CONFIG_HOME", inHome(".config"), "containers", "auth.json"),
	}
}

// read takes what one file has for target; nothing where there is no such file.
func (s *stored) read(path string, target authn.Resource) (authn.AuthConfig, error) {
	if path == "" {
		return authn.AuthConfig{}, nil
	}
	file, err := os.Open(path) //nolint:gosec // the user's own configuration
	if errors.Is(err, fs.ErrNotExist) {
		return authn.AuthConfig{}, nil
	}
	if err != nil {
		return authn.AuthConfig{}, err
	}
	kept, err := config.LoadFromReader(file)
	if err = errors.Join(err, file.Close()); err != nil {
		return authn.AuthConfig{}, err
	}
	for _, key := range []string{target.String(), target.RegistryStr()} {
		if key == name.DefaultRegistry {
			key = authn.DefaultAuthKey
		}
		got, err := s.installed(kept, key, target.RegistryStr()).GetAuthConfig(key)
		if err != nil {
			return authn.AuthConfig{}, err
		}
		got.ServerAddress = "" // which is set for credentials that are not there, too
		if got != (types.AuthConfig{}) {
			return authn.AuthConfig{
				Username: got.Username, Password: got.Password, Auth: got.Auth, IdentityToken: got.IdentityToken, RegistryToken: got.RegistryToken,
			}, nil
		}
	}
	return authn.AuthConfig{}, nil
}

// installed is kept without the helper for key where that is not on PATH: what the file itself has still counts. Helpers are for whole
// registries, of which host is the one.
func (s *stored) installed(kept *configfile.ConfigFile, key, host string) *configfile.ConfigFile {
	helper, ok := kept.CredentialHelpers[key]
	if !ok {
		helper = kept.CredentialsStore
	}
	if helper == "" {
		return kept
	}
	program := "docker-credential-" + helper
	if _, err := exec.LookPath(program); err == nil || !errors.Is(err, exec.ErrNotFound) {
		return kept
	}
	if own := kept.CredentialHelpers[host]; own == "" || own == helper {
		s.warn(program, "warning: %s, which the Docker configuration names for %s, is not installed; looking on without it", program, host)
	}
	without := *kept
	without.CredentialsStore, without.CredentialHelpers = "", nil
	return &without
}

// Credentials are those for the registry of an image, for a program that asks for its host to pull it: a user with a password, or "" with
// an identity token. Another host gets none.
func (r *Repository) Credentials(ctx context.Context, image, host string) (user, secret string, err error) {
	ref, err := parseImage(image)
	if err != nil {
		return "", "", err
	}
	if host == "registry-1.docker.io" || host == "docker.io" {
		host = name.DefaultRegistry
	}
	if host != ref.Context().RegistryStr() {
		return "", "", nil
	}
	auth, err := authn.Resolve(ctx, r.keychain, ref.Context())
	if err != nil {
		return "", "", &keychainError{err}
	}
	config, err := authn.Authorization(ctx, auth)
	if err != nil {
		return "", "", &keychainError{err}
	}
	if config.IdentityToken != "" {
		return "", config.IdentityToken, nil
	}
	return config.Username, config.Password, nil
}
