//go:build real

package docker_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image/docker"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image/registry"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

const password = "hunter2"

// protected answers to bob alone.
func protected(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, given, ok := r.BasicAuth(); !ok || user != "bob" || given != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	})
}

type keychain struct{ host string }

func (k keychain) Resolve(r authn.Resource) (authn.Authenticator, error) {
	if r.RegistryStr() == k.host {
		return authn.FromConfig(authn.AuthConfig{Username: "bob", Password: password}), nil
	}
	return authn.Anonymous, nil
}

// repository is one in a registry with a password, which has the lab's base image too.
func repository(t *testing.T) (to *registry.Repository, base string) {
	t.Helper()
	from := os.Getenv("LAB_BASE_IMAGE")
	if os.Getenv("DOCKER_HOST") == "" || from == "" {
		t.Skip("DOCKER_HOST names no Docker engine, or LAB_BASE_IMAGE no base image")
	}
	server := httptest.NewServer(protected(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))))
	t.Cleanup(server.Close)
	k := keychain{strings.TrimPrefix(server.URL, "http://")}
	img, err := remote.Image(ref(t, from))
	if err != nil {
		t.Fatal(err)
	}
	at := ref(t, k.host+"/python:3.11-slim")
	if err := remote.Write(at, img, remote.WithAuthFromKeychain(k)); err != nil {
		t.Fatal(err)
	}
	if to, err = registry.Open(k.host+"/models", registry.WithKeychain(k)); err != nil {
		t.Fatal(err)
	}
	if base, err = to.Resolve(t.Context(), at.String()); err != nil {
		t.Fatal(err)
	}
	return to, base
}

