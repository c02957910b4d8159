package registry

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	ggcr "github.com/google/go-containerregistry/pkg/registry"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// pair is a certificate that is its own authority, and its key, in PEM.
func pair(t *testing.T) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "client"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}

// A registry with a certificate of its own is trusted by what Docker's users have put into certs.d, and it sees their certificate.
func TestRegistryCertificates(t *testing.T) {
	client, key := pair(t)
	server := httptest.NewUnstartedServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))))
	clients := x509.NewCertPool()
	clients.AppendCertsFromPEM(client)
	server.TLS = &tls.Config{ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: clients}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	seen := false
	handler := server.Config.Handler
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = len(r.TLS.PeerCertificates) > 0
		handler.ServeHTTP(w, r)
	})
	server.StartTLS()
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "https://")
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	for name, c := range map[string]struct {
		files map[string]string
		fails string // in the error
		seen  bool
	}{
		"nothing":               {nil, "RegistryCertificate: ", false},
		"another host's":        {map[string]string{"other.example.com/ca.crt": string(authority)}, "RegistryCertificate: ", false},
		"the authority":         {map[string]string{host + "/ca.crt": string(authority)}, "", false},
		"and a certificate":     {map[string]string{host + "/ca.crt": string(authority), host + "/me.cert": string(client), host + "/me.key": string(key)}, "", true},
		"a certificate, no key": {map[string]string{host + "/ca.crt": string(authority), host + "/me.cert": string(client)}, "me.cert", false},
		"no certificate in it":  {map[string]string{host + "/ca.crt": "hello"}, "no certificate in it", false},
		"notes beside it":       {map[string]string{host + "/ca.crt": string(authority), host + "/README": "hello"}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			seen = false
			dir := t.TempDir()
			for path, text := range c.files {
				path = filepath.Join(dir, path)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			base := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // it is one
			t.Cleanup(base.CloseIdleConnections)
			r, err := Open(host+"/team/models", WithKeychain(authn.NewMultiKeychain()), WithTransport(&certified{base: base, dirs: []string{filepath.Join(dir, "none"), dir}}))
			if err != nil {
				t.Fatal(err)
			}
			err = r.CheckPush(t.Context())
			if c.fails == "" && err != nil || c.fails != "" && (failure.ClassOf(err) == "" || !strings.Contains(told(err), c.fails)) {
				t.Errorf("%s", told(err))
			}
			if seen != c.seen {
				t.Errorf("the registry saw a certificate: %t", seen)
			}
		})
	}
}

func told(err error) string {
	if err == nil {
		return "no failure"
	}
	f, _ := errors.AsType[*failure.Error](err)
	if f == nil {
		return err.Error()
	}
	return f.Reason + ": " + err.Error()
}
