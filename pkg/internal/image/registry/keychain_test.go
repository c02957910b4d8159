package registry

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

func TestStoredCredentials(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the helper is a shell script")
	}
	const bob, eve = `{"auths": {"registry.example.com": {"auth": "Ym9iOmh1bnRlcjI="}}}`, `{"auths": {"registry.example.com": {"auth": "ZXZlOnMzY3JldA=="}}}`
	for name, c := range map[string]struct {
		docker, file, podman string // configurations
		want                 string // the user's name
		says, fails          string
	}{
		"none":                             {},
		"Docker's":                         {docker: bob, file: eve, podman: eve, want: "bob"},
		"Podman's":                         {podman: bob, want: "bob"},
		"a file's of Podman":               {file: bob, podman: eve, want: "bob"},
		"Podman's, as Docker has others":   {docker: `{"auths": {"other.example.com": {"auth": "ZXZlOnMzY3JldA=="}}}`, podman: bob, want: "bob"},
		"a helper's":                       {docker: `{"credsStore": "there"}`, want: "helped"},
		"a helper's for one registry":      {docker: `{"credsStore": "gone", "credHelpers": {"registry.example.com": "there"}}`, want: "helped"},
		"without a store that is gone":     {docker: `{"credsStore": "gone", ` + bob[1:], want: "bob", says: "docker-credential-gone"},
		"without a helper that is gone":    {docker: `{"credHelpers": {"registry.example.com": "gone"}}`, podman: bob, want: "bob", says: "docker-credential-gone"},
		"no more than a helper that fails": {docker: `{"credsStore": "broken"}`, podman: bob, fails: "the keyring is locked"},
		"no configuration":                 {docker: `{`, podman: bob, fails: "config.json"},
	} {
		t.Run(name, func(t *testing.T) {
			home := t.TempDir()
			write := func(path, text string, mode os.FileMode) string {
				path = filepath.Join(home, path)
				if text == "" {
					return path
				}
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), mode); err != nil {
					t.Fatal(err)
				}
				return path
			}
			write("bin/docker-credential-there", "#!/bin/sh\ncat >/dev/null\necho '{\"Username\": \"helped\", \"Secret\": \"s3cret\"}'\n", 0o700)
			write("bin/docker-credential-broken", "#!/bin/sh\necho the keyring is locked\nexit 1\n", 0o700)
			t.Setenv("PATH", filepath.Join(home, "bin")+string(filepath.ListSeparator)+os.Getenv("PATH"))
			docker := write("docker/config.json", c.docker, 0o600)
			variables := map[string]string{"DOCKER_CONFIG": filepath.Dir(docker), "XDG_RUNTIME_DIR": filepath.Join(home, "run"), "XDG_CONFIG_HOME": filepath.Join(home, "config")}
			write("config/containers/auth.json", c.podman, 0o600)
			if c.file != "" {
				variables["REGISTRY_AUTH_FILE"] = write("auth-file.json", c.file, 0o600)
			}
			var said []string
			s := &stored{getenv: func(name string) string { return variables[name] }, say: func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }}
			user := func() (string, error) {
				auth, err := s.Resolve(repositoryNamed(t, "registry.example.com/team/models"))
				if err != nil {
					return "", err
				}
				config, err := authn.Authorization(t.Context(), auth)
				if err != nil {
					return "", err
				}
				return config.Username, nil
			}
			for range 2 { // a warning is said once
				got, err := user()
				if got != c.want || (err != nil) != (c.fails != "") || err != nil && !strings.Contains(err.Error(), c.fails) {
					t.Errorf("%q, %v; want %q, %q", got, err, c.want, c.fails)
				}
			}
			if text := strings.Join(said, "|"); !strings.Contains(text, c.says) || c.says == "" && text != "" || len(said) > 1 {
				t.Errorf("said %q", said)
			}
		})
	}
}

func repositoryNamed(t *testing.T, text string) name.Repository {
	t.Helper()
	repository, err := name.NewRepository(text)
	if err != nil {
		t.Fatal(err)
	}
	return repository
}
