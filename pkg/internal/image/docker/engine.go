package docker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/cli/cli/connhelper"
	"github.com/docker/docker/client"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// endpoint is where an engine listens.
type endpoint struct {
	host string // unix:///var/run/docker.sock, tcp://…, ssh://…, npipe://…
	tls  string // directory with ca.pem, cert.pem and key.pem, or ""
	from string // what named it, in the user's words
}

// findEndpoint finds the engine as the docker command does: DOCKER_HOST with DOCKER_TLS_VERIFY and DOCKER_CERT_PATH, DOCKER_CONTEXT, the
// configuration's current context, the system's usual socket.
func findEndpoint(getenv func(string) string) (endpoint, error) {
	if host := getenv("DOCKER_HOST"); host != "" {
		e := endpoint{host: host, from: "DOCKER_HOST"}
		if getenv("DOCKER_TLS_VERIFY") != "" {
			e.tls = getenv("DOCKER_CERT_PATH")
			if e.tls == "" {
				e.tls = configDir(getenv)
			}
		}
		return e, nil
	}
	dir := configDir(getenv)
	name, from := getenv("DOCKER_CONTEXT"), "DOCKER_CONTEXT"
	if name == "" {
		var config struct{ CurrentContext string }
		text, err := os.ReadFile(filepath.Join(dir, "config.json")) //nolint:gosec // the user's own
		if err == nil {
			err = json.Unmarshal(text, &config)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return endpoint{}, fmt.Errorf("find the Docker engine: %s: %w", filepath.Join(dir, "config.json"), err)
		}
		name, from = config.CurrentContext, "the Docker context "+config.CurrentContext
	}
	if name == "" || name == "default" {
		return endpoint{host: client.DefaultDockerHost, from: "the usual place"}, nil
	}
	// As github.com/docker/cli/cli/context/store keeps them.
	sum := sha256.Sum256([]byte(name))
	id := hex.EncodeToString(sum[:])
	var meta struct {
		Endpoints map[string]struct{ Host string }
	}
	text, err := os.ReadFile(filepath.Join(dir, "contexts", "meta", id, "meta.json")) //nolint:gosec // below the user's configuration
	if err == nil {
		err = json.Unmarshal(text, &meta)
	}
	if err != nil || meta.Endpoints["docker"].Host == "" {
		return endpoint{}, &failure.Error{
			Class: failure.Diagnosed, Reason: "DockerContextUnknown", Message: fmt.Sprintf("there is no Docker context %q, which %s names", name, from),
			Hint: "see which there are: docker context ls", Err: err,
		}
	}
	e := endpoint{host: meta.Endpoints["docker"].Host, from: "the Docker context " + name}
	secrets := filepath.Join(dir, "contexts", "tls", id, "docker")
	if _, err := os.Stat(secrets); err == nil {
		e.tls = secrets
	}
	return e, nil
}

func configDir(getenv func(string) string) string {
	if dir := getenv("DOCKER_CONFIG"); dir != "" {
		return dir
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ".docker"
	}
	return filepath.Join(home, ".docker")
}

// open makes a client of the engine; it does not dial.
func (e endpoint) open() (*client.Client, error) {
	options := []client.Opt{client.WithAPIVersionNegotiation()}
	if helper, err := connhelper.GetConnectionHelper(e.host); err != nil {
		return nil, e.invalid(err)
	} else if helper != nil { // ssh://
		options = append(options, client.WithHTTPClient(&http.Client{Transport: &http.Transport{DialContext: helper.Dialer}}),
			client.WithHost(helper.Host), client.WithDialContext(helper.Dialer))
	} else {
		options = append(options, client.WithHost(e.host))
	}
	if e.tls != "" {
		options = append(options, client.WithTLSClientConfig(filepath.Join(e.tls, "ca.pem"), filepath.Join(e.tls, "cert.pem"), filepath.Join(e.tls, "key.pem")))
	}
	c, err := client.NewClientWithOpts(options...)
	if err != nil {
		return nil, e.invalid(err)
	}
	return c, nil
}

func (e endpoint) invalid(err error) error {
	return &failure.Error{
		Class: failure.Diagnosed, Reason: "DockerHostInvalid", Message: fmt.Sprintf("%s, which %s names, is no Docker engine's address", e.host, e.from),
		Hint: "mend DOCKER_HOST, or the Docker context", Err: err,
	}
}

// check tells whether the engine answers and has BuildKit.
func (e endpoint) check(ctx context.Context, c *client.Client) error {
	ping, err := c.Ping(ctx)
	if err != nil {
		return e.unreachable(ctx, err)
	}
	if ping.OSType == "windows" {
		return &failure.Error{
			Class: failure.Diagnosed, Reason: "DockerUnfit", Message: "the Docker engine makes Windows containers", Hint: "switch it to Linux containers",
		}
	}
	// Podman answers to the same protocol, without BuildKit.
	version, err := c.ServerVersion(ctx)
	if err != nil {
		return e.unreachable(ctx, err)
	}
	for _, component := range version.Components {
		if strings.Contains(component.Name, "Podman") {
			return &failure.Error{
				Class: failure.Diagnosed, Reason: "DockerUnfit", Message: fmt.Sprintf("at %s is Podman %s, which has no BuildKit", e.host, component.Version),
				Hint: "name a Docker engine in DOCKER_HOST, or build on a machine that has one",
			}
		}
	}
	return nil
}

func (e endpoint) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("ask the Docker engine: %w", ctx.Err())
	}
	failed := &failure.Error{
		Class: failure.Diagnosed, Reason: "DockerUnreachable", Message: fmt.Sprintf("no Docker engine answers at %s (%s)", e.host, e.from),
		Hint: "start Docker, or name another engine in DOCKER_HOST", Err: err,
	}
	if errors.Is(err, os.ErrPermission) || strings.Contains(err.Error(), "permission denied") {
		failed.Class, failed.Message = failure.Forbidden, "you may not use the Docker engine at "+e.host
		failed.Hint = "join the group docker, or name another engine in DOCKER_HOST"
	}
	return failed
}
