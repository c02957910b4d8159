package deployments

import (
	"errors"
	"strings"
	"testing"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/serving"
)

func TestTheExampleOfWhatIsDeployed(t *testing.T) {
	const example = `{"inputs": [[5.1]]}`
	for name, c := range map[string]struct {
		uri     string
		example bool
		fails   string
	}{
		"with one":         {"models:/iris/3", true, ""},
		"without":          {"models:/iris/3", false, "logged without an input example"},
		"from a directory": {"file:iris", true, "from a directory"},
		"somebody else's":  {"", true, "does not say which model"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage()
			s.present = func() (serving.Deployment, error) {
				return serving.Deployment{Namespace: "models", Name: "iris", ModelURI: c.uri}, nil
			}
			if c.example {
				s.model["serving_input_example.json"] = example
			}
			got, err := s.client().Example(t.Context(), Request{Name: "iris"})
			if c.fails == "" {
				if err != nil || string(got) != example || !s.called("close") {
					t.Errorf("%q, %v, calls %q", got, err, s.calls)
				}
				return
			}
			f, ok := errors.AsType[*failure.Error](err)
			if !ok || f.Reason != "NoExample" || !strings.Contains(f.Message, c.fails) || f.Hint == "" {
				t.Errorf("%v", err)
			}
		})
	}
	s := newStage()
	gone := &failure.Error{Class: failure.Invalid, Reason: "DeploymentNotFound"}
	s.present = func() (serving.Deployment, error) { return serving.Deployment{}, gone }
	if _, err := s.client().Example(t.Context(), Request{Name: "iris"}); failure.ClassOf(err) != failure.Invalid {
		t.Errorf("no deployment: %v", err)
	}
}
