package tracking

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

func TestWhatGoesToWhichServer(t *testing.T) {
	basic := Credentials{Username: "u", Password: "p", Token: "t"}
	const server = "https://mlflow.example.com"
	for name, c := range map[string]struct {
		server, asked string
		cred          Credentials
		want          string
		elsewhere     bool
	}{
		"basic wins":        {server, server + "/api", basic, "Basic dTpw", false},
		"token":             {server, server + "/api", Credentials{Token: "t"}, "Bearer t", false},
		"half of basic":     {server, server + "/api", Credentials{Username: "u"}, "", false},
		"half and a token":  {server, server + "/api", Credentials{Username: "u", Token: "t"}, "Bearer t", false},
		"the URL's own win": {"https://a:b@mlflow.example.com", "https://a:b@mlflow.example.com/api", basic, "of the URL", false},
		"port written out":  {server, "https://MLflow.example.com:443/api", basic, "Basic dTpw", false},
		"another host":      {server, "https://example.com/api", basic, "", true},
		"another port":      {server, "https://mlflow.example.com:8443/api", basic, "", true},
		"another scheme":    {server, "http://mlflow.example.com/api", basic, "", true},
		"a longer hostname": {server, "https://mlflow.example.com.evil.example/api", basic, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			at, err := url.Parse(c.server)
			if err != nil {
				t.Fatal(err)
			}
			var got http.Header
			seen := tripper(func(r *http.Request) (*http.Response, error) {
				got = r.Header
				return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
			})
			way, err := Settings{Credentials: c.cred, Workspace: "team-a"}.Transport(&http.Transport{}, at)
			if err != nil {
				t.Fatal(err)
			}
			way.own, way.others = seen, seen
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.asked, nil)
			if err != nil {
				t.Fatal(err)
			}
			if req.URL.User != nil {
				req.Header.Set("Authorization", "of the URL") // as http.Client does
			}
			before := req.Header.Clone()
			resp, err := way.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			if err := resp.Body.Close(); err != nil {
				t.Error(err)
			}
			workspace := "team-a"
			if c.elsewhere {
				workspace = ""
			}
			if got.Get("Authorization") != c.want || got.Get("X-MLFLOW-WORKSPACE") != workspace {
				t.Errorf("it got %v; want %q and workspace %q", got, c.want, workspace)
			}
			if fmt.Sprint(req.Header) != fmt.Sprint(before) {
				t.Errorf("the caller's request has %v", req.Header)
			}
		})
	}
}

// authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	a := &authority{t: t}
	a.cert, a.key = a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

// sign signs with a's key, and what comes before it has one with its own.
func (a *authority) sign(template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

// pem is the authority's certificate.
func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// pair is a certificate for name, with its key, in one PEM text.
func (a *authority) pair(name string, usage x509.ExtKeyUsage) []byte {
	a.t.Helper()
	template := &x509.Certificate{Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{usage}, DNSNames: []string{name}}
	if ip := net.ParseIP(name); ip != nil {
		template.DNSNames, template.IPAddresses = nil, []net.IP{ip}
	}
	cert, key := a.sign(template)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
}

// secured is a server with a certificate of a. It notes who came: the client certificate's name, credentials and workspace.
type secured struct {
	*httptest.Server
	mu   sync.Mutex
	came []string
}

// newSecured asks for client certificates as asks says, of clients' authority.
func newSecured(t *testing.T, a *authority, name string, asks tls.ClientAuthType, clients *authority, then http.Handler) *secured {
	t.Helper()
	pair := a.pair(name, x509.ExtKeyUsageServerAuth)
	cert, err := tls.X509KeyPair(pair, pair)
	if err != nil {
		t.Fatal(err)
	}
	s := &secured{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who := "nobody"
		if len(r.TLS.PeerCertificates) > 0 {
			who = r.TLS.PeerCertificates[0].Subject.CommonName
		}
		s.mu.Lock()
		s.came = append(s.came, strings.Join([]string{who, r.Header.Get("Authorization"), r.Header.Get("X-MLFLOW-WORKSPACE")}, "|"))
		s.mu.Unlock()
		then.ServeHTTP(w, r)
	}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: asks, MinVersion: tls.VersionTLS12}
	if clients != nil {
		s.TLS.ClientCAs = x509.NewCertPool()
		s.TLS.ClientCAs.AddCert(clients.cert)
	}
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are what the tests are about
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// visitors is who came so far.
func (s *secured) visitors() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.came)
}

