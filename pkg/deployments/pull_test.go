package deployments

import (
	"strings"
	"testing"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image/registry"
)

func TestPullIsCheckedBeforeAnyWork(t *testing.T) {
	const repository = "registry.example.com/models"
	for name, c := range map[string]struct {
		answer registry.Pull
		pods   pullers
		fails  string // in the failure
		says   string // in a warning
	}{
		"allowed":                       {answer: registry.Pull{Allowed: true}},
		"a Secret that is not accepted": {answer: registry.Pull{Denied: true, Secrets: "regcred"}, fails: "regcred of service account robot"},
		"no Secret":                     {answer: registry.Pull{}, says: "service account robot in namespace models has no pull secret"},
		"no Secret, but pulled before":  {answer: registry.Pull{}, pods: pullers{image: repository + "@sha256:1"}},
		"no Secret, and another image":  {answer: registry.Pull{}, pods: pullers{image: repository + "/iris@sha256:1"}, says: "has no pull secret"},
		"Secrets that cannot be seen":   {answer: registry.Pull{}, pods: pullers{unseen: "you may not read secret regcred"}},
		"one denied, others unseen":     {answer: registry.Pull{Denied: true, Secrets: "regcred"}, pods: pullers{unseen: "you may not read secret other"}},
		"a cloud's own":                 {answer: registry.Pull{Cloud: true}},
		"a Secret, beside a cloud's":    {answer: registry.Pull{Denied: true, Secrets: "old", Cloud: true}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage()
			s.pull, s.pods = c.answer, c.pods
			s.pods.account = "robot"
			_, err := s.client().Deploy(t.Context(), Request{Name: "iris", ModelURI: "models:/iris/3", ImageRepository: repository})
			if c.fails == "" {
				if err != nil {
					t.Error(err)
				}
			} else if failure.ClassOf(err) != failure.Forbidden || !strings.Contains(err.Error(), c.fails) || s.called("make") {
				t.Errorf("%v, made %t", err, s.called("make"))
			}
			if said := strings.Join(s.said, "\n"); !strings.Contains(said, c.says) || c.says == "" && strings.Contains(said, "Warning") {
				t.Errorf("said %q", said)
			}
		})
	}
}

// Who builds without a cluster's name has nobody that pulls.
func TestBuildAsksNobodyWhetherPodsMayPull(t *testing.T) {
	s := newStage()
	s.pull = registry.Pull{Denied: true, Secrets: "regcred"}
	if _, err := s.client().Build(t.Context(), Request{Name: "iris", ModelURI: "models:/iris/3", ImageRepository: "registry.example.com/models"}); err != nil {
		t.Error(err)
	}
}