func ref(t *testing.T, image string) name.Reference {
	t.Helper()
	r, err := name.ParseReference(image)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// source is the source distribution of a package, built by what setup says.
func source(t *testing.T, pkg, setup string, files map[string]string) []byte {
	t.Helper()
	var content bytes.Buffer
	zipped := gzip.NewWriter(&content)
	archive := tar.NewWriter(zipped)
	all := map[string]string{"setup.py": setup, "PKG-INFO": "Metadata-Version: 2.1\nName: " + pkg + "\nVersion: 1.0\n"}
	for path, text := range files {
		all[path] = text
	}
	for path, text := range all {
		if err := archive.WriteHeader(&tar.Header{Name: pkg + "-1.0/" + path, Mode: 0o644, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(archive, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(archive.Close(), zipped.Close()); err != nil {
		t.Fatal(err)
	}
	return content.Bytes()
}

// index is a package index of bob's with source distributions alone. It serves the engine's builds, which have this machine's network.
type index struct {
	url, host string
	hang      chan struct{} // gets a value when something asks for /hang
	gone      chan struct{} // gets a value when that something is no more
}

func serveIndex(t *testing.T, packages map[string][]byte) *index {
	t.Helper()
	x := &index{hang: make(chan struct{}, 1), gone: make(chan struct{}, 1)}
	mux := http.NewServeMux()
	for pkg, content := range packages {
		file := pkg + "-1.0.tar.gz"
		mux.HandleFunc("/simple/"+pkg+"/", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = fmt.Fprintf(w, `<a href="/files/%s">%s</a>`, file, file)
		})
		mux.HandleFunc("/files/"+file, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content) })
	}
	closed := protected(mux)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang" { // of code that has no password
			x.hang <- struct{}{}
			<-r.Context().Done()
			x.gone <- struct{}{}
			return
		}
		closed.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	x.host = strings.TrimPrefix(server.URL, "http://")
	x.url = "http://bob:" + password + "@" + x.host + "/simple"
	return x
}

// notes are what a build tells.
type notes struct {
	progress.Step
	mu    sync.Mutex
	lines []string
}

func (n *notes) Note(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lines = append(n.lines, text)
}

func environment(base string, requirements ...string) image.Environment {
	return image.Environment{Base: base, Platform: "linux/amd64", Python: "3.11.7", Requirements: requirements}
}

// A requirement that is source code, in C even, is compiled, by an engine that pulls the base with our credentials, with an index that has
// a password, which is nowhere afterwards; and the image has system packages.
func TestSourcesAndSystemPackages(t *testing.T) {
	to, base := repository(t)
	x := serveIndex(t, map[string][]byte{
		"mine": source(t, "mine", "from setuptools import setup\nsetup(name='mine', version='1.0', packages=['mine'])\n", map[string]string{"mine/__init__.py": "answer = 42\n"}),
		"compiled": source(t, "compiled", "from setuptools import Extension, setup\nsetup(name='compiled', version='1.0', ext_modules=[Extension('compiled', ['compiled.c'])])\n", map[string]string{
			"compiled.c": "void *PyInit_compiled(void) { return 0; }\n", // the lab's base image has no Python.h
		}),
	})
	t.Setenv("UV_INDEX", x.url)
	b := &docker.Builder{Getenv: os.Getenv, Cache: t.TempDir()}
	e := environment(base, "mine==1.0", "compiled==1.0")
	e.Apt = []string{"libgomp1"}
	if err := b.Check(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	said := &notes{Step: progress.Discard{}.Start("")}
	digest, err := b.Build(t.Context(), e, to, said)
	if err != nil {
		f, _ := errors.AsType[*failure.Error](err)
		t.Fatalf("%v\n%+v", err, f)
	}
	t.Logf("%q", said.lines)
	if !strings.Contains(strings.Join(said.lines, "\n"), "installing a compiler") {
		t.Error("nobody was told that a compiler was needed")
	}
	host, _, _ := strings.Cut(base, "/")
	img, err := remote.Image(ref(t, host+"/models@"+digest), remote.WithAuthFromKeychain(keychain{host}))
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(config, []byte(password)) {
		t.Errorf("the password is in the configuration: %s", config)
	}
	want := map[string]bool{"opt/mlflow/env/mine/__init__.py": false, "usr/lib/x86_64-linux-gnu/libgomp.so.1": false, "var/lib/dpkg/status": false, "opt/mlflow/env/compiled.cpython-311-x86_64-linux-gnu.so": false}
	files := mutate.Extract(img)
	defer func() { _ = files.Close() }()
	for archive := tar.NewReader(files); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := want[header.Name]; ok {
			want[header.Name] = true
		}
		if strings.HasSuffix(header.Name, "bin/gcc") {
			t.Errorf("the compiler is in the image: %s", header.Name)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(content, []byte(password+"@")) || bytes.Contains(content, []byte(x.host)) {
			t.Errorf("the password, or the index, is in %s", header.Name)
		}
	}
	for file, there := range want {
		if !there {
			t.Errorf("%s is not in the image", file)
		}
	}
}

func TestWhatABuildFailsOfIsTold(t *testing.T) {
	to, base := repository(t)
	x := serveIndex(t, map[string][]byte{"broken": source(t, "broken", "raise SystemExit('no libfrob on this machine')\n", nil)})
	apt := environment(base, "six==1.17.0")
	apt.Apt = []string{"libfrobnicate7"}
	private, err := registry.Open(to.Name(), registry.WithKeychain(authn.NewMultiKeychain()))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		e      image.Environment
		index  string
		to     *registry.Repository
		reason string
		says   string
	}{
		"a system package that is not there": {apt, x.url, to, "SystemPackagesFailed", "libfrobnicate7"},
		"source code that does not build":    {environment(base, "broken==1.0"), x.url, to, "BuildFailed", "broken"},
		"no such package":                    {environment(base, "kubectl-mlflow-has-no-such-package"), x.url, to, "PackageNotFound", "no-such-package"},
		"an index that wants a password":     {environment(base, "broken==1.0"), "http://" + x.host + "/simple", to, "PackageIndexUnauthorized", "credentials"},
		"a registry that wants one":          {environment(base, "six==1.17.0"), x.url, private, "RegistryUnauthorized", "without credentials"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("UV_INDEX", c.index)
			b := &docker.Builder{Getenv: os.Getenv, Cache: t.TempDir()}
			_, err := b.Build(t.Context(), c.e, c.to, progress.Discard{}.Start(""))
			f, ok := errors.AsType[*failure.Error](err)
			if !ok || f.Reason != c.reason || !strings.Contains(f.Error(), c.says) || strings.Contains(fmt.Sprint(f, f.Evidence), password) {
				t.Errorf("%v\n%+v", err, f)
			}
			left, err := os.ReadDir(b.Cache)
			if err != nil {
				t.Fatal(err)
			}
			for _, entry := range left {
				if entry.IsDir() {
					t.Errorf("%s is left", entry.Name())
				}
			}
		})
	}
}

// What is interrupted here ends in the engine, too.
func TestAnInterruptedBuildEndsInTheEngine(t *testing.T) {
	to, base := repository(t)
	x := serveIndex(t, map[string][]byte{})
	hanging := serveIndex(t, map[string][]byte{"slow": source(t, "slow", "import urllib.request\nurllib.request.urlopen('http://"+x.host+"/hang').read()\n", nil)})
	t.Setenv("UV_INDEX", hanging.url)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	b := &docker.Builder{Getenv: os.Getenv, Cache: t.TempDir()}
	done := make(chan error, 1)
	go func() {
		_, err := b.Build(ctx, environment(base, "slow==1.0"), to, progress.Discard{}.Start(""))
		done <- err
	}()
	select {
	case <-x.hang:
	case err := <-done:
		t.Fatalf("the build ended: %v", err)
	}
	began := time.Now()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	select {
	case <-x.gone:
	case <-time.After(30 * time.Second):
		t.Error("the build runs on in the engine")
	}
	t.Logf("ended after %.1f s", time.Since(began).Seconds())
}
