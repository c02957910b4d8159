package registry_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image/registry"
)

// docker makes a directory for Docker's configuration, with text in it where there is some, and names it in DOCKER_CONFIG.
func docker(t *testing.T, text string) (path string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "docker")
	t.Setenv("DOCKER_CONFIG", dir)
	t.Setenv("HOME", filepath.Dir(dir))
	path = filepath.Join(dir, "config.json")
	if text == "" {
		return path
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil { //nolint:gosec // as others may have left it
		t.Fatal(err)
	}
	return path
}

func content(t *testing.T, path string) (text string, fields map[string]any) {
	t.Helper()
	read, err := os.ReadFile(path) //nolint:gosec // the test's own
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(read, &fields); err != nil {
		t.Fatal(err)
	}
	return string(read), fields
}

// asStored tells as whom the registry's credentials are found afterwards.
func asStored(t *testing.T, host string) string {
	t.Helper()
	repo, err := name.NewRepository(host + "/models")
	if err != nil {
		t.Fatal(err)
	}
	auth, err := registry.Stored(os.Getenv).Resolve(repo)
	if err != nil {
		t.Fatal(err)
	}
	config, err := auth.Authorization()
	if err != nil {
		t.Fatal(err)
	}
	return config.Username + ":" + config.Password
}

func TestLogInKeepsWhatOthersWrote(t *testing.T) {
	const others = `{
	"auths": {"other.example.com": {"auth": "ZXZlOnMzY3JldA==", "email": "eve@example.com"}},
	"proxies": {"default": {"httpProxy": "http://proxy.example.com"}},
	"aFieldOfTomorrow": [1, 2.50, {"x": null}]
}`
	for _, bearer := range []bool{false, true} {
		host := private(t, bearer)
		path := docker(t, others)
		l, err := registry.LogIn(t.Context(), os.Getenv, host, "bob", "hunter2")
		if want := (registry.Login{Registry: host, Store: path, Plain: true, Checked: true}); err != nil || l != want {
			t.Fatalf("%+v, %v; want %+v", l, err, want)
		}
		if got := asStored(t, host); got != "bob:hunter2" {
			t.Errorf("stored as %q", got)
		}
		if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v: others can read the password", info.Mode(), err)
		}
		if l, err = registry.LogOut(os.Getenv, host); err != nil || l.Registry != host || l.Store != path {
			t.Errorf("%+v, %v", l, err)
		}
		_, got := content(t, path)
		var want map[string]any
		if err := json.Unmarshal([]byte(others), &want); err != nil {
			t.Fatal(err)
		}
		a, _ := json.Marshal(got)  //nolint:errchkjson // it was JSON
		b, _ := json.Marshal(want) //nolint:errchkjson // it is JSON
		if string(a) != string(b) {
			t.Errorf("after login and logout there is\n%s\nwant\n%s", a, b)
		}
		if _, err := registry.LogOut(os.Getenv, host); failure.ClassOf(err) != failure.Invalid {
			t.Errorf("logged out twice: %v", err)
		}
		entries, err := os.ReadDir(filepath.Dir(path))
		if err != nil || len(entries) != 1 {
			t.Errorf("left in the directory: %v, %v", entries, err)
		}
	}
}

func TestLogInStoresNothingThatIsNotAccepted(t *testing.T) {
	basic, bearer, public := private(t, false), private(t, true), serve(t).host
	for name, c := range map[string]struct {
		registry, user, password string
		config                   string
		class                    failure.Class
		says                     string
	}{
		"wrong password":               {basic, "bob", "old", "", failure.Forbidden, `as user "bob"`},
		"wrong password for a token":   {bearer, "bob", "old", "", failure.Forbidden, `as user "bob"`},
		"no password":                  {basic, "bob", "", "", failure.Invalid, "empty"},
		"no user":                      {basic, "", "hunter2", "", failure.Invalid, "empty"},
		"no registry":                  {"127.0.0.1:1", "bob", "hunter2", "", failure.Diagnosed, "nothing listens at 127.0.0.1:1"},
		"a URL":                        {"https://" + basic, "bob", "hunter2", "", failure.Invalid, "not a registry"},
		"a repository":                 {basic + "/models", "bob", "hunter2", "", failure.Invalid, "not a registry"},
		"nothing":                      {"", "bob", "hunter2", "", failure.Invalid, "not a registry"},
		"a configuration of no JSON":   {basic, "bob", "hunter2", "{", failure.Invalid, "not JSON"},
		"a configuration of one field": {public, "bob", "hunter2", `{"auths": []}`, failure.Invalid, "auths"},
	} {
		t.Run(name, func(t *testing.T) {
			path := docker(t, c.config)
			_, err := registry.LogIn(t.Context(), os.Getenv, c.registry, c.user, c.password)
			if failure.ClassOf(err) != c.class || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v", err)
			}
			if err != nil && c.password != "" && strings.Contains(err.Error(), c.password) {
				t.Errorf("the password is told: %v", err)
			}
			if text, err := os.ReadFile(path); string(text) != c.config { //nolint:gosec // the test's own
				t.Errorf("there is %q now, %v", text, err)
			}
		})
	}
}

