package image_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image/registry"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/model"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// fixture is a registry with a base image, and a maker in it.
type fixture struct {
	host   string
	asked  atomic.Int64
	maker  *image.Maker
	build  *builder
	base   string
	cache  string
	reader *files
}

// setUp makes a registry that answers each request after the latency.
func setUp(tb testing.TB, latency time.Duration) *fixture {
	tb.Helper()
	f := &fixture{build: &builder{}, cache: tb.TempDir()}
	handler := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.asked.Add(1)
		if latency > 0 {
			<-time.After(latency)
		}
		handler.ServeHTTP(w, r)
	}))
	tb.Cleanup(s.Close)
	f.host = strings.TrimPrefix(s.URL, "http://")
	config := &v1.ConfigFile{OS: "linux", Architecture: "amd64", RootFS: v1.RootFS{Type: "layers"}}
	img, err := mutate.ConfigFile(mutate.MediaType(empty.Image, types.OCIManifestSchema1), config)
	if err != nil {
		tb.Fatal(err)
	}
	ref, err := name.ParseReference(f.host + "/library/python:3.11-slim")
	if err != nil {
		tb.Fatal(err)
	}
	if err := remote.Write(ref, img); err != nil {
		tb.Fatal(err)
	}
	f.open(tb)
	f.base, err = f.maker.ResolveBase(tb.Context(), ref.String(), "3.11.7")
	if err != nil {
		tb.Fatal(err)
	}
	f.reader = &files{content: map[string]string{
		"MLmodel": "flavors: {}", "requirements.txt": "mlflow==3.17.2", "python_env.yaml": "python: 3.11.7",
		"conda.yaml": "name: mlflow-env", "model.skops": strings.Repeat("weights", 1000), "serving_input_example.json": "{}",
	}}
	return f
}

// open makes a maker that knows nothing, as each deploy does.
func (f *fixture) open(tb testing.TB) {
	tb.Helper()
	r, err := registry.Open(f.host+"/models", registry.WithKeychain(authn.NewMultiKeychain()))
	if err != nil {
		tb.Fatal(err)
	}
	f.maker = &image.Maker{Repository: r, Builders: []image.Builder{f.build}, Progress: progress.Discard{}, Cache: f.cache}
}

func (f *fixture) environment() image.Environment {
	return image.Environment{Base: f.base, Platform: "linux/amd64", Python: "3.11.7", Requirements: []string{"mlflow==3.17.2", "scikit-learn==1.9.1"}}
}

func (f *fixture) content(key string) image.Content {
	return image.Content{
		Key:      key,
		Model:    f.reader,
		Launcher: fstest.MapFS{"launcher.py": {Data: []byte("serve")}},
		Command:  []string{"python", "/opt/mlflow/launcher.py"},
		Labels:   map[string]string{"mlflow.kubectl/model-uri": "models:/iris/1"},
	}
}

func (f *fixture) make(tb testing.TB, c image.Content) image.Made {
	tb.Helper()
	f.open(tb)
	made, err := f.maker.Make(tb.Context(), f.environment(), c)
	if err != nil {
		tb.Fatal(err)
	}
	return made
}

// builder makes an environment of one layer.
type builder struct {
	refuses error
	built   atomic.Int32
	begun   chan struct{} // is told of each build, unless it is nil
	goOn    chan struct{} // is awaited by each build, unless it is nil
}

func (*builder) Name() string { return "test" }

func (b *builder) Check(context.Context, image.Environment) error { return b.refuses }

func (b *builder) Build(ctx context.Context, e image.Environment, to *registry.Repository, s progress.Step) (string, error) {
	b.built.Add(1)
	if b.begun != nil {
		b.begun <- struct{}{}
		<-b.goOn
	}
	return to.Append(ctx, e.Tag(), e.Base, registry.Addition{
		Platform: e.Platform,
		Layers:   []v1.Layer{static.NewLayer([]byte("environment"), types.OCIUncompressedLayer)},
	}, s)
}

// files is a model in memory.
type files struct {
	content map[string]string
	latency time.Duration
	opened  atomic.Int32
}

func (f *files) List(context.Context) ([]model.File, error) {
	var list []model.File
	for n, c := range f.content {
		list = append(list, model.File{Path: n, Size: int64(len(c))})
	}
	return list, nil
}

func (f *files) Open(_ context.Context, name string, _ int64) (io.ReadCloser, error) {
	f.opened.Add(1)
	if f.latency > 0 {
		<-time.After(f.latency)
	}
	return io.NopCloser(strings.NewReader(f.content[name])), nil
}