// write is a file with content, in a directory of its own.
func write(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// secureClient is a client by s of the server at address.
func secureClient(t *testing.T, s Settings, address string, base *http.Transport) (*Client, error) {
	t.Helper()
	c := clientOf(t, address)
	way, err := s.Transport(base, c.server)
	if err != nil {
		return nil, err
	}
	t.Cleanup(way.CloseIdleConnections)
	c.http.Transport = way
	return c, nil
}

// empty answers as an MLflow without experiments does.
func empty(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }

func TestServersWithCertificates(t *testing.T) {
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	bundle := write(t, "ca.pem", append(theirs.pem(), ours.pem()...))
	directory := filepath.Dir(write(t, "0a1b2c3d.0", ours.pem()))
	if err := os.WriteFile(filepath.Join(directory, "README"), []byte("not a certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(directory, "old"), 0o700); err != nil {
		t.Fatal(err)
	}
	alice := write(t, "alice.pem", ours.pair("alice", x509.ExtKeyUsageClientAuth))
	mallory := write(t, "mallory.pem", theirs.pair("mallory", x509.ExtKeyUsageClientAuth))
	for name, c := range map[string]struct {
		settings Settings
		name     string // in the server's certificate; "" is its address
		asks     tls.ClientAuthType
		who      string
		reason   string // of the failure
		hint     string
	}{
		"unknown authority":     {Settings{}, "", tls.NoClientCert, "", "TrackingServerUntrusted", "MLFLOW_TRACKING_SERVER_CERT_PATH"},
		"bundle":                {Settings{ServerCert: bundle}, "", tls.NoClientCert, "nobody", "", ""},
		"directory":             {Settings{ServerCert: directory}, "", tls.NoClientCert, "nobody", "", ""},
		"another authority":     {Settings{ServerCert: write(t, "ca.pem", theirs.pem())}, "", tls.NoClientCert, "", "TrackingServerUntrusted", "MLFLOW_TRACKING_SERVER_CERT_PATH"},
		"another name":          {Settings{ServerCert: bundle}, "mlflow.example.com", tls.NoClientCert, "", "TrackingServerUntrusted", "MLFLOW_TRACKING_URI"},
		"insecure":              {Settings{Insecure: true}, "mlflow.example.com", tls.NoClientCert, "nobody", "", ""},
		"client certificate":    {Settings{ServerCert: bundle, ClientCert: alice}, "", tls.RequireAndVerifyClientCert, "alice", "", ""},
		"insecure, with client": {Settings{Insecure: true, ClientCert: alice}, "", tls.RequireAndVerifyClientCert, "alice", "", ""},
		"none, and one is due":  {Settings{ServerCert: bundle}, "", tls.RequireAndVerifyClientCert, "", "ClientCertificateDenied", "MLFLOW_TRACKING_CLIENT_CERT_PATH"},
		"a wrong one":           {Settings{ServerCert: bundle, ClientCert: mallory}, "", tls.RequireAndVerifyClientCert, "", "ClientCertificateDenied", "MLFLOW_TRACKING_CLIENT_CERT_PATH"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.name == "" {
				c.name = "127.0.0.1"
			}
			server := newSecured(t, ours, c.name, c.asks, ours, http.HandlerFunc(empty))
			client, err := secureClient(t, c.settings, server.URL, &http.Transport{})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			client.policy.backoff, client.policy.longest = time.Hour, time.Hour // what certificates say is said at once
			err = client.Probe(ctx)
			if c.reason == "" {
				if got := server.visitors(); err != nil || len(got) != 1 || got[0] != c.who+"||" {
					t.Errorf("%q came; %v", got, err)
				}
				return
			}
			e, ok := errors.AsType[*failure.Error](err)
			if !ok || e.Reason != c.reason || !strings.Contains(e.Hint, c.hint) || len(server.visitors()) != 0 {
				t.Errorf("%q came; error = %v (%+v)", server.visitors(), err, e)
			}
		})
	}
}

// asyncio's servers, and so MLflow's own with TLS, end the connection without an alert.
func TestServerThatHangsUpForWantOfACertificate(t *testing.T) {
	ours := newAuthority(t, "ours")
	for asks, hint := range map[tls.ClientAuthType]string{
		tls.RequestClientCert: "it asks for a client certificate: set MLFLOW_TRACKING_CLIENT_CERT_PATH",
		tls.NoClientCert:      "",
	} {
		server := newSecured(t, ours, "127.0.0.1", asks, ours, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
		client, err := secureClient(t, Settings{ServerCert: write(t, "ca.pem", ours.pem())}, server.URL, &http.Transport{})
		if err != nil {
			t.Fatal(err)
		}
		e, ok := errors.AsType[*failure.Error](client.Probe(t.Context()))
		if !ok || e.Reason != "TrackingServerUnreachable" || !strings.HasPrefix(e.Hint, hint) || hint == "" && e.Hint != "" {
			t.Errorf("%s: %+v", asks, e)
		}
	}
}

func TestWorkspaceThatDoesNotExist(t *testing.T) {
	rec, c := newRecorded(t)
	rec.answering("/api/2.0/mlflow/model-versions/get", http.StatusNotFound, `{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "Workspace 'nobody' not found"}`)
	_, err := c.Resolve(t.Context(), URI{Scheme: schemeModels, Name: "iris", Version: "1"})
	if failure.ClassOf(err) != failure.Invalid || !strings.Contains(err.Error(), "Workspace 'nobody' not found") {
		t.Errorf("error = %v", err)
	}
}

func TestCertificatesThatAreNone(t *testing.T) {
	ours := newAuthority(t, "ours")
	pair := ours.pair("alice", x509.ExtKeyUsageClientAuth)
	key, cert, _ := bytes.Cut(pair, []byte("-----BEGIN CERTIFICATE"))
	cert = append([]byte("-----BEGIN CERTIFICATE"), cert...)
	_, other, _ := bytes.Cut(ours.pair("bob", x509.ExtKeyUsageClientAuth), []byte("-----BEGIN CERTIFICATE"))
	other = append([]byte("-----BEGIN CERTIFICATE"), other...)
	locked := append(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("s3cret")}), cert...)
	missing, none := filepath.Join(t.TempDir(), "missing.pem"), t.TempDir()
	for name, c := range map[string]struct {
		settings              Settings
		path, message, advice string
	}{
		"no bundle":             {Settings{ServerCert: missing}, "MLFLOW_TRACKING_SERVER_CERT_PATH=" + missing, "it cannot be read", "PEM file"},
		"bundle of nothing":     {Settings{ServerCert: write(t, "s3cret", []byte("s3cret"))}, "MLFLOW_TRACKING_SERVER_CERT_PATH=", "there is no certificate in it", "PEM file"},
		"empty directory":       {Settings{ServerCert: none}, "MLFLOW_TRACKING_SERVER_CERT_PATH=" + none, "there is no certificate in it", "directory"},
		"no client certificate": {Settings{ClientCert: missing}, "MLFLOW_TRACKING_CLIENT_CERT_PATH=" + missing, "it cannot be read", "PEM file"},
		"client's directory":    {Settings{ClientCert: none}, "MLFLOW_TRACKING_CLIENT_CERT_PATH=" + none, "it cannot be read", "PEM file"},
		"without key":           {Settings{ClientCert: write(t, "c.pem", cert)}, "MLFLOW_TRACKING_CLIENT_CERT_PATH=", "it is no certificate with its key", "client.key"},
		"key alone":             {Settings{ClientCert: write(t, "c.pem", key)}, "MLFLOW_TRACKING_CLIENT_CERT_PATH=", "it is no certificate with its key", "client.key"},
		"key of another":        {Settings{ClientCert: write(t, "c.pem", append(slices.Clone(key), other...))}, "MLFLOW_TRACKING_CLIENT_CERT_PATH=", "it is no certificate with its key", "client.key"},
		"key with passphrase":   {Settings{ClientCert: write(t, "c.pem", locked)}, "MLFLOW_TRACKING_CLIENT_CERT_PATH=", "its key is encrypted", "openssl pkey"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.settings.Transport(&http.Transport{}, &url.URL{Scheme: "https", Host: "mlflow.example.com"})
			e, ok := errors.AsType[*failure.Error](err)
			if !ok || e.Class != failure.Invalid || !strings.HasPrefix(e.Object, c.path) || e.Message[:min(len(e.Message), len(c.message))] != c.message || !strings.Contains(e.Hint, c.advice) {
				t.Errorf("error = %v (%+v)", err, e)
			}
			if strings.Contains(strings.ReplaceAll(err.Error(), "/s3cret", ""), "s3cret") || strings.Contains(err.Error(), "BEGIN") {
				t.Errorf("what is in the file is told: %v", err)
			}
			if _, err := c.settings.Transport(&http.Transport{}, &url.URL{Scheme: "http", Host: "localhost"}); err != nil {
				t.Errorf("a server without TLS needs none: %v", err)
			}
		})
	}
}

