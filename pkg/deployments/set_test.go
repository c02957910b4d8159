package deployments

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/serving"
)

func two() Set {
	iris, wine := irisRequest(), irisRequest()
	wine.Name = "wine"
	return Set{Name: "fraud", Requests: []Request{iris, wine}, Prune: true}
}

func (s *stage) declared(names ...string) *stage {
	s.list = func(_ string, f func(serving.Deployment) error) error {
		for _, name := range names {
			set, name, _ := strings.Cut(name, "/")
			if err := f(serving.Deployment{Name: name, Set: set}); err != nil {
				return err
			}
		}
		return nil
	}
	return s
}

func TestDeployAll(t *testing.T) {
	s := newStage().declared("fraud/old", "fraud/iris", "other/theirs", "/plain")
	outcome, err := s.client().DeployAll(t.Context(), two())
	if err != nil || len(outcome.Deployments) != 2 || outcome.Deployments[0].Name != "iris" || outcome.Deployments[1].Name != "wine" {
		t.Fatalf("%+v, %v", outcome, err)
	}
	if fmt.Sprint(outcome.Deleted) != "[old]" || !s.called("delete models/old") || s.called("delete models/theirs") {
		t.Errorf("deleted %v", outcome.Deleted)
	}
	if s.spec.Set == nil || *s.spec.Set != "fraud" || s.spec.Template == nil {
		t.Errorf("spec is %+v: what is not declared any more has to go", s.spec)
	}
	if first, last := slices.Index(s.calls, "make"), slices.Index(s.calls, "delete models/old"); first < 0 || last < first {
		t.Errorf("calls were %q", s.calls)
	}
}

func TestSetIsCheckedWhole(t *testing.T) {
	s := newStage().declared("fraud/old")
	s.check = func(spec serving.Spec) error {
		if spec.Name == "wine" {
			return &failure.Error{Class: failure.Refused, Reason: "ForeignService", Message: "not ours", Hint: "choose another name"}
		}
		return nil
	}
	_, err := s.client().DeployAll(t.Context(), two())
	if failure.ClassOf(err) != failure.Refused || !strings.HasPrefix(err.Error(), "wine: ") || s.called("make") || s.called("apply") || s.called("delete models/old") {
		t.Errorf("%v after %q", err, s.calls)
	}
	planned, err := newStage().declared("fraud/old").client().Plan(t.Context(), two())
	if err != nil || fmt.Sprint(planned) != "[{models iris models:/iris/3 update} {models wine models:/iris/3 update} {models old  delete}]" {
		t.Errorf("planned %v, %v", planned, err)
	}
}

func TestSetThatCannotBeListedLeavesNoTunnel(t *testing.T) {
	s := newStage()
	s.list = func(string, func(serving.Deployment) error) error { return errors.New("no answer") }
	_, err := s.client().DeployAll(t.Context(), two())
	closed := 0
	for _, call := range s.calls {
		if call == "close" {
			closed++
		}
	}
	if err == nil || s.called("make") || closed != 2 {
		t.Errorf("%v after %q", err, s.calls)
	}
}

func TestOneOfASetThatFailsStopsNoOther(t *testing.T) {
	s := newStage().declared("fraud/old")
	s.applyErr = func(name string) error {
		if name == "iris" {
			return errors.New("no room")
		}
		return nil
	}
	outcome, err := s.client().DeployAll(t.Context(), two())
	if err == nil || !strings.HasPrefix(err.Error(), "iris: no room") || len(outcome.Deployments) != 1 || outcome.Deployments[0].Name != "wine" || s.called("delete models/old") {
		t.Errorf("%+v, %v after %q", outcome, err, s.calls)
	}
}

func TestManifests(t *testing.T) {
	s := newStage().declared("fraud/old")
	manifests, err := s.client().Manifests(t.Context(), two())
	if err != nil || len(manifests) != 2 || s.called("apply") || s.called("delete models/old") {
		t.Fatalf("%v, %v after %q", manifests, err, s.calls)
	}
	text := fmt.Sprint(manifests[1])
	if !strings.Contains(text, "@sha256:1234") || !strings.Contains(text, "name:wine") || !strings.Contains(text, cluster.ManagedByLabel) {
		t.Errorf("manifest is %s", text)
	}
}

func TestSetsThatCannotBe(t *testing.T) {
	twice, nameless, odd := two(), two(), two()
	twice.Requests[1].Name = "iris"
	nameless.Name, odd.Name = "", "a b"
	for reason, set := range map[string]Set{"NameTwice": twice, "SetNameMissing": nameless, "SetNameInvalid": odd} {
		_, err := newStage().client().DeployAll(t.Context(), set)
		refusedAs(t, err, failure.Invalid, reason)
	}
}
