//go:build e2e

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// registries are those of the docs' examples: to who asks through a proxy, the lab's own has their names.
type registries struct {
	names       []string
	proxy       *httptest.Server
	certificate []byte
}

// registries runs until the test ends. What is for others than these, the proxy leads there.
func (l *lab) registries(t *testing.T) *registries {
	t.Helper()
	const hub = "index.docker.io"
	r := &registries{names: []string{"registry.example.com", hub}}
	registry := httptest.NewUnstartedServer(&httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host = "http", l.Registry
			p.SetXForwarded() // the registry says by its name from outside where an upload goes on
			if p.In.Host == hub {
				p.Out.URL.Path = strings.Replace(p.In.URL.Path, "/v2/library/", "/v2/docker.io/library/", 1)
			}
		},
		ErrorLog: log.New(io.Discard, "", 0), // of requests that were given up
	})
	registry.TLS = &tls.Config{Certificates: []tls.Certificate{r.certify(t)}, MinVersion: tls.VersionTLS12}
	registry.StartTLS()
	t.Cleanup(registry.Close)
	r.proxy = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		r.connect(w, request, registry.Listener.Addr().String())
	}))
	t.Cleanup(r.proxy.Close)
	return r
}

// certify makes a certificate of the names, which is its own authority.
func (r *registries) certify(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "registries"}, DNSNames: r.names, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	r.certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// connect leads one connection to the registry, or to where it is for.
func (r *registries) connect(w http.ResponseWriter, request *http.Request, registry string) {
	there, err := r.dial(request, registry)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer func() { _ = there.Close() }()
	here, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = here.Close() }()
	go func() {
		_, _ = io.Copy(there, here) // whichever side ends ends the other
		_ = there.Close()
	}()
	_, _ = io.Copy(here, there)
}

// dial is a connection on which the answer to the request comes first.
func (r *registries) dial(request *http.Request, registry string) (net.Conn, error) {
	to, dialer := request.Host, &net.Dialer{}
	host, _, _ := strings.Cut(to, ":")
	if slices.Contains(r.names, host) {
		to = registry
	} else if proxy, err := http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: "https", Host: to}}); err != nil {
		return nil, err
	} else if proxy != nil { // this machine's, which answers by itself
		if password, ok := proxy.User.Password(); ok {
			request.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(proxy.User.Username()+":"+password)))
		}
		conn, err := dialer.DialContext(request.Context(), "tcp", proxy.Host)
		if err != nil {
			return nil, err
		}
		return conn, request.Write(conn)
	}
	conn, err := dialer.DialContext(request.Context(), "tcp", to)
	if err != nil {
		return nil, err
	}
	return &greeted{Conn: conn, greeting: strings.NewReader("HTTP/1.1 200 Connection established\r\n\r\n")}, nil
}

// greeted is a connection before whose first byte a greeting is read.
type greeted struct {
	net.Conn
	greeting *strings.Reader
}

func (g *greeted) Read(p []byte) (int, error) {
	if g.greeting.Len() > 0 {
		return g.greeting.Read(p)
	}
	return g.Conn.Read(p)
}

// known lets a user know them: by the proxy in the environment that is returned, and by the certificate beside Docker's files in HOME.
func (r *registries) known(t *testing.T, l *lab, home string) []string {
	t.Helper()
	for _, name := range r.names {
		dir := filepath.Join(home, ".docker/certs.d", name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "ca.crt"), r.certificate, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	server := strings.TrimPrefix(l.Server, "https://")
	host, _, err := net.SplitHostPort(server)
	if err != nil {
		t.Fatal(err)
	}
	return []string{"HTTPS_PROXY=" + r.proxy.URL, "https_proxy=" + r.proxy.URL, "NO_PROXY=127.0.0.1," + host, "no_proxy=127.0.0.1," + host}
}
