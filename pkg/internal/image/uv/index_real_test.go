//go:build real

package uv_test

import (
	"archive/zip"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
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
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image/uv"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// wheelOf is a wheel of a package mine.
func wheelOf(t *testing.T, version string) []byte {
	t.Helper()
	var content bytes.Buffer
	w := zip.NewWriter(&content)
	info := "mine-" + version + ".dist-info/"
	for _, f := range [][2]string{
		{"mine/__init__.py", fmt.Sprintf("version = %q\n", version)},
		{info + "METADATA", "Metadata-Version: 2.1\nName: mine\nVersion: " + version + "\n"},
		{info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"},
		{info + "RECORD", "mine/__init__.py,,\n" + info + "METADATA,,\n" + info + "WHEEL,,\n" + info + "RECORD,,\n"},
	} {
		out, err := w.Create(f[0])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(out, f[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return content.Bytes()
}

// packageIndex is an index with one version of the package mine, for user bob with password hunter2, behind a certificate that nobody
// trusts but who has the file ca.
type packageIndex struct {
	host, ca, file string
	sha256         string
}

func newPackageIndex(t *testing.T, version string) *packageIndex {
	t.Helper()
	content := wheelOf(t, version)
	p := &packageIndex{file: "mine-" + version + "-py3-none-any.whl", sha256: fmt.Sprintf("%x", sha256.Sum256(content))}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, ok := r.BasicAuth(); !ok || user != "bob" || password != "hunter2" {
			w.Header().Set("WWW-Authenticate", `Basic realm="index"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		var err error
		switch r.URL.Path {
		case "/simple/mine/", "/links/":
			w.Header().Set("Content-Type", "text/html")
			_, err = fmt.Fprintf(w, `<!DOCTYPE html><html><body><a href="/files/%s">%s</a></body></html>`, p.file, p.file)
		case "/files/" + p.file:
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
		default:
			http.NotFound(w, r)
		}
		if err != nil {
			t.Error(err)
		}
	}))
	authority, certificate := certify(t)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // who does not trust it says so
	s.StartTLS()
	t.Cleanup(s.Close)
	p.host = strings.TrimPrefix(s.URL, "https://")
	p.ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(p.ca, authority, 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// certify makes an authority, as PEM, and a certificate of it for 127.0.0.1 and index.example.com.
func certify(t *testing.T) (authority []byte, certificate tls.Certificate) {
	t.Helper()
	sign := func(template, parent *x509.Certificate, key, by *ecdsa.PrivateKey) []byte {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "A private authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	caKey, leafKey := key(), key()
	root := sign(ca, ca, caKey, caKey)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "index"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		DNSNames: []string{"index.example.com"}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root}),
		tls.Certificate{Certificate: [][]byte{sign(leaf, ca, leafKey, caKey)}, PrivateKey: leafKey}
}

// installed builds an environment with these requirements, and returns which version of mine it has.
func installed(t *testing.T, requirements ...string) (version string, err error) {
	t.Helper()
	to, base := inRegistry(t)
	e := image.Environment{Base: base, Platform: "linux/amd64", Python: "3.11.7", Requirements: requirements}
	b := &uv.Builder{Cache: t.TempDir()}
	if err := b.Check(t.Context(), e); err != nil {
		return "", err
	}
	digest, err := b.Build(t.Context(), e, to, progress.Discard{}.Start(""))
	if err != nil {
		return "", err
	}
	root := t.TempDir()
	extract(t, to.At(digest), root)
	found, err := filepath.Glob(filepath.Join(root, image.EnvironmentDir, "mine-*.dist-info"))
	if err != nil || len(found) != 1 {
		t.Fatalf("installed %q, %v", found, err)
	}
	return strings.TrimSuffix(strings.TrimPrefix(filepath.Base(found[0]), "mine-"), ".dist-info"), nil
}

// alone keeps this machine's own settings for pip and uv out of a test.
func alone(t *testing.T) {
	t.Helper()
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if strings.HasPrefix(name, "PIP_") || strings.HasPrefix(name, "UV_") || strings.HasSuffix(strings.ToLower(name), "_proxy") ||
			strings.HasPrefix(name, "SSL_CERT_") {
			t.Setenv(name, "")
			if err := os.Unsetenv(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	dir := t.TempDir()
	t.Setenv("PIP_CONFIG_FILE", filepath.Join(dir, "pip.conf"))
	t.Setenv("XDG_CONFIG_HOME", dir)
	t.Setenv("UV_HTTP_RETRIES", "0")
}

func TestPrivateIndexes(t *testing.T) {
	one, two := newPackageIndex(t, "1.0"), newPackageIndex(t, "2.0")
	for name, c := range map[string]struct {
		env   map[string]string
		conf  string // pip.conf
		lines []string
		want  string
	}{
		"a line of the model, with the user's credentials": {
			env:   map[string]string{"INDEX_USER": "bob", "INDEX_PASSWORD": "hunter2"},
			lines: []string{"--index-url https://${INDEX_USER}:${INDEX_PASSWORD}@" + one.host + "/simple", "mine"}, want: "1.0",
		},
		"the extra index comes first, as in uv": {
			lines: []string{"--index-url https://bob:hunter2@" + one.host + "/simple", "--extra-index-url https://bob:hunter2@" + two.host + "/simple", "mine"}, want: "2.0",
		},
		"of two extra ones the first": {
			lines: []string{"--extra-index-url https://bob:hunter2@" + one.host + "/simple", "--extra-index-url https://bob:hunter2@" + two.host + "/simple", "mine"}, want: "1.0",
		},
		"UV_DEFAULT_INDEX": {
			env: map[string]string{"UV_DEFAULT_INDEX": "https://bob:hunter2@" + two.host + "/simple"}, lines: []string{"mine"}, want: "2.0",
		},
		"PIP_INDEX_URL": {
			env: map[string]string{"PIP_INDEX_URL": "https://bob:hunter2@" + two.host + "/simple"}, lines: []string{"mine"}, want: "2.0",
		},
		"pip.conf": {
			conf: "[global]\nindex-url = https://bob:hunter2@" + two.host + "/simple\n", lines: []string{"mine"}, want: "2.0",
		},
		"no index but links": {
			lines: []string{"--no-index", "--find-links https://bob:hunter2@" + one.host + "/links/", "mine"}, want: "1.0",
		},
		"a hash": {
			lines: []string{"--index-url https://bob:hunter2@" + one.host + "/simple", "mine==1.0 --hash=sha256:" + one.sha256}, want: "1.0",
		},
	} {
		t.Run(name, func(t *testing.T) {
			alone(t)
			both := filepath.Join(t.TempDir(), "ca.pem")
			if err := os.WriteFile(both, append(read(t, one.ca), read(t, two.ca)...), 0o600); err != nil {
				t.Fatal(err)
			}
			t.Setenv("PIP_CERT", both)
			if err := os.WriteFile(os.Getenv("PIP_CONFIG_FILE"), []byte(c.conf), 0o600); err != nil {
				t.Fatal(err)
			}
			for name, value := range c.env {
				t.Setenv(name, value)
			}
			if got, err := installed(t, c.lines...); err != nil || got != c.want {
				t.Errorf("installed %q, %v, want %s", got, err, c.want)
			}
		})
	}
}

func TestWhatIsWrongWithAPrivateIndex(t *testing.T) {
	one, two := newPackageIndex(t, "1.0"), newPackageIndex(t, "2.0")
	both := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(both, append(read(t, one.ca), read(t, two.ca)...), 0o600); err != nil {
		t.Fatal(err)
	}
	at := func(p *packageIndex) string { return "https://bob:hunter2@" + p.host + "/simple" }
	for name, c := range map[string]struct {
		ca              string
		lines           []string
		reason, message string
	}{
		"another password": {both, []string{"--index-url https://bob:hunter3@" + one.host + "/simple", "mine"}, "PackageIndexUnauthorized", "credentials"},
		"an unknown CA":    {"", []string{"--index-url " + at(one), "mine"}, "PackageIndexCertificate", "certificate"},
		"another hash":     {both, []string{"--index-url " + at(one), "mine==1.0 --hash=sha256:" + strings.Repeat("0", 64)}, "HashMismatch", "mine==1.0"},
		"the version is in the second": {both, []string{"--index-url " + at(one), "--extra-index-url " + at(two), "mine==1.0"},
			"PackageIndexOrder", "mine==1.0"},
		"nothing without an index": {both, []string{"--no-index", "mine"}, "PackageNotFound", "mine"},
	} {
		t.Run(name, func(t *testing.T) {
			alone(t)
			if c.ca != "" {
				t.Setenv("SSL_CERT_FILE", c.ca)
			}
			_, err := installed(t, c.lines...)
			e, ok := errors.AsType[*failure.Error](err)
			if !ok || e.Reason != c.reason || !strings.Contains(e.Message, c.message) || e.Hint == "" {
				t.Errorf("got %+v, want %s", err, c.reason)
			}
			if all := fmt.Sprintf("%+v", e); strings.Contains(all, "hunter") {
				t.Errorf("a password is told: %s", all)
			}
		})
	}
}

// TestAnIndexBehindAProxy names an index by a name that the proxy alone knows.
func TestAnIndexBehindAProxy(t *testing.T) {
	alone(t)
	index := newPackageIndex(t, "1.0")
	var tunnels atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Host != "index.example.com:443" {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		tunnels.Add(1)
		there, err := (&net.Dialer{}).DialContext(r.Context(), "tcp", index.host)
		if err != nil {
			t.Error(err)
			return
		}
		w.WriteHeader(http.StatusOK)
		here, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		go func() {
			_, _ = io.Copy(there, here) // the end of one side is the end of both
			_ = there.Close()
		}()
		_, _ = io.Copy(here, there)
		_ = here.Close()
	}))
	defer proxy.Close()
	t.Setenv("HTTPS_PROXY", proxy.URL)
	t.Setenv("SSL_CERT_FILE", index.ca)
	got, err := installed(t, "--index-url https://bob:hunter2@index.example.com/simple", "mine")
	if err != nil || got != "1.0" || tunnels.Load() == 0 {
		t.Errorf("installed %q, %v, through %d tunnels", got, err, tunnels.Load())
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return content
}