// everything is all that could leak.
func everything(t *testing.T, ours *authority) Settings {
	t.Helper()
	return Settings{
		Credentials: Credentials{Username: "u", Password: "s3cret"}, Workspace: "team-a",
		ServerCert: write(t, "ca.pem", ours.pem()), ClientCert: write(t, "alice.pem", ours.pair("alice", x509.ExtKeyUsageClientAuth)),
	}
}

const fromAlice = "alice|Basic dTpzM2NyZXQ=|team-a"

func TestRedirectsTakeNothingAway(t *testing.T) {
	ours := newAuthority(t, "ours")
	elsewhere := newSecured(t, ours, "127.0.0.1", tls.RequestClientCert, ours, http.HandlerFunc(empty))
	server := newSecured(t, ours, "127.0.0.1", tls.RequestClientCert, ours, http.RedirectHandler(elsewhere.URL+"/?token=t0ken", http.StatusFound))
	client, err := secureClient(t, everything(t, ours), server.URL, &http.Transport{})
	if err != nil {
		t.Fatal(err)
	}
	err = client.Probe(t.Context())
	if failure.ClassOf(err) != failure.Invalid || !strings.Contains(err.Error(), "it redirects to "+elsewhere.URL) ||
		strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "t0ken") {
		t.Errorf("error = %v", err)
	}
	if got := elsewhere.visitors(); len(got) != 0 {
		t.Errorf("elsewhere, %q came", got)
	}
	if got := server.visitors(); len(got) != 1 || got[0] != fromAlice {
		t.Errorf("%q came", got)
	}
}