func TestTheEnvironmentIsBuiltOnceForAllVersions(t *testing.T) {
	f := setUp(t, 0)
	first := f.make(t, f.content("version 1"))
	if f.build.built.Load() != 1 || first.Environment == 0 {
		t.Errorf("built %d times, in %s", f.build.built.Load(), first.Environment)
	}
	f.reader.content["model.skops"] = "other weights"
	second := f.make(t, f.content("version 2"))
	if f.build.built.Load() != 1 || second.Environment != 0 {
		t.Errorf("built %d times, in %s", f.build.built.Load(), second.Environment)
	}
	if first.Ref == second.Ref || !strings.HasPrefix(second.Ref, f.host+"/models@sha256:") {
		t.Errorf("two models are %s and %s", first.Ref, second.Ref)
	}
}

func TestAnUnchangedModelIsNotRead(t *testing.T) {
	f := setUp(t, 0)
	first := f.make(t, f.content("version 1"))
	f.reader.opened.Store(0)
	f.asked.Store(0)
	again := f.make(t, f.content("version 1"))
	if again.Ref != first.Ref {
		t.Errorf("%s, then %s", first.Ref, again.Ref)
	}
	if n := f.reader.opened.Load(); n != 0 {
		t.Errorf("read %d files of a model that is there", n)
	}
	// Where the registry is (https and http), and one question each for image and environment.
	if n := f.asked.Load(); n > 4 {
		t.Errorf("asked the registry %d times", n)
	}
}

func TestARebuildMakesTheSameAnew(t *testing.T) {
	f := setUp(t, 0)
	first := f.make(t, f.content("version 1"))
	f.reader.opened.Store(0)
	anew := f.content("version 1")
	anew.Anew = true
	again := f.make(t, anew)
	if again.Ref != first.Ref || f.build.built.Load() != 2 || f.reader.opened.Load() == 0 {
		t.Errorf("%s, then %s; built %d times, read %d files", first.Ref, again.Ref, f.build.built.Load(), f.reader.opened.Load())
	}
}

// Also an image that was there gets the tag.
func TestOneMoreTag(t *testing.T) {
	f := setUp(t, 0)
	f.make(t, f.content("version 1"))
	tagged := f.content("version 1")
	tagged.Tag = "release-2"
	made := f.make(t, tagged)
	digest, ok, err := f.maker.Repository.Digest(t.Context(), "release-2")
	if err != nil || !ok || f.maker.Repository.At(digest) != made.Ref {
		t.Errorf("the tag is %s, %t, %v; want %s", digest, ok, err, made.Ref)
	}
}

func TestALocalDirectoryIsReadAndHasTheSameDigestAgain(t *testing.T) {
	f := setUp(t, 0)
	first := f.make(t, f.content(""))
	if again := f.make(t, f.content("")); again.Ref != first.Ref {
		t.Errorf("%s, then %s", first.Ref, again.Ref)
	}
	f.reader.content["model.skops"] = "other weights"
	if other := f.make(t, f.content("")); other.Ref == first.Ref {
		t.Error("another model has the same image")
	}
}

func TestTheSameModelIsTheSameImageInAnyRegistry(t *testing.T) {
	a, b := setUp(t, 0), setUp(t, 0)
	_, one, _ := strings.Cut(a.make(t, a.content("version 1")).Ref, "@")
	_, two, _ := strings.Cut(b.make(t, b.content("version 1")).Ref, "@")
	if one != two {
		t.Errorf("%s and %s", one, two)
	}
}

func TestAFurtherVersionTakesFewRoundTrips(t *testing.T) {
	f := setUp(t, 0)
	f.make(t, f.content("version 1"))
	f.asked.Store(0)
	f.reader.content["model.skops"] = "other weights"
	f.make(t, f.content("version 2"))
	// Two connections find the registry (https, http), 2 tags, the environment's manifest and configuration; model and configuration
	// take 4 requests each, the launcher is there; the manifest.
	if n := f.asked.Load(); n > 18 {
		t.Errorf("asked the registry %d times", n)
	}
}

