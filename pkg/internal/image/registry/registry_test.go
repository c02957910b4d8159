package registry_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image/registry"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// server is a registry in memory that remembers what it was asked.
type server struct {
	host string
	// separate repositories, as in real registries: a blob is in the one that it was sent to, and is mounted from another on demand.
	separate bool

	mu    sync.Mutex
	asked []string
}

func serve(t *testing.T) *server {
	t.Helper()
	s := &server{}
	handler := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.asked = append(s.asked, r.Method+" "+r.URL.RequestURI())
		s.mu.Unlock()
		if s.separate && r.Method == http.MethodHead && strings.Contains(r.URL.Path, "/models/blobs/") {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		if s.separate && r.URL.Query().Get("mount") != "" {
			w.WriteHeader(http.StatusCreated)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(h.Close)
	s.host = strings.TrimPrefix(h.URL, "http://")
	return s
}

func (s *server) count(method, part string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.asked {
		if strings.HasPrefix(a, method+" ") && strings.Contains(a, part) {
			n++
		}
	}
	return n
}

func (s *server) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = nil
}

func open(t *testing.T, repository string) *registry.Repository {
	t.Helper()
	r, err := registry.Open(repository, registry.WithKeychain(authn.NewMultiKeychain()))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// base writes an image with two layers for linux/amd64 and returns its name by digest.
func base(t *testing.T, repository string, kind types.MediaType) string {
	t.Helper()
	img := mutate.MediaType(empty.Image, kind)
	for i := range 2 {
		l, err := random.Layer(1000, types.DockerLayer)
		if err != nil {
			t.Fatal(err)
		}
		if img, err = mutate.AppendLayers(img, l); err != nil {
			t.Fatal(i, err)
		}
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	config.Config = v1.Config{Env: []string{"PATH=/usr/bin", "PYTHON_VERSION=3.11.9"}, Cmd: []string{"python3"}}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(repository + ":3.11-slim")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img); err != nil {
		t.Fatal(err)
	}
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return repository + "@" + d.String()
}

func addition() registry.Addition {
	return registry.Addition{
		Platform:   "linux/amd64",
		Layers:     []v1.Layer{static.NewLayer([]byte("layer"), types.OCIUncompressedLayer)},
		Entrypoint: []string{"python", "launcher.py"},
		Env:        map[string]string{"PATH": "/usr/bin:/opt/bin", "PYTHONPATH": "/opt"},
		User:       "1000:1000",
		Labels:     map[string]string{"version": "3"},
	}
}

func TestOpenTellsTheRightForm(t *testing.T) {
	for _, c := range []struct{ name, hint string }{
		{"https://registry.example.com/models", "leave out https://"},
		{"registry.example.com/models:latest", "leave out tag"},
		{"registry.example.com/Models", "lower case"},
		{"registry.example.com/", "registry.example.com/team/models"},
	} {
		_, err := registry.Open(c.name)
		e, ok := errors.AsType[*failure.Error](err)
		if !ok || e.Class != failure.Invalid || !strings.Contains(e.Hint, c.hint) {
			t.Errorf("%s: %v, want failure.Invalid with the hint %q", c.name, err, c.hint)
		}
	}
}

func TestAppendPutsLayersOnABase(t *testing.T) {
	for _, kind := range []types.MediaType{types.OCIManifestSchema1, types.DockerManifestSchema2} {
		t.Run(string(kind), func(t *testing.T) {
			s := serve(t)
			from := base(t, s.host+"/library/python", kind)
			r := open(t, s.host+"/models")
			digest, err := r.Append(t.Context(), "m-1", from, addition(), progress.Discard{}.Start(""))
			if err != nil {
				t.Fatal(err)
			}
			got, ok, err := r.Digest(t.Context(), "m-1")
			if err != nil || !ok || got != digest {
				t.Errorf("the tag has %s, %v, %v; want %s", got, ok, err, digest)
			}
			config, err := r.Config(t.Context(), r.At(digest), "linux/amd64")
			if err != nil {
				t.Fatal(err)
			}
			c := config.Config
			if fmt.Sprintf("%v %v %v %s", c.Entrypoint, c.Cmd, c.Env, c.User) != "[python launcher.py] [] [PYTHON_VERSION=3.11.9 PATH=/usr/bin:/opt/bin PYTHONPATH=/opt] 1000:1000" {
				t.Errorf("entrypoint, arguments, environment, user: %v %v %v %v", c.Entrypoint, c.Cmd, c.Env, c.User)
			}
			if c.Labels["version"] != "3" || config.Created.Unix() != 0 || len(config.RootFS.DiffIDs) != 3 {
				t.Errorf("labels %v, created %v, %d layers", c.Labels, config.Created, len(config.RootFS.DiffIDs))
			}
			// All of it can be read back: the base's layers came along.
			ref, err := name.ParseReference(r.At(digest))
			if err != nil {
				t.Fatal(err)
			}
			img, err := remote.Image(ref)
			if err != nil {
				t.Fatal(err)
			}
			layers, err := img.Layers()
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range layers {
				in, err := l.Compressed()
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, in); err != nil {
					t.Error(err)
				}
				if err := in.Close(); err != nil {
					t.Error(err)
				}
			}
			manifest, err := img.Manifest()
			if err != nil {
				t.Fatal(err)
			}
			docker := strings.Contains(string(manifest.Layers[2].MediaType), "docker")
			if docker != (kind == types.DockerManifestSchema2) {
				t.Errorf("a layer of type %s in a manifest of type %s", manifest.Layers[2].MediaType, kind)
			}
		})
	}
}

func TestTheSameInputHasTheSameDigestInAnyRegistry(t *testing.T) {
	s, other := serve(t), serve(t)
	from := base(t, s.host+"/library/python", types.OCIManifestSchema1)
	var digests [2]string
	for i, host := range []string{s.host, other.host} {
		d, err := open(t, host+"/models").Append(t.Context(), "m-1", from, addition(), progress.Discard{}.Start(""))
		if err != nil {
			t.Fatal(err)
		}
		digests[i] = d
	}
	if digests[0] != digests[1] {
		t.Errorf("%v", digests)
	}
}

func TestABaseInTheSameRegistryIsMounted(t *testing.T) {
	s := serve(t)
	from := base(t, s.host+"/library/python", types.OCIManifestSchema1)
	s.forget()
	s.separate = true
	if _, err := open(t, s.host+"/models").Append(t.Context(), "m-1", from, addition(), progress.Discard{}.Start("")); err != nil {
		t.Fatal(err)
	}
	if n := s.count("GET", "library/python/blobs"); n != 1 {
		t.Errorf("read %d blobs of the base, want its configuration alone", n)
	}
	if n := s.count("POST", "from=library%2Fpython"); n != 2 {
		t.Errorf("asked to mount %d layers of 2: %q", n, s.asked)
	}
}

func TestAppendSendsNothingTwice(t *testing.T) {
	s := serve(t)
	from := base(t, s.host+"/models", types.OCIManifestSchema1)
	if _, err := open(t, s.host+"/models").Append(t.Context(), "m-1", from, addition(), progress.Discard{}.Start("")); err != nil {
		t.Fatal(err)
	}
	s.forget()
	if _, err := open(t, s.host+"/models").Append(t.Context(), "m-2", from, addition(), progress.Discard{}.Start("")); err != nil {
		t.Fatal(err)
	}
	if n := s.count("PATCH", ""); n != 0 {
		t.Errorf("sent %d blobs that were there", n)
	}
	if n := s.count("HEAD", "/blobs/"); n != 2 {
		t.Errorf("asked for %d blobs, want the layer and the configuration: the base is in this repository", n)
	}
}

func TestDigestOfWhatIsNotThere(t *testing.T) {
	s := serve(t)
	if d, ok, err := open(t, s.host+"/models").Digest(t.Context(), "m-1"); ok || err != nil || d != "" {
		t.Errorf("got %q, %v, %v", d, ok, err)
	}
}

func TestResolveAndPlatforms(t *testing.T) {
	s := serve(t)
	r := open(t, s.host+"/models")
	from := base(t, s.host+"/library/python", types.OCIManifestSchema1)
	got, err := r.Resolve(t.Context(), s.host+"/library/python:3.11-slim")
	if err != nil || got != from {
		t.Errorf("got %s, %v; want %s", got, err, from)
	}
	s.forget()
	if again, err := r.Resolve(t.Context(), from); err != nil || again != from || len(s.asked) > 0 {
		t.Errorf("a digest costs %v, %v", s.asked, err)
	}
	_, err = r.Config(t.Context(), from, "linux/arm64")
	if failure.ClassOf(err) != failure.Invalid || !strings.Contains(err.Error(), "linux/amd64") {
		t.Errorf("an image for amd64 as one for arm64: %v", err)
	}
	_, err = r.Resolve(t.Context(), s.host+"/library/python:3.99-slim")
	e, ok := errors.AsType[*failure.Error](err)
	if !ok || e.Reason != "BaseImageNotFound" || !strings.Contains(e.Hint, "--base-image") {
		t.Errorf("a base that is not there: %v", err)
	}
}

func TestCheckPushBeginsAnUploadAndCancelsIt(t *testing.T) {
	s := serve(t)
	if err := open(t, s.host+"/models").CheckPush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.count("POST", "/blobs/uploads/") != 1 || s.count("DELETE", "/blobs/uploads/") != 1 || s.count("PATCH", "") != 0 {
		t.Errorf("asked %v", s.asked)
	}
}

func TestCheckPushSaysWhyNot(t *testing.T) {
	answer := func(status int, code string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/v2/" {
				if _, _, ok := r.BasicAuth(); !ok && status == http.StatusUnauthorized {
					w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
					w.WriteHeader(http.StatusUnauthorized)
				}
				return
			}
			w.WriteHeader(status)
			if _, err := fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"no"}]}`, code); err != nil {
				panic(http.ErrAbortHandler) // the client sees a broken answer
			}
		}
	}
	for _, c := range []struct {
		name    string
		handler http.HandlerFunc
		class   failure.Class
		reason  string
		message string
		hint    string
	}{
		{"401", answer(401, "UNAUTHORIZED"), failure.Forbidden, "RegistryUnauthorized", `as user "bob"`, "kubectl mlflow registry login 127.0.0.1"},
		{"403", answer(403, "DENIED"), failure.Forbidden, "RegistryForbidden", `as user "bob"`, "--image-repository"},
		{"unknown", answer(404, "NAME_UNKNOWN"), failure.Diagnosed, "ImageRepositoryUnknown", "does not have it", "create the repository team/models"},
		{"405", answer(405, "UNSUPPORTED"), failure.Diagnosed, "RegistryReadOnly", "read-only", "--image-repository"},
		{"429", answer(429, "TOOMANYREQUESTS"), failure.Diagnosed, "RegistryRateLimit", "limits", "later"},
		{"no registry", http.NotFound, failure.Diagnosed, "NotARegistry", "not as an image registry", "port"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := httptest.NewServer(c.handler)
			defer s.Close()
			repository := strings.TrimPrefix(s.URL, "http://") + "/team/models"
			r, err := registry.Open(repository, registry.WithKeychain(keychain{"bob", "hunter2"}))
			if err != nil {
				t.Fatal(err)
			}
			explained(t, r.CheckPush(t.Context()), repository, c.class, c.reason, c.message, c.hint)
		})
	}
	t.Run("nobody listens", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		repository := l.Addr().String() + "/team/models"
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		explained(t, open(t, repository).CheckPush(t.Context()), repository, failure.Diagnosed, "RegistryUnreachable", "nothing listens", "port")
	})
	t.Run("broken helper", func(t *testing.T) {
		r, err := registry.Open("127.0.0.1:1/team/models", registry.WithKeychain(brokenKeychain{}))
		if err != nil {
			t.Fatal(err)
		}
		explained(t, r.CheckPush(t.Context()), "127.0.0.1:1/team/models", failure.Forbidden, "RegistryCredentialsUnreadable", "cannot be read", "registry login")
	})
	t.Run("interrupted", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := open(t, "127.0.0.1:1/team/models").CheckPush(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

func explained(t *testing.T, err error, repository string, class failure.Class, reason, message, hint string) {
	t.Helper()
	e, ok := errors.AsType[*failure.Error](err)
	if !ok {
		t.Fatalf("got %v", err)
	}
	if e.Class != class || e.Reason != reason || !strings.Contains(e.Message, message) || !strings.Contains(e.Hint, hint) {
		t.Errorf("got %s %s: %s; %s", e.Class, e.Reason, e.Message, e.Hint)
	}
	if !strings.Contains(e.Message, repository) {
		t.Errorf("%q does not name %s", e.Message, repository)
	}
	all := fmt.Sprint(e.Error(), e.Hint, e.Evidence)
	if strings.Contains(all, "hunter2") || strings.Contains(all, base64.StdEncoding.EncodeToString([]byte("bob:hunter2"))) {
		t.Errorf("a password in %q", all)
	}
}

type keychain struct{ user, password string }

func (k keychain) Resolve(authn.Resource) (authn.Authenticator, error) {
	return authn.FromConfig(authn.AuthConfig{Username: k.user, Password: k.password}), nil
}

type brokenKeychain struct{}

func (brokenKeychain) Resolve(authn.Resource) (authn.Authenticator, error) {
	return nil, errors.New("exec: docker-credential-desktop: not found")
}

func TestUploadReportsBytes(t *testing.T) {
	s := serve(t)
	l, err := random.Layer(100_000, types.OCILayer)
	if err != nil {
		t.Fatal(err)
	}
	size, err := l.Size()
	if err != nil {
		t.Fatal(err)
	}
	step := &recorder{}
	sum := registry.NewSum(step)
	if err := open(t, s.host+"/models").Upload(t.Context(), []v1.Layer{l}, sum.Part()); err != nil {
		t.Fatal(err)
	}
	if step.n != size || step.total != size {
		t.Errorf("reported %d of %d bytes, sent %d", step.n, step.total, size)
	}
}

type recorder struct{ n, total int64 }

func (*recorder) Note(string)            {}
func (*recorder) End(error)              {}
func (r *recorder) Bytes(n, total int64) { r.n, r.total = n, total }

func TestTag(t *testing.T) {
	s := serve(t)
	repository := s.host + "/team/models"
	r := open(t, repository)
	push := func(tag, label string) string {
		t.Helper()
		a := addition()
		a.Labels = map[string]string{"version": label}
		digest, err := r.Append(t.Context(), tag, base(t, s.host+"/python", types.DockerManifestSchema2), a, progress.Discard{}.Start(""))
		if err != nil {
			t.Fatal(err)
		}
		return digest
	}
	one, two := push("one", "1"), push("two", "2")
	for _, digest := range []string{one, two, one} { // made, moved, moved back
		if err := r.Tag(t.Context(), digest, "release"); err != nil {
			t.Fatal(err)
		}
		if got, ok, err := r.Digest(t.Context(), "release"); err != nil || !ok || got != digest {
			t.Errorf("the tag is %s, %t, %v; want %s", got, ok, err, digest)
		}
	}
	s.forget()
	if err := r.Tag(t.Context(), one, "release"); err != nil || s.count("PUT", "") != 0 {
		t.Errorf("what it is already is written again: %v", err)
	}
	if err := r.CheckTag("v1.2_x-3"); err != nil {
		t.Error(err)
	}
	if err := r.CheckTag("a:b"); failure.ClassOf(err) != failure.Invalid {
		t.Errorf("a:b is a tag: %v", err)
	}
}

// Registries whose tags do not move say it in their own ways.
func TestATagThatDoesNotMove(t *testing.T) {
	for name, answer := range map[string]struct {
		code int
		text string
	}{
		"ECR":               {400, `{"errors": [{"code": "TAG_INVALID", "message": "The image tag 'release' already exists in the 'models' repository and cannot be overwritten because the repository is immutable."}]}`},
		"Artifact Registry": {409, `{"errors": [{"code": "UNKNOWN", "message": "cannot update tag release. The repository has enabled tag immutability"}]}`},
		"Harbor":            {412, `{"errors": [{"code": "PRECONDITION", "message": "Failed to process request due to 'models:release' configured as immutable."}]}`},
	} {
		t.Run(name, func(t *testing.T) {
			handler := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
			fixed := false
			h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if fixed && r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/manifests/release") {
					w.WriteHeader(answer.code)
					_, _ = io.WriteString(w, answer.text)
					return
				}
				handler.ServeHTTP(w, r)
			}))
			t.Cleanup(h.Close)
			host := strings.TrimPrefix(h.URL, "http://")
			r := open(t, host+"/models")
			from := base(t, host+"/models", types.DockerManifestSchema2)
			_, first, _ := strings.Cut(from, "@")
			if err := r.Tag(t.Context(), first, "release"); err != nil {
				t.Fatal(err)
			}
			digest, err := r.Append(t.Context(), "other", from, addition(), progress.Discard{}.Start(""))
			if err != nil {
				t.Fatal(err)
			}
			fixed = true
			err = r.Tag(t.Context(), digest, "release")
			e, ok := errors.AsType[*failure.Error](err)
			if !ok || e.Class != failure.Refused || e.Reason != "ImageTagImmutable" || !strings.Contains(e.Message, host+"/models:release") || !strings.Contains(strings.Join(e.Evidence, " "), first) {
				t.Errorf("got %+v", err)
			}
			// What is made anew is pushed all the same, and the tag stays.
			anew := addition()
			anew.Labels = map[string]string{"made": "anew"}
			digest, err = r.Append(t.Context(), "release", from, anew, progress.Discard{}.Start(""))
			if err != nil {
				t.Fatal(err)
			}
			if config, err := r.Config(t.Context(), r.At(digest), "linux/amd64"); err != nil || config.Config.Labels["made"] != "anew" {
				t.Errorf("the image made anew: %+v, %v", config, err)
			}
			if now, _, err := r.Digest(t.Context(), "release"); err != nil || now != first {
				t.Errorf("the tag is %s, %v", now, err)
			}
		})
	}
}