// Whoever lets an http.Client follow redirects, or asks another server over the same way, takes nothing there either.
func TestOtherServersGetNothing(t *testing.T) {
	ours := newAuthority(t, "ours")
	elsewhere := newSecured(t, ours, "127.0.0.1", tls.RequestClientCert, ours, http.HandlerFunc(empty))
	server := newSecured(t, ours, "127.0.0.1", tls.RequestClientCert, ours, http.RedirectHandler(elsewhere.URL, http.StatusFound))
	trusting := x509.NewCertPool() // in place of the system's, which does not know the test's authority
	trusting.AddCert(ours.cert)
	client, err := secureClient(t, everything(t, ours), server.URL, &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusting, MinVersion: tls.VersionTLS12}})
	if err != nil {
		t.Fatal(err)
	}
	client.http.CheckRedirect = nil
	if err := client.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := server.visitors(); len(got) != 1 || got[0] != fromAlice {
		t.Errorf("%q came", got)
	}
	if got := elsewhere.visitors(); len(got) != 1 || got[0] != "nobody||" {
		t.Errorf("elsewhere, %q came", got)
	}
}

// connect is a proxy that leads CONNECT to wherever it is asked.
func connect(w http.ResponseWriter, r *http.Request) {
	to, err := net.Dial("tcp", r.Host) //nolint:noctx // as short as the test
	if err != nil {
		panic(err)
	}
	from, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	_, _ = io.WriteString(from, "HTTP/1.1 200 OK\r\n\r\n")
	go func() { _, _ = io.Copy(to, from); _ = to.Close() }()
	_, _ = io.Copy(from, to)
	_ = from.Close()
}

func TestProxiesSeeNoCertificate(t *testing.T) {
	ours := newAuthority(t, "ours")
	server := newSecured(t, ours, "127.0.0.1", tls.RequireAndVerifyClientCert, ours, http.HandlerFunc(empty))
	proxy := newSecured(t, ours, "127.0.0.1", tls.RequestClientCert, ours, http.HandlerFunc(connect))
	at, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	base := &http.Transport{Proxy: http.ProxyURL(at), TLSHandshakeTimeout: 10 * time.Second}
	client, err := secureClient(t, everything(t, ours), server.URL, base)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := server.visitors(); len(got) != 1 || got[0] != fromAlice {
		t.Errorf("%q came", got)
	}
	if got := proxy.visitors(); len(got) != 1 || got[0] != "nobody||" {
		t.Errorf("to the proxy, %q came", got)
	}
	// Who trusts any tracking server does not trust any proxy.
	client, err = secureClient(t, Settings{Insecure: true}, server.URL, base)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Probe(t.Context()); failureReason(err) != "TrackingServerUntrusted" {
		t.Errorf("error = %v", err)
	}
}

// login gives what the server wants to see, and is asked for another one when it does not.
type login struct {
	first, renewed string
	fails          error
	asked          []string
}

func (l *login) Authorization(context.Context) (string, error) {
	l.asked = append(l.asked, "first")
	return l.first, l.fails
}

func (l *login) Renew(_ context.Context, refused string) (string, error) {
	l.asked = append(l.asked, "instead of "+refused)
	return l.renewed, nil
}

