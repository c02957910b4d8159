package deployments

import (
	"slices"
	"strings"
	"testing"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/serving"
)

func TestWheelsOfTheModelAreOfItsEnvironment(t *testing.T) {
	s := newStage()
	s.model["requirements.txt"] = "mlflow==3.17.2\nwheels/mine-1.0-py3-none-any.whl\n"
	_, err := s.client().Deploy(t.Context(), Request{Name: "iris", ModelURI: "models:/iris/3", ImageRepository: "registry.example.com/models/iris"})
	if failure.ClassOf(err) != failure.Invalid || !strings.Contains(err.Error(), "wheels/mine-1.0-py3-none-any.whl") || s.called("make") {
		t.Errorf("a wheel that is not there: %v, calls %q", err, s.calls)
	}
	s.model["wheels/mine-1.0-py3-none-any.whl"] = "a wheel"
	if _, err := s.client().Deploy(t.Context(), Request{Name: "iris", ModelURI: "models:/iris/3", ImageRepository: "registry.example.com/models/iris"}); err != nil {
		t.Fatal(err)
	}
	if w := s.environment.Wheels; len(w) != 1 || w[0].Path != "wheels/mine-1.0-py3-none-any.whl" || len(w[0].SHA256) != 64 {
		t.Errorf("wheels are %+v", w)
	}
}

func TestWhatCondaWouldInstallIsNamed(t *testing.T) {
	s := newStage()
	delete(s.model, "requirements.txt")
	delete(s.model, "python_env.yaml")
	s.model["conda.yaml"] = "dependencies: [python=3.10.4, cudatoolkit=11.8, {pip: [mlflow==3.17.2, scikit-learn==1.7.2]}]\n"
	if _, err := s.client().Deploy(t.Context(), Request{Name: "iris", ModelURI: "models:/iris/3", ImageRepository: "registry.example.com/models/iris"}); err != nil {
		t.Fatal(err)
	}
	if e := s.environment; e.Base != "python:3.10.4@sha256:ba5e" || !slices.Equal(e.Requirements, []string{"mlflow==3.17.2", "scikit-learn==1.7.2"}) {
		t.Errorf("environment is %+v", e)
	}
	if !slices.ContainsFunc(s.said, func(text string) bool { return strings.Contains(text, "cudatoolkit=11.8") }) {
		t.Errorf("nobody is told of what conda would install: %q", s.said)
	}
}

func TestPyTorchIsTheCPUsUnlessAskedOtherwise(t *testing.T) {
	for asked, want := range map[string]string{"": "cpu", "cu126": "cu126"} {
		s := newStage()
		r := Request{Name: "iris", ModelURI: "models:/iris/3", ImageRepository: "registry.example.com/models/iris", TorchBackend: asked}
		if _, err := s.client().Deploy(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if s.environment.TorchBackend != want {
			t.Errorf("asked for %q, the backend is %q", asked, s.environment.TorchBackend)
		}
	}
}

func TestAnEnvironmentThatIsGiven(t *testing.T) {
	s := newStage()
	r := Request{Name: "iris", ModelURI: "models:/iris/3", ImageRepository: "registry.example.com/models/iris", EnvironmentImage: "registry.example.com/env"}
	if _, err := s.client().Deploy(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if e := s.environment; e.Image != "registry.example.com/env@sha256:9e4" || e.Base != "" {
		t.Errorf("environment is %+v", e)
	}
	if !slices.Contains(s.said, "warning: registry.example.com/env is doubtful") {
		t.Errorf("nobody is told of doubts: %q", s.said)
	}
	for _, change := range []func(*Request){
		func(r *Request) { r.BaseImage = "python:3.11" },
		func(r *Request) { r.TorchBackend = "cpu" },
		func(r *Request) { r.EnvironmentImage, r.TorchBackend = "", "auto" },
	} {
		wrong := r
		change(&wrong)
		if err := wrong.Validate(); failure.ClassOf(err) != failure.Invalid {
			t.Errorf("%+v: %v, want failure.Invalid", wrong, err)
		}
	}
}

func TestWhichImageIsThereNowIsKnownToTheMaker(t *testing.T) {
	s := newStage()
	s.present = func() (serving.Deployment, error) {
		return serving.Deployment{Image: "registry.example.com/models/iris@sha256:1111"}, nil
	}
	if _, err := s.client().Deploy(t.Context(), Request{Name: "iris", ModelURI: "models:/iris/3", ImageRepository: "registry.example.com/models/iris"}); err != nil {
		t.Fatal(err)
	}
	if got, err := s.content.Present(t.Context()); got != "registry.example.com/models/iris@sha256:1111" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}
