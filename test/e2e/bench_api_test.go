//go:build e2e && bench

package e2e

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
	"path/filepath"
	"strings"
	"testing"
)

// apiServer is one of the test's own, without nodes, and a client that does nothing that it need not.
type apiServer struct {
	*lab   // with its kubeconfig
	url    string
	client *http.Client
}

// newAPIServer boots it, with Knative's definitions.
func newAPIServer(t *testing.T, l *lab) *apiServer {
	t.Helper()
	bin := func(verb string) string {
		t.Helper()
		r := l.run(t, nil, filepath.Join(l.root, "bin/lab"), verb, "--profile", "api", "--name", "bench")
		if r.code != 0 {
			t.Fatalf("bin/lab %s: exit %d", verb, r.code)
		}
		return strings.TrimSpace(r.stdout)
	}
	bin("up")
	t.Cleanup(func() { bin("down") })
	own := *l
	own.Kubeconfig = bin("kubeconfig")
	a := &apiServer{lab: &own}
	a.connect(t)
	module := strings.TrimSpace(a.run(t, nil, "go", "list", "-m", "-f", "{{.Dir}}", "knative.dev/serving").stdout)
	for _, kind := range []string{"Service", "Revision"} {
		name := strings.ToLower(kind)
		a.kubectl(t, "apply", "--server-side", "-f", filepath.Join(module, "config/core/300-resources", name+".yaml"))
		for _, state := range []string{"jsonpath={.status.acceptedNames.kind}=" + kind, "condition=Established"} { // before, the conditions are null
			a.kubectl(t, "wait", "--for="+state, "crd", name+"s.serving.knative.dev")
		}
		a.kubectl(t, "get", "--raw", "/apis/serving.knative.dev/v1/"+name+"s?watch=true&timeoutSeconds=1") // at first it is told to try again
	}
	return a
}

// connect reads the kubeconfig.
func (a *apiServer) connect(t *testing.T) {
	t.Helper()
	var config struct {
		Clusters []struct {
			Cluster struct {
				Server string
				CA     []byte `json:"certificate-authority-data"`
			}
		}
		Users []struct {
			User struct {
				Certificate []byte `json:"client-certificate-data"`
				Key         []byte `json:"client-key-data"`
			}
		}
	}
	text, err := a.command(t.Context(), nil, a.Kubectl, "config", "view", "--raw", "--minify", "--flatten", "-o", "json").Output()
	if err == nil {
		err = json.Unmarshal(text, &config)
	}
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := tls.X509KeyPair(config.Users[0].User.Certificate, config.Users[0].User.Key)
	if err != nil {
		t.Fatal(err)
	}
	authorities := x509.NewCertPool()
	authorities.AppendCertsFromPEM(config.Clusters[0].Cluster.CA)
	a.url = config.Clusters[0].Cluster.Server
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{Certificates: []tls.Certificate{certificate}, RootCAs: authorities, MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2: true,
	}
	a.client = &http.Client{Transport: transport}
	t.Cleanup(transport.CloseIdleConnections)
}

func (a *apiServer) create(ctx context.Context, path string, body any) error {
	return a.send(ctx, http.MethodPost, path, body, nil)
}

// get reads into a value, or, where it is nil, to the end.
func (a *apiServer) get(ctx context.Context, path string, into any) error {
	return a.send(ctx, http.MethodGet, path, nil, into)
}

func (a *apiServer) send(ctx context.Context, method, path string, body, into any) error {
	response, err := a.request(ctx, method, path, body)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return err
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(text, into)
}

// request returns an answer that is none of an error.
func (a *apiServer) request(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var text bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&text).Encode(body); err != nil {
			return nil, err
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, a.url+path, &text)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	if method == http.MethodPatch {
		request.Header.Set("Content-Type", "application/merge-patch+json")
	}
	response, err := a.client.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode >= http.StatusBadRequest {
		text, err := io.ReadAll(response.Body)
		return nil, errors.Join(fmt.Errorf("%s %s: %s: %s", method, path, response.Status, text), err, response.Body.Close())
	}
	return response, nil
}

// watch has f see each object of a collection, and all that becomes of it, until ctx ends.
func (a *apiServer) watch(ctx context.Context, path string, f func(object) error) error {
	response, err := a.request(ctx, http.MethodGet, path+"?watch=true", nil)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	for events := json.NewDecoder(response.Body); ; {
		var event struct{ Object object }
		if err := events.Decode(&event); err != nil {
			return err
		}
		if err := f(event.Object); err != nil {
			return err
		}
	}
}