func TestWhereNoBuilderCanTheReasonIsTold(t *testing.T) {
	f := setUp(t, 0)
	f.build.refuses = &failure.Error{Class: failure.Diagnosed, Reason: "BuilderCannot", Message: "it needs git"}
	_, err := f.maker.Make(t.Context(), f.environment(), f.content("version 1"))
	e, ok := errors.AsType[*failure.Error](err)
	if !ok || e.Class != failure.Diagnosed || !strings.Contains(err.Error(), "it needs git") {
		t.Errorf("got %v", err)
	}
	if f.build.built.Load() != 0 {
		t.Error("built all the same")
	}
}

func TestAFailedBuildStopsTheRest(t *testing.T) {
	f := setUp(t, 0)
	e := f.environment()
	e.Base = f.host + "/library/python@sha256:" + strings.Repeat("0", 64)
	_, err := f.maker.Make(t.Context(), e, f.content("version 1"))
	if failure.ClassOf(err) != failure.Invalid {
		t.Errorf("got %v, want failure.Invalid: the base is not there", err)
	}
}

// BenchmarkFurtherVersion is the image phase of a deploy whose environment is known, with a registry and a tracking server that
// answer each request after 20 ms.
func BenchmarkFurtherVersion(b *testing.B) {
	const latency = 20 * time.Millisecond
	f := setUp(b, latency)
	f.reader.latency = latency
	f.make(b, f.content("version 0"))
	for i := 0; b.Loop(); i++ {
		f.reader.content["model.skops"] = strings.Repeat("weights", 1000) + time.Now().String()
		f.make(b, f.content(time.Now().String()))
	}
}

// named is a builder that refuses in its own way.
type named struct {
	*builder
	name string
	fail error // of Build
}

func (n *named) Name() string { return n.name }

func (n *named) Build(ctx context.Context, e image.Environment, to *registry.Repository, s progress.Step) (string, error) {
	if n.fail != nil {
		return "", n.fail
	}
	return n.builder.Build(ctx, e, to, s)
}

// What has no wheel is left to the next builder; where that cannot build, both say why, and the first is about the model.
func TestTheNextBuilderBuildsWhatHasNoWheel(t *testing.T) {
	noWheel := &failure.Error{Class: failure.Diagnosed, Reason: "NoWheel", Message: "fire has no wheel", Hint: "log it again", Evidence: []string{"uv's words"}}
	unfit := &failure.Error{Class: failure.Diagnosed, Reason: "BuilderCannot", Message: "git+https is source code"}
	away := &failure.Error{Class: failure.Diagnosed, Reason: "DockerUnreachable", Message: "no engine answers"}
	full := &failure.Error{Class: failure.Diagnosed, Reason: "DiskFull", Message: "the disk is full"}
	for name, c := range map[string]struct {
		first, firstBuilds, second error
		only                       string
		builtBy                    string // "" for a failure
		reason                     string
		evidence                   string
	}{
		"the first":                       {builtBy: "uv"},
		"the first cannot":                {first: unfit, builtBy: "docker"},
		"the first finds no wheel":        {firstBuilds: noWheel, builtBy: "docker"},
		"the first fails":                 {firstBuilds: full, reason: "DiskFull"},
		"neither can":                     {first: unfit, second: away, reason: "BuilderCannot", evidence: "docker: no engine answers"},
		"no wheel, and the second cannot": {firstBuilds: noWheel, second: away, reason: "NoWheel", evidence: "docker: no engine answers"},
		"the first alone":                 {firstBuilds: noWheel, only: "uv", reason: "NoWheel", evidence: "uv's words"},
		"the second alone":                {only: "docker", builtBy: "docker"},
		"the second alone, away":          {only: "docker", second: away, reason: "DockerUnreachable"},
	} {
		t.Run(name, func(t *testing.T) {
			f := setUp(t, 0)
			one := &named{&builder{refuses: c.first}, "uv", c.firstBuilds}
			two := &named{&builder{refuses: c.second}, "docker", nil}
			f.open(t)
			f.maker.Builders = []image.Builder{one, two}
			content := f.content("key")
			content.Builder = c.only
			_, err := f.maker.Make(t.Context(), f.environment(), content)
			if c.builtBy != "" {
				by := map[bool]string{true: "uv", false: "docker"}[one.built.Load() > 0]
				if err != nil || by != c.builtBy || one.built.Load()+two.built.Load() != 1 {
					t.Errorf("%v, built by %s", err, by)
				}
				return
			}
			e, ok := errors.AsType[*failure.Error](err)
			if !ok || e.Reason != c.reason || !strings.Contains(strings.Join(e.Evidence, "|"), c.evidence) {
				t.Errorf("%+v", e)
			}
		})
	}
}
