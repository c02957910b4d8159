package cluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/node"
)

// client asks the API server as its administrator.
type client struct {
	server string
	http   *http.Client
	// kubectl and its kubeconfig are for what is applied.
	kubectl    string
	kubeconfig string
}

func (l Layout) client(server, bin string) (*client, error) {
	ca, err := os.ReadFile(l.pki("ca.crt"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s holds no certificate", l.pki("ca.crt"))
	}
	pair, err := tls.LoadX509KeyPair(l.pki("admin.crt"), l.pki("admin.key"))
	if err != nil {
		return nil, err
	}
	return &client{
		server: server,
		http: &http.Client{
			Timeout: 15 * time.Second,
			Transport: &http.Transport{TLSClientConfig: &tls.Config{
				MinVersion: tls.VersionTLS12, RootCAs: pool, Certificates: []tls.Certificate{pair},
			}},
		},
		kubectl:    filepath.Join(bin, "kubectl"),
		kubeconfig: l.Kubeconfig(),
	}, nil
}

// do sends a body (none when nil) and decodes the answer into out (ignored when nil).
func (c *client) do(ctx context.Context, method, path, contentType string, body []byte, out any) (err error) {
	req, err := http.NewRequestWithContext(ctx, method, c.server+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= http.StatusMultipleChoices {
		var status struct{ Message string }
		if json.Unmarshal(text, &status) != nil || status.Message == "" {
			status.Message = strings.TrimSpace(string(text))
		}
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, status.Message)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}

func (c *client) get(ctx context.Context, path string, out any) error {
	return c.do(ctx, http.MethodGet, path, "", nil, out)
}

// apply sends manifests through kubectl, server-side, and again where the API server went away meanwhile: the supervisor
// starts it anew. What kubectl says goes to the log.
func (c *client) apply(ctx context.Context, manifests []byte, log string) error {
	for attempt := 1; ; attempt++ {
		err := c.applyOnce(ctx, manifests, log)
		if err == nil || attempt == applyAttempts || !node.Wait(ctx, 2*time.Second) {
			return err
		}
	}
}

const applyAttempts = 3

func (c *client) applyOnce(ctx context.Context, manifests []byte, log string) error {
	// Without validation, which the API server does anyway: for it kubectl reads the OpenAPI document, and an API server
	// that is asked for it while resources are added dies of a race (kubernetes/kubernetes issue 120758) now and then.
	// #nosec G204 -- the lab's own kubectl
	cmd := exec.CommandContext(ctx, c.kubectl, "--kubeconfig="+c.kubeconfig, "apply",
		"--server-side", "--force-conflicts", "--field-manager=lab", "--validate=false", "-f", "-")
	cmd.Env = environment(filepath.Dir(c.kubectl), filepath.Dir(log))
	cmd.Stdin = bytes.NewReader(manifests)
	out, err := cmd.CombinedOutput()
	if err == nil {
		return os.WriteFile(log, out, 0o600)
	}
	return errors.Join(&LogError{Log: log, Err: fmt.Errorf("kubectl apply: %w", err)}, os.WriteFile(log, out, 0o600))
}

// LogError is a failure whose cause is told by a log.
type LogError struct {
	Log string
	Err error
}

func (e *LogError) Error() string {
	return fmt.Sprintf("%v\n--- end of %s\n%s\n---", e.Err, e.Log, tail(e.Log, 15))
}

// Unwrap returns the failure itself.
func (e *LogError) Unwrap() error { return e.Err }
