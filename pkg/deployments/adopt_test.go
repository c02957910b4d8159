package deployments

import (
	"slices"
	"testing"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/serving"
)

func TestDeployAsksByTheNameThatClientsKnow(t *testing.T) {
	for _, r := range []Request{irisRequest(), {Namespace: "models", Name: "iris", Image: "registry.example.com/models/iris@sha256:1234"}} {
		for known, want := range map[string]string{"": "iris", "mlflow-model": "mlflow-model"} {
			s := newStage()
			s.labels = map[string]string{serving.ModelURIKey: "models:/iris/3", serving.EnvironmentKey: "e1"}
			s.present = func() (serving.Deployment, error) { return serving.Deployment{ModelName: known}, nil }
			r.Adopt = known != ""
			if _, err := s.client().Deploy(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			if s.spec.ReadyPath != "/v2/models/"+want+"/ready" || s.spec.Env["KUBECTL_MLFLOW_MODEL_NAME"] != want || s.spec.ModelName != known || s.spec.Adopt != r.Adopt {
				t.Errorf("known as %q: spec is %+v", known, s.spec)
			}
		}
	}
}

func TestToolThatKeepsTheServiceIsWarnedOf(t *testing.T) {
	s := newStage()
	s.keeper, s.action = "Argo CD", serving.Configured
	if _, err := s.client().Deploy(t.Context(), irisRequest()); err != nil {
		t.Fatal(err)
	}
	if want := "warning: service.serving.knative.dev/iris is kept by Argo CD, which may put its own version back"; !slices.Contains(s.said, want) {
		t.Errorf("said %q, want %q", s.said, want)
	}
}
