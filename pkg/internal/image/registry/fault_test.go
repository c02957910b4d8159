package registry_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image/registry"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// blobs are layers of 1 MiB each.
func blobs(t *testing.T, n int) (layers []v1.Layer) {
	t.Helper()
	for range n {
		l, err := random.Layer(1<<20, types.OCIUncompressedLayer)
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, l)
	}
	return layers
}

// A registry that dies while blobs are sent to it is told as that; what it has got is not sent again.
func TestAPushThatIsCutOffGoesOnWhereItWas(t *testing.T) {
	handler := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	var dead atomic.Bool
	var taken, sent atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPatch {
			handler.ServeHTTP(w, r)
			return
		}
		sent.Add(1)
		if dead.Load() && taken.Load() >= 3 {
			_, _ = io.CopyN(io.Discard, r.Body, 100<<10)
			panic(http.ErrAbortHandler)
		}
		taken.Add(1)
		handler.ServeHTTP(w, r)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(server.Close)
	repository := strings.TrimPrefix(server.URL, "http://") + "/models"
	layers := blobs(t, 6)
	dead.Store(true)
	err := open(t, repository).Upload(t.Context(), layers, progress.Discard{}.Start(""))
	if failure.ClassOf(err) != failure.Diagnosed || !strings.Contains(err.Error(), repository) {
		t.Fatalf("%v", err)
	}
	dead.Store(false)
	has := taken.Load()
	sent.Store(0)
	if err := open(t, repository).Upload(t.Context(), layers, progress.Discard{}.Start("")); err != nil {
		t.Fatal(err)
	}
	if want := int32(len(layers)) - has; has == 0 || sent.Load() != want {
		t.Errorf("of %d blobs the registry had %d, and %d were sent again, want %d", len(layers), has, sent.Load(), want)
	}
}

// One connection that breaks is no reason to give up.
func TestOneConnectionThatBreaksIsTriedAgain(t *testing.T) {
	handler := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	var broken atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPatch && !broken.Swap(true) {
			_, _ = io.CopyN(io.Discard, r.Body, 100<<10)
			panic(http.ErrAbortHandler)
		}
		handler.ServeHTTP(w, r)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(server.Close)
	if err := open(t, strings.TrimPrefix(server.URL, "http://")+"/models").Upload(t.Context(), blobs(t, 2), progress.Discard{}.Start("")); err != nil || !broken.Load() {
		t.Errorf("%v, broken %t", err, broken.Load())
	}
}

// A registry's tokens last minutes, and a push may last longer: they are asked for anew.
func TestATokenThatEndsDuringAPushIsRenewed(t *testing.T) {
	handler := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	var given, requests atomic.Int32
	var server *httptest.Server
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			_, _ = fmt.Fprintf(w, `{"token": "t%d"}`, given.Add(1))
			return
		}
		// Each token is good for five requests, whatever they are.
		if requests.Add(1)%5 == 0 || r.Header.Get("Authorization") != fmt.Sprintf("Bearer t%d", given.Load()) {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="registry"`, server.URL))
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	r, err := registry.Open(host+"/models", registry.WithKeychain(bob{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range blobs(t, 6) { // one after the other: the order of requests is known
		if err := r.Upload(t.Context(), []v1.Layer{l}, progress.Discard{}.Start("")); err != nil {
			t.Fatal(err)
		}
	}
	if given.Load() < 3 {
		t.Errorf("%d tokens were given", given.Load())
	}
}

type bob struct{}

func (bob) Resolve(authn.Resource) (authn.Authenticator, error) {
	return authn.FromConfig(authn.AuthConfig{Auth: base64.StdEncoding.EncodeToString([]byte("bob:hunter2"))}), nil
}