func (l *login) Denied(server string, challenges []string) error {
	return &failure.Error{Class: failure.Forbidden, Reason: "TrackingServerDenied", Object: server, Evidence: challenges}
}

func TestALoginIsRenewedOnceWhereTheServerRefusesIt(t *testing.T) {
	for name, c := range map[string]struct {
		login login
		want  []string // that the server sees
		asked int
		ok    bool
	}{
		"accepted":          {login{first: "Bearer good"}, []string{"Bearer good"}, 1, true},
		"accepted when new": {login{first: "Bearer old", renewed: "Bearer good"}, []string{"Bearer old", "Bearer good"}, 2, true},
		"refused":           {login{first: "Bearer new"}, []string{"Bearer new"}, 2, false},
		"refused twice":     {login{first: "Bearer old", renewed: "Bearer new"}, []string{"Bearer old", "Bearer new"}, 2, false},
		"no login":          {login{fails: &failure.Error{Class: failure.Forbidden, Reason: "TrackingLoginFailed"}}, nil, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			var seen []string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				seen = append(seen, r.Header.Get("Authorization"))
				if body, err := io.ReadAll(r.Body); err != nil || string(body) != `{"max_results":1}` {
					t.Errorf("the body is %q, %v", body, err)
				}
				if r.Header.Get("Authorization") != "Bearer good" {
					w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
					w.WriteHeader(http.StatusUnauthorized)
				}
				_, _ = io.WriteString(w, "{}")
			}))
			t.Cleanup(server.Close)
			u, err := url.Parse(server.URL)
			if err != nil {
				t.Fatal(err)
			}
			way, err := Settings{Login: &c.login}.Transport(&http.Transport{}, u)
			if err != nil {
				t.Fatal(err)
			}
			defer way.CloseIdleConnections()
			err = New(u, way).Probe(t.Context())
			if !slices.Equal(seen, c.want) || len(c.login.asked) != c.asked || (err == nil) != c.ok {
				t.Errorf("the server saw %q, the login was asked %q, %v", seen, c.login.asked, err)
			}
			if e, _ := errors.AsType[*failure.Error](err); !c.ok && (e == nil || e.Class != failure.Forbidden || c.want != nil && !slices.Equal(e.Evidence, []string{`Bearer error="invalid_token"`})) {
				t.Errorf("%#v", err)
			}
		})
	}
}

// Who is known and may not read is not told to say who they are.
func TestWhoIsKnownAndMayNotIsToldToAskForTheRight(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, `{"error_code": "PERMISSION_DENIED", "message": "Permission denied"}`, http.StatusForbidden)
	}))
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	for hint, cred := range map[string]Credentials{"ask those who run it": {Token: "t"}, "MLFLOW_TRACKING_OIDC_ISSUER": {}} {
		way := Authenticate(&http.Transport{}, u, cred)
		err := New(u, way).Probe(t.Context())
		if e, ok := errors.AsType[*failure.Error](err); !ok || e.Reason != "TrackingServerDenied" || !strings.Contains(e.Hint, hint) {
			t.Errorf("%#v; want %s", err, hint)
		}
		way.CloseIdleConnections()
	}
}

func TestALoginIsForItsServerAloneAndComesLast(t *testing.T) {
	seen := ""
	handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = r.Header.Get("Authorization") })
	server, other := httptest.NewServer(handler), httptest.NewServer(handler)
	t.Cleanup(server.Close)
	t.Cleanup(other.Close)
	own, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		cred Credentials
		to   string
		want string
	}{
		"its server":     {to: server.URL, want: "Bearer good"},
		"another server": {to: other.URL},
		"username alone": {cred: Credentials{Username: "u"}, to: server.URL, want: "Bearer good"},
		"token":          {cred: Credentials{Token: "t"}, to: server.URL, want: "Bearer t"},
		"password":       {cred: Credentials{Username: "u", Password: "p"}, to: server.URL, want: "Basic dTpw"},
		"in the URL":     {to: "http://u:p@" + own.Host, want: "Basic dTpw"},
	} {
		way, err := Settings{Credentials: c.cred, Login: &login{first: "Bearer good"}}.Transport(&http.Transport{}, own)
		if err != nil {
			t.Fatal(err)
		}
		seen = ""
		resp, err := (&http.Client{Transport: way}).Get(c.to) //nolint:noctx // it answers
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil || seen != c.want {
			t.Errorf("%s: it sees %q, %v", name, seen, err)
		}
		way.CloseIdleConnections()
	}
}
