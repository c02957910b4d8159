package deployments

import (
	"slices"
	"strings"
	"testing"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
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
