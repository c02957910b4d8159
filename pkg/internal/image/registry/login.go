package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	configstore "github.com/docker/cli/cli/config/credentials"
	"github.com/docker/docker-credential-helpers/client"
	"github.com/docker/docker-credential-helpers/credentials"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// Login is where credentials were stored, or removed from.
type Login struct {
	Registry string // host, with its port where it has one
	Store    string // a credential helper's program, or the path of Docker's configuration
	Plain    bool   // Store is a file, in which the password can be read
	Checked  bool   // the registry has accepted the credentials; one that asks nobody who he is accepts nothing
}

// LogIn asks a registry whether it takes username and password, and stores them as docker login does: in the credential helper that
// Docker's configuration names, else in the configuration itself, of which all else stays as it is. failure.Forbidden where the
// registry does not take them: nothing is stored then.
func LogIn(ctx context.Context, getenv func(string) string, registry, username, password string) (Login, error) {
	host, err := parseRegistry(registry)
	if err != nil {
		return Login{}, err
	}
	if username == "" || password == "" {
		return Login{}, &failure.Error{
			Class: failure.Invalid, Reason: "CredentialsMissing", Object: host.RegistryStr(), Message: "a user's name and a password are needed, and one of them is empty",
			Hint: "pass the password, or a token, on standard input: kubectl mlflow registry login " + host.RegistryStr() + " --username USER --password-stdin < FILE",
		}
	}
	checked, err := checkLogin(ctx, host, username, password)
	if err != nil {
		return Login{}, err
	}
	file, err := readConfiguration(getenv)
	if err != nil {
		return Login{}, err
	}
	l := Login{Registry: host.RegistryStr(), Checked: checked}
	key := keyOf(host)
	entry := map[string]string{}
	if l.Store = file.helper(key); l.Store != "" {
		creds := &credentials.Credentials{ServerURL: key, Username: username, Secret: password}
		if err := client.Store(client.NewShellProgramFunc(l.Store), creds); err != nil {
			return Login{}, helperFailed(l.Store, "store", key, err)
		}
	} else {
		l.Store, l.Plain = file.path, true
		entry["auth"] = base64.StdEncoding.EncodeToString([]byte(username + ":" + password))
	}
	if err := file.setAuth(key, entry); err != nil {
		return Login{}, err
	}
	return l, file.write()
}

// LogOut removes what is stored for a registry. failure.Invalid where there is nothing.
func LogOut(getenv func(string) string, registry string) (Login, error) {
	host, err := parseRegistry(registry)
	if err != nil {
		return Login{}, err
	}
	file, err := readConfiguration(getenv)
	if err != nil {
		return Login{}, err
	}
	l := Login{Registry: host.RegistryStr()}
	key := keyOf(host)
	had, err := file.removeAuth(key)
	if err != nil {
		return Login{}, err
	}
	if !had {
		return Login{}, &failure.Error{
			Class: failure.Invalid, Reason: "NotLoggedIn", Object: l.Registry, Message: "no credentials are stored in " + file.path,
			Hint: "credentials of Podman are removed by podman logout, those of a cloud's identity by the cloud's own program",
		}
	}
	if l.Store = file.helper(key); l.Store != "" {
		if err := client.Erase(client.NewShellProgramFunc(l.Store), key); err != nil {
			return Login{}, helperFailed(l.Store, "remove", key, err)
		}
	} else {
		l.Store, l.Plain = file.path, true
	}
	return l, file.write()
}

func parseRegistry(registry string) (name.Registry, error) {
	host, err := name.NewRegistry(registry)
	if err != nil || registry == "" || strings.ContainsAny(registry, "/@") {
		return name.Registry{}, &failure.Error{
			Class: failure.Invalid, Reason: "RegistryInvalid", Message: fmt.Sprintf("%q is not a registry", registry),
			Hint: "name its host, without scheme and path: registry.example.com or registry.example.com:5000",
		}
	}
	return host, nil
}

// keyOf is the name of a registry in Docker's configuration.
func keyOf(host name.Registry) string {
	if host.RegistryStr() == name.DefaultRegistry {
		return authn.DefaultAuthKey
	}
	return host.RegistryStr()
}

// checkLogin tells whether the registry has asked for credentials, and taken these.
func checkLogin(ctx context.Context, host name.Registry, username, password string) (checked bool, err error) {
	what := "cannot log in to " + host.RegistryStr()
	base := usualTransport()
	fail := func(err error) error {
		e, ok := errors.AsType[*transport.Error](err)
		if !ok || e.StatusCode != http.StatusUnauthorized && e.StatusCode != http.StatusForbidden {
			return explain(ctx, err, what, host.Repo("login"), authn.NewMultiKeychain())
		}
		return &failure.Error{
			Class: failure.Forbidden, Reason: "RegistryUnauthorized", Message: fmt.Sprintf("%s as user %q: it does not accept the password", what, username),
			Hint: "many registries want a token in place of the account's password; nothing was stored", Err: err,
		}
	}
	asked, err := transport.Ping(ctx, host, base)
	if err != nil {
		return false, fail(err)
	}
	// A registry's own token service hands out a token for no scope at all.
	authorized, err := transport.NewWithContext(ctx, host, &authn.Basic{Username: username, Password: password}, transport.NewUserAgent(base, userAgent), nil)
	if err != nil {
		return false, fail(err)
	}
	resp, err := send(ctx, &http.Client{Transport: authorized}, http.MethodGet, fmt.Sprintf("%s://%s/v2/", host.Scheme(), host.RegistryStr()))
	if err != nil {
		return false, fail(err)
	}
	defer func() { _ = resp.Body.Close() }() // it was read
	if err := transport.CheckError(resp, http.StatusOK); err != nil {
		return false, fail(err)
	}
	return asked.Scheme != "", nil
}

