package tracking

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// workspaceHeader is mlflow.utils.workspace_utils.WORKSPACE_HEADER_NAME.
const workspaceHeader = "X-Mlflow-Workspace"

// Transport is a way to one server, and to nobody else with what is meant for it: requests to another scheme, host or port go out
// as they are, without credentials, workspace and client certificate, and with the system's authorities.
type Transport struct {
	own, others http.RoundTripper
	origin      string
	cred        Credentials
	login       Login
	workspace   string
	asked       atomic.Bool // by the server, for a client certificate
}

// Login is who gets credentials for a server from somebody else: oidc.Session is one.
type Login interface {
	// Authorization is the value of the header of that name.
	Authorization(ctx context.Context) (string, error)
	// Renew is another value in place of refused, which the server did not accept; "" where there is none.
	Renew(ctx context.Context, refused string) (string, error)
	// Denied is the failure of a value that server did not accept, with the challenges of its answer.
	Denied(server string, challenges []string) error
}

// Authenticate adds cred to what goes to server over rt.
func Authenticate(rt http.RoundTripper, server *url.URL, cred Credentials) *Transport {
	return &Transport{own: rt, others: rt, origin: Origin(server), cred: cred}
}

// Transport is the way to server over base that s describes. The files of certificates are read where server speaks TLS.
func (s Settings) Transport(base *http.Transport, server *url.URL) (*Transport, error) {
	t := Authenticate(base, server, s.Credentials)
	t.workspace, t.login = s.Workspace, s.Login
	if !strings.EqualFold(server.Scheme, "https") {
		return t, nil
	}
	config, err := s.tls(&t.asked)
	if err != nil {
		return nil, err
	}
	own := base.Clone()
	own.TLSClientConfig = config
	keepFromProxy(own, server)
	t.own = own
	return t, nil
}

// RoundTrip implements http.RoundTripper. As in MLflow, username and password win over a token, one of the two alone counts for
// nothing, and those in the server's URL, which http.Client has added already, win over all. A login comes last.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if Origin(req.URL) != t.origin {
		return t.others.RoundTrip(req)
	}
	req = req.Clone(req.Context())
	if t.workspace != "" {
		req.Header.Set(workspaceHeader, t.workspace)
	}
	switch inURL := req.URL.User.String() != ""; {
	case inURL:
	case t.cred.Username != "" && t.cred.Password != "":
		req.SetBasicAuth(t.cred.Username, t.cred.Password)
	case t.cred.Token != "":
		req.Header.Set("Authorization", "Bearer "+t.cred.Token)
	case t.login != nil:
		return t.loggedIn(req)
	}
	return t.send(req)
}

// loggedIn sends req with what the login gives. What a server does not accept is renewed once: it may have been kept from the time before.
func (t *Transport) loggedIn(req *http.Request) (*http.Response, error) {
	authorization, err := t.login.Authorization(req.Context())
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close() // nobody has read it
		}
		return nil, err
	}
	req.Header.Set("Authorization", authorization)
	resp, err := t.send(req)
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	if again := replay(req); again != nil {
		renewed, err := t.login.Renew(req.Context(), authorization)
		if err != nil {
			_ = resp.Body.Close() // what it says does not matter any more
			return nil, err
		}
		if renewed != "" {
			_ = resp.Body.Close() // as above
			again.Header.Set("Authorization", renewed)
			resp, err = t.send(again)
			if err != nil || resp.StatusCode != http.StatusUnauthorized {
				return resp, err
			}
		}
	}
	_ = resp.Body.Close() // the failure is ours to tell
	return nil, t.login.Denied(t.origin, resp.Header.Values("WWW-Authenticate"))
}

// replay is req to be sent for the second time, or nil where its body cannot be had again.
func replay(req *http.Request) *http.Request {
	again := req.Clone(req.Context())
	if req.Body == nil || req.Body == http.NoBody {
		return again
	}
	if req.GetBody == nil {
		return nil
	}
	body, err := req.GetBody()
	if err != nil {
		return nil
	}
	again.Body = body
	return again
}

// send asks the server itself.
func (t *Transport) send(req *http.Request) (*http.Response, error) {
	resp, err := t.own.RoundTrip(req)
	if err != nil && t.asked.Load() {
		err = &uncertified{err}
	}
	return resp, err
}

// uncertified is the failure of a request to a server that has asked for a client certificate. With TLS 1.3 a server refuses one
// after the handshake, and some then hang up without a word.
type uncertified struct{ error }

func (u *uncertified) Unwrap() error { return u.error }

