package deployments

import (
	"slices"
	"strings"
	"testing"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/readiness"
)

func TestWaitIsForTheServiceAndAllItsPods(t *testing.T) {
	s := newStage()
	var waited []string
	crashes := &failure.Error{Class: failure.Diagnosed, Reason: "CrashLoop", Message: "it crashes"}
	s.wait = func(targets []readiness.Target) error {
		for _, target := range targets {
			waited = append(waited, target.Object.Namespace+" "+target.Object.String()+" "+target.Pods.String())
		}
		return crashes
	}
	if err := s.client().Wait(t.Context(), "", "iris"); failure.ClassOf(err) != failure.Diagnosed {
		t.Errorf("got %v", err)
	}
	if want := []string{"models service.serving.knative.dev/iris serving.knative.dev/service=iris"}; !slices.Equal(waited, want) {
		t.Errorf("waited for %q, want %q", waited, want)
	}
	if err := s.client().Wait(t.Context(), "", "Iris!"); failure.ClassOf(err) != failure.Invalid || !strings.Contains(err.Error(), "Iris!") {
		t.Errorf("got %v", err)
	}
}