func helperFailed(program, verb, key string, err error) error {
	return &failure.Error{
		Class: failure.Diagnosed, Reason: "CredentialHelperFailed", Message: fmt.Sprintf("%s cannot %s the credentials of %s", program, verb, key),
		Hint: "try it by hand: " + program + " list; without it in the Docker configuration (credsStore, credHelpers) they are kept in the file itself", Err: err,
	}
}

// configuration is Docker's config.json with all fields that others have written.
type configuration struct {
	path   string
	fields map[string]json.RawMessage
	fresh  bool // there was no file
}

func readConfiguration(getenv func(string) string) (*configuration, error) {
	dir := getenv("DOCKER_CONFIG")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, fmt.Errorf("find the Docker configuration: %w", err)
		}
		dir = filepath.Join(home, ".docker")
	}
	c := &configuration{path: filepath.Join(dir, "config.json"), fields: map[string]json.RawMessage{}}
	if behind, err := filepath.EvalSymlinks(c.path); err == nil { // what it leads to is written, and the link stays
		c.path = behind
	}
	text, err := os.ReadFile(c.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.fresh = true
		return c, nil
	case err != nil:
		return nil, c.bad("it cannot be read", err)
	}
	if len(strings.TrimSpace(string(text))) == 0 {
		return c, nil
	}
	if err := json.Unmarshal(text, &c.fields); err != nil {
		return nil, c.bad("it is not JSON", err)
	}
	return c, nil
}

func (c *configuration) bad(message string, err error) error {
	return &failure.Error{Class: failure.Invalid, Reason: "DockerConfigurationInvalid", Object: c.path, Message: message, Hint: "mend it, or name another directory in DOCKER_CONFIG", Err: err}
}

// helper is the program that keeps the credentials for key, "" for the file itself. One that is not installed keeps none.
func (c *configuration) helper(key string) string {
	var helpers map[string]string
	var store string
	// Docker ignores what has another form, too.
	_ = json.Unmarshal(c.fields["credHelpers"], &helpers)
	_ = json.Unmarshal(c.fields["credsStore"], &store)
	if own, ok := helpers[key]; ok {
		store = own
	} else if c.fresh {
		store = configstore.DetectDefaultStore("")
	}
	if store == "" {
		return ""
	}
	program := "docker-credential-" + store
	if _, err := exec.LookPath(program); err != nil {
		return ""
	}
	return program
}

// auths are the entries, each with all its fields.
func (c *configuration) auths() (map[string]json.RawMessage, error) {
	auths := map[string]json.RawMessage{}
	if raw, ok := c.fields["auths"]; ok {
		if err := json.Unmarshal(raw, &auths); err != nil {
			return nil, c.bad(`its field "auths" is not an object`, err)
		}
	}
	if auths == nil { // of a null
		auths = map[string]json.RawMessage{}
	}
	return auths, nil
}

func (c *configuration) setAuth(key string, entry map[string]string) error {
	auths, err := c.auths()
	if err != nil {
		return err
	}
	if auths[key], err = json.Marshal(entry); err != nil {
		return err
	}
	c.fields["auths"], err = json.Marshal(auths)
	return err
}

func (c *configuration) removeAuth(key string) (had bool, err error) {
	auths, err := c.auths()
	if err != nil {
		return false, err
	}
	if _, had = auths[key]; !had {
		return false, nil
	}
	delete(auths, key)
	c.fields["auths"], err = json.Marshal(auths)
	return true, err
}

// write replaces the file in one step: who reads it finds the old one or the new one.
func (c *configuration) write() (err error) {
	text, err := json.MarshalIndent(c.fields, "", "\t")
	if err != nil {
		return fmt.Errorf("%s: %w", c.path, err)
	}
	if err := os.MkdirAll(filepath.Dir(c.path), 0o700); err != nil {
		return fmt.Errorf("make the directory of the Docker configuration: %w", err)
	}
	next, err := os.CreateTemp(filepath.Dir(c.path), ".config.json-*") // readable by its owner alone
	if err != nil {
		return fmt.Errorf("write the Docker configuration: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("write the Docker configuration: %w", errors.Join(err, os.Remove(next.Name())))
		}
	}()
	_, err = next.Write(append(text, '\n'))
	if err = errors.Join(err, next.Sync(), next.Close()); err != nil {
		return err
	}
	return os.Rename(next.Name(), c.path)
}
