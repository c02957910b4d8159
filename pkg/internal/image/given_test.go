package image_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/model"
)

// give puts an image into the registry, in another repository than the maker's.
func (f *fixture) give(t *testing.T, architecture string, config v1.Config) string {
	t.Helper()
	img, err := mutate.ConfigFile(mutate.MediaType(empty.Image, types.OCIManifestSchema1), &v1.ConfigFile{OS: "linux", Architecture: architecture, Config: config})
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(f.host + "/team/environment:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img); err != nil {
		t.Fatal(err)
	}
	return ref.String()
}

// described is the configuration of an environment that we have built.
func described(requirements ...string) v1.Config {
	e := image.Environment{Base: "python@sha256:aa", Platform: "linux/amd64", Python: "3.11.9", Requirements: requirements}
	return v1.Config{Labels: map[string]string{image.DescriptionLabel: e.Description()}}
}

func TestWhatAGivenEnvironmentTellsOfItself(t *testing.T) {
	f := setUp(t, 0)
	for what, c := range map[string]struct {
		architecture string
		config       v1.Config
		refused      string
		doubts       []string // a part of each
	}{
		"the very one":       {"amd64", described("scikit-learn == 1.9.1", "mlflow==3.17.2", "pandas"), "", nil},
		"another version":    {"amd64", described("scikit-learn==1.9.0", "mlflow==3.17.2"), "scikit-learn 1.9.0 instead of 1.9.1", nil},
		"a range":            {"amd64", described("scikit-learn>=1.9", "mlflow==3.17.2"), "", []string{"scikit-learn 1.9.1"}},
		"one package less":   {"amd64", described("mlflow==3.17.2"), "", []string{"does not say whether it has scikit-learn,"}},
		"foreign":            {"amd64", v1.Config{Env: []string{"PYTHON_VERSION=3.11.2"}}, "", []string{"which packages it has; the model needs mlflow, scikit-learn"}},
		"foreign and silent": {"amd64", v1.Config{}, "", []string{"which Python it has; the model needs 3.11", "which packages it has"}},
		"another Python":     {"amd64", v1.Config{Env: []string{"PYTHON_VERSION=3.12.2"}}, "has Python 3.12, and the model needs 3.11", nil},
		"another platform":   {"arm64", described("mlflow==3.17.2"), "linux/arm64", nil},
	} {
		given, doubts, err := f.maker.Given(t.Context(), f.give(t, c.architecture, c.config), f.environment())
		switch {
		case c.refused != "":
			if failure.ClassOf(err) != failure.Invalid || !strings.Contains(err.Error(), c.refused) {
				t.Errorf("%s: %v, want failure.Invalid with %q", what, err, c.refused)
			}
			continue
		case err != nil || !strings.Contains(given.Image, "/team/environment@sha256:"):
			t.Errorf("%s: %+v, %v", what, given, err)
		case len(doubts) != len(c.doubts):
			t.Errorf("%s: doubts %q, want %q", what, doubts, c.doubts)
		}
		for i, want := range c.doubts {
			if !strings.Contains(fmt.Sprint(doubts[min(i, len(doubts)-1):]), want) {
				t.Errorf("%s: doubts %q, want %q", what, doubts, want)
			}
		}
	}
	e := f.environment()
	e.Wheels = []model.Wheel{{Path: "wheels/mine-1.0-py3-none-any.whl", SHA256: "aa"}}
	_, doubts, err := f.maker.Given(t.Context(), f.give(t, "amd64", described(e.Requirements...)), e)
	if err != nil || len(doubts) != 1 || !strings.Contains(doubts[0], "the model's wheels/mine-1.0-py3-none-any.whl") {
		t.Errorf("a wheel of the model: %q, %v", doubts, err)
	}
}

func TestAGivenEnvironmentIsNotBuilt(t *testing.T) {
	f := setUp(t, 0)
	of := described("scikit-learn==1.9.1", "mlflow==3.17.2")
	of.Env = []string{"MARK=given"}
	given, _, err := f.maker.Given(t.Context(), f.give(t, "amd64", of), f.environment())
	if err != nil {
		t.Fatal(err)
	}
	made, err := f.maker.Make(t.Context(), given, f.content("1"))
	if err != nil {
		t.Fatal(err)
	}
	config, err := f.maker.Repository.Config(t.Context(), made.Ref, "linux/amd64")
	if err != nil {
		t.Fatal(err)
	}
	if n := f.build.built.Load(); n != 0 || len(config.Config.Env) != 1 || config.Config.Env[0] != "MARK=given" {
		t.Errorf("built %d times, on %v", n, config.Config.Env)
	}
	if l := config.Config.Labels; l[image.EnvironmentLabel] != given.Key() || l[image.DescriptionLabel] != of.Labels[image.DescriptionLabel] {
		t.Errorf("labels %v", l)
	}
	other := given
	other.Image = "registry.example.com/a@sha256:" + strings.Repeat("1", 64)
	if other.Key() == given.Key() {
		t.Error("another image must change the key")
	}
	other.Image = "mirror.example.com/b" + given.Image[strings.Index(given.Image, "@"):]
	if other.Python, other.Requirements = "", []string{"more"}; other.Key() != given.Key() {
		t.Error("what is in the image is what its digest says, wherever it is")
	}
}
