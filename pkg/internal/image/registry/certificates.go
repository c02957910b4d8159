package registry

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// certified asks each registry with the certificates that Docker and Podman keep for it: in a directory named as its host are authorities
// (*.crt) to trust beside the system's, and pairs of client certificate and key (*.cert, *.key).
// See https://docs.docker.com/engine/security/certificates.
type certified struct {
	base *http.Transport
	dirs []string

	mu  sync.Mutex
	own map[string]http.RoundTripper // by host
}

// RoundTrip implements http.RoundTripper.
func (c *certified) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" {
		return c.base.RoundTrip(req)
	}
	rt, err := c.of(req.URL.Host)
	if err != nil {
		return nil, err
	}
	return rt.RoundTrip(req)
}

// of is the transport for a host; one that could not be made is not kept.
func (c *certified) of(host string) (http.RoundTripper, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if rt, ok := c.own[host]; ok {
		return rt, nil
	}
	config, err := tlsFor(host, c.dirs)
	if err != nil {
		return nil, err
	}
	var rt http.RoundTripper = c.base
	if config != nil {
		own := c.base.Clone()
		own.TLSClientConfig = config
		rt = own
	}
	if c.own == nil {
		c.own = map[string]http.RoundTripper{}
	}
	c.own[host] = rt
	return rt, nil
}

// tlsFor reads what dirs have for a host, nil where there is nothing.
func tlsFor(host string, dirs []string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	some := false
	for _, dir := range dirs {
		dir = filepath.Join(dir, directoryOf(host))
		entries, err := os.ReadDir(dir)
		if err != nil {
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			return nil, badCertificates(dir, "it cannot be read", err)
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			switch filepath.Ext(path) {
			case ".crt":
				if config.RootCAs, err = trust(config.RootCAs, path); err != nil {
					return nil, err
				}
			case ".cert":
				pair, err := tls.LoadX509KeyPair(path, strings.TrimSuffix(path, ".cert")+".key")
				if err != nil {
					return nil, badCertificates(path, "it is no certificate with a key of the same name beside it", err)
				}
				config.Certificates = append(config.Certificates, pair)
			default:
				continue
			}
			some = true
		}
	}
	if !some {
		return nil, nil
	}
	return config, nil
}

// trust adds the authorities in a file to pool, or to the system's where pool is nil.
func trust(pool *x509.CertPool, path string) (*x509.CertPool, error) {
	text, err := os.ReadFile(path) //nolint:gosec // in a directory of the machine's administrator or of the user
	if err != nil {
		return nil, badCertificates(path, "it cannot be read", err)
	}
	if pool == nil {
		if pool, err = x509.SystemCertPool(); err != nil {
			pool = x509.NewCertPool()
		}
	}
	if !pool.AppendCertsFromPEM(text) {
		return nil, badCertificates(path, "there is no certificate in it", nil)
	}
	return pool, nil
}

func badCertificates(path, message string, err error) error {
	return &failure.Error{
		Class: failure.Invalid, Reason: "RegistryCertificatesInvalid", Object: path, Message: message, Err: err,
		Hint: "a registry's directory has authorities as NAME.crt, and client certificates as NAME.cert with NAME.key, all in PEM",
	}
}

// directoryOf is the directory's name of a host, in which Windows has no colons.
func directoryOf(host string) string {
	if runtime.GOOS == "windows" {
		return strings.ReplaceAll(host, ":", "")
	}
	return host
}

// certificateDirs are where Docker, rootless Docker, Docker Desktop and Podman look, the user's own first.
func certificateDirs(getenv func(string) string) []string {
	var dirs []string
	if config := getenv("XDG_CONFIG_HOME"); config != "" {
		dirs = append(dirs, filepath.Join(config, "docker", "certs.d"), filepath.Join(config, "containers", "certs.d"))
	}
	if home, err := os.UserHomeDir(); err == nil {
		dirs = append(dirs, filepath.Join(home, ".docker", "certs.d"))
		if getenv("XDG_CONFIG_HOME") == "" {
			dirs = append(dirs, filepath.Join(home, ".config", "docker", "certs.d"), filepath.Join(home, ".config", "containers", "certs.d"))
		}
	}
	if runtime.GOOS == "windows" {
		return append(dirs, filepath.Join(getenv("ProgramData"), "docker", "certs.d"))
	}
	return append(dirs, "/etc/docker/certs.d", "/etc/containers/certs.d")
}

// certificatesFor is the file that a user would write for a host.
func certificatesFor(host string) string {
	return fmt.Sprintf("~/.docker/certs.d/%s/ca.crt", directoryOf(host))
}