// CloseIdleConnections closes what RoundTrip has left open.
func (t *Transport) CloseIdleConnections() {
	for _, rt := range []http.RoundTripper{t.own, t.others} {
		if c, ok := rt.(interface{ CloseIdleConnections() }); ok {
			c.CloseIdleConnections()
		}
	}
}

// Origin is scheme://host:port with the port written out.
func Origin(u *url.URL) string {
	scheme, port := strings.ToLower(u.Scheme), u.Port()
	if port == "" && scheme == "http" {
		port = "80"
	}
	if port == "" && scheme == "https" {
		port = "443"
	}
	return scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port
}

// keepFromProxy lets a proxy that itself speaks TLS see no client certificate, and be trusted as any other server: http.Transport
// has one configuration for it and for the server behind it. own asks one server only, so that what it dials with TLS is either
// always the proxy or never.
func keepFromProxy(own *http.Transport, server *url.URL) {
	if own.Proxy == nil {
		return
	}
	proxy, err := own.Proxy(&http.Request{URL: server})
	if err != nil || proxy == nil || proxy.Scheme != "https" {
		return // an error is that of the first request, too
	}
	dial, roots := own.DialContext, own.TLSClientConfig.RootCAs
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	own.DialTLSContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if own.TLSHandshakeTimeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, own.TLSHandshakeTimeout)
			defer cancel()
		}
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		secured := tls.Client(conn, &tls.Config{ServerName: proxy.Hostname(), RootCAs: roots, MinVersion: tls.VersionTLS12})
		if err := secured.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		return secured, nil
	}
}

// tls reads the certificates. Connections note in asked that the server wants ours.
func (s Settings) tls(asked *atomic.Bool) (*tls.Config, error) {
	var own tls.Certificate // an empty one is none
	config := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: s.Insecure, //nolint:gosec // the user asked for it
		// Ours is shown whatever authorities the server names, as OpenSSL does for Python.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			asked.Store(true)
			return &own, nil
		},
	}
	var err error
	if s.ServerCert != "" {
		if config.RootCAs, err = authorities(s.ServerCert); err != nil {
			return nil, err
		}
	}
	if s.ClientCert != "" {
		if own, err = clientCertificate(s.ClientCert); err != nil {
			return nil, err
		}
	}
	return config, nil
}

// authorities reads a bundle, or a directory of them, in place of the system's.
func authorities(path string) (*x509.CertPool, error) {
	const hint = "set it to a PEM file with the certificate of the authority that signed the server's, or to a directory of such files"
	files, err := filesAt(path)
	if err != nil {
		return nil, badCertificate(serverCertVariable, path, "it cannot be read", hint, err)
	}
	pool, some := x509.NewCertPool(), false
	for _, file := range files {
		text, err := os.ReadFile(file) //nolint:gosec // the user named it
		if err != nil {
			return nil, badCertificate(serverCertVariable, file, "it cannot be read", hint, err)
		}
		some = pool.AppendCertsFromPEM(text) || some // a directory may also hold a README
	}
	if !some {
		return nil, badCertificate(serverCertVariable, path, "there is no certificate in it", hint, nil)
	}
	return pool, nil
}

// filesAt is path itself, or the files in it where it is a directory.
func filesAt(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return []string{path}, err
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		file := filepath.Join(path, e.Name())
		// Behind a link, as c_rehash makes them. One that leads nowhere is nothing that could be trusted.
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
			files = append(files, file)
		}
	}
	return files, nil
}

// clientCertificate reads a certificate and its key from one file.
func clientCertificate(path string) (tls.Certificate, error) {
	const hint = "set it to one PEM file with the certificate and its key: cat client.crt client.key > client.pem"
	text, err := os.ReadFile(path) //nolint:gosec // the user named it
	if err != nil {
		return tls.Certificate{}, badCertificate(clientCertVariable, path, "it cannot be read", hint, err)
	}
	pair, err := tls.X509KeyPair(text, text)
	if err != nil && encrypted(text) {
		return tls.Certificate{}, badCertificate(clientCertVariable, path, "its key is encrypted, and nobody is asked for the passphrase",
			"write the key without one, readable by you alone: openssl pkey -in FILE", nil)
	}
	if err != nil {
		return tls.Certificate{}, badCertificate(clientCertVariable, path, "it is no certificate with its key", hint, err)
	}
	return pair, nil
}

// encrypted tells whether a key in text needs a passphrase.
func encrypted(text []byte) bool {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
			return true
		}
	}
	return false
}

func badCertificate(variable, path, message, hint string, err error) error {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		err = e.Err // the path is said already
	}
	return &failure.Error{
		Class: failure.Invalid, Reason: "TrackingSettingsInvalid", Object: fmt.Sprintf("%s=%s", variable, path),
		Message: message, Hint: hint, Err: err,
	}
}
