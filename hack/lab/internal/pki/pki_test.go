package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

func TestServerTakesOnlyClientsOfTheAuthority(t *testing.T) {
	folder := t.TempDir()
	authority, err := New(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []Identity{
		{File: "server", User: "server", Hosts: []string{"127.0.0.1", "kubernetes.default.svc"}},
		{File: "admin", User: "kubernetes-admin", Groups: []string{"system:masters"}},
	} {
		if err := authority.Issue(id); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(read(t, folder, "ca.crt"))

	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		subject := r.TLS.PeerCertificates[0].Subject
		_, _ = io.WriteString(w, subject.CommonName+"/"+subject.Organization[0])
	}))
	server.TLS = &tls.Config{
		Certificates: []tls.Certificate{pair(t, folder, "server")},
		ClientCAs:    pool,
		ClientAuth:   tls.RequireAndVerifyClientCert,
		MinVersion:   tls.VersionTLS12,
	}
	server.StartTLS()
	defer server.Close()

	if got, err := get(t, server.URL, pool, pair(t, folder, "admin")); err != nil || got != "kubernetes-admin/system:masters" {
		t.Errorf("the admin is seen as %q, %v", got, err)
	}

	stranger := t.TempDir()
	other, err := New(stranger)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Issue(Identity{File: "admin", User: "kubernetes-admin", Groups: []string{"system:masters"}}); err != nil {
		t.Fatal(err)
	}
	if got, err := get(t, server.URL, pool, pair(t, stranger, "admin")); err == nil {
		t.Errorf("a client of another authority was let in as %q", got)
	}
}

func TestKeysAreTheirOwnersAlone(t *testing.T) {
	folder := t.TempDir()
	authority, err := New(folder)
	if err != nil {
		t.Fatal(err)
	}
	if err := authority.ServiceAccountKey(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(folder, "sa.key"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("sa.key has mode %v", info.Mode())
	}
	block, _ := pem.Decode(read(t, folder, "sa.key"))
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	block, _ = pem.Decode(read(t, folder, "sa.pub"))
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if !key.PublicKey.Equal(public) {
		t.Error("sa.pub is not the public half of sa.key")
	}
}

func get(t *testing.T, url string, pool *x509.CertPool, client tls.Certificate) (string, error) {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
		RootCAs: pool, Certificates: []tls.Certificate{client}, MinVersion: tls.VersionTLS12,
	}}}
	defer c.CloseIdleConnections()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

func pair(t *testing.T, folder, name string) tls.Certificate {
	t.Helper()
	p, err := tls.LoadX509KeyPair(filepath.Join(folder, name+".crt"), filepath.Join(folder, name+".key"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func read(t *testing.T, folder, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(folder, name)) // #nosec G304 -- a file of this test
	if err != nil {
		t.Fatal(err)
	}
	return text
}