// A registry that asks nobody who he is may still ask those who push.
func TestLogInWhereNobodyIsAsked(t *testing.T) {
	host := serve(t).host
	docker(t, "")
	l, err := registry.LogIn(t.Context(), os.Getenv, host, "bob", "hunter2")
	if err != nil || l.Checked || asStored(t, host) != "bob:hunter2" {
		t.Errorf("%+v, %v, stored as %q", l, err, asStored(t, host))
	}
}

func TestLogInLeavesPasswordsToAHelper(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the helper is a shell script")
	}
	host := private(t, false)
	for name, config := range map[string]string{
		"store":       `{"credsStore": "kept"}`,
		"own helper":  `{"credsStore": "gone", "credHelpers": {"` + host + `": "kept"}}`,
		"store fails": `{"credsStore": "broken"}`,
		"not there":   `{"credsStore": "gone"}`,
	} {
		t.Run(name, func(t *testing.T) {
			path := docker(t, config)
			bin := t.TempDir()
			kept := filepath.Join(bin, "kept.json")
			for program, script := range map[string]string{
				"docker-credential-kept":   "#!/bin/sh\ncase $1 in store) cat >'" + kept + "';; get) cat '" + kept + "';; erase) rm '" + kept + "';; esac\n",
				"docker-credential-broken": "#!/bin/sh\ncat >/dev/null\necho the keyring is locked\nexit 1\n",
			} {
				if err := os.WriteFile(filepath.Join(bin, program), []byte(script), 0o700); err != nil { //nolint:gosec // a program
					t.Fatal(err)
				}
			}
			t.Setenv("PATH", bin+string(filepath.ListSeparator)+os.Getenv("PATH"))
			l, err := registry.LogIn(t.Context(), os.Getenv, host, "bob", "hunter2")
			text, _ := content(t, path)
			switch name {
			case "store fails":
				if failure.ClassOf(err) != failure.Diagnosed || !strings.Contains(errText(err), "docker-credential-broken") || text != config {
					t.Errorf("%v; there is %s", err, text)
				}
				return
			case "not there":
				if err != nil || !l.Plain || asFile(t, path, host) == "" {
					t.Errorf("%+v, %v; there is %s", l, err, text)
				}
				return
			}
			if err != nil || l.Store != "docker-credential-kept" || l.Plain || asStored(t, host) != "bob:hunter2" || asFile(t, path, host) != "" {
				t.Errorf("%+v, %v, stored as %q; there is %s", l, err, asStored(t, host), text)
			}
			if _, err := registry.LogOut(os.Getenv, host); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(kept); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the helper keeps it still: %v", err)
			}
		})
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// asFile is what the configuration itself has for a registry.
func asFile(t *testing.T, path, host string) string {
	t.Helper()
	_, fields := content(t, path)
	auths, _ := fields["auths"].(map[string]any)
	entry, _ := auths[host].(map[string]any)
	auth, _ := entry["auth"].(string)
	return auth
}

func TestLogInWritesBehindALink(t *testing.T) {
	host := private(t, false)
	path := docker(t, "")
	behind := filepath.Join(t.TempDir(), "dotfiles.json")
	if err := os.WriteFile(behind, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(behind, path); err != nil {
		t.Skip(err)
	}
	if _, err := registry.LogIn(t.Context(), os.Getenv, host, "bob", "hunter2"); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v, %v", info.Mode(), err)
	}
	if asFile(t, behind, host) == "" {
		t.Error("what the link leads to has no credentials")
	}
}
