package check

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/deployments"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/trackingserver"
)

type checker struct {
	results []failure.Checked
	err     error
}

func (c checker) Check(context.Context, time.Duration) ([]failure.Checked, error) {
	return c.results, c.err
}

func (c checker) Preflight(context.Context, trackingserver.Parameters) ([]failure.Checked, error) {
	return c.results, c.err
}

type models struct{ asked *string }

func (m models) Preflight(_ context.Context, namespace, imageRepository string) ([]failure.Checked, error) {
	*m.asked = namespace + " " + imageRepository
	return []failure.Checked{{Name: "knative", State: failure.CheckWarning, Message: "there is none", Hint: "install it"}}, nil
}

func run(t *testing.T, c checker, output string) (stdout, stderr string, err error) {
	t.Helper()
	streams, _, out, talk := genericiooptions.NewTestIOStreams()
	said := ui.NewProgress(talk)
	o := &Options{Flags: Flags{Output: output}, Checker: c, Streams: streams, Talk: said}
	err = o.Run(t.Context())
	said.Close()
	return out.String(), talk.String(), err
}

func TestEachCheckIsALine(t *testing.T) {
	out, talk, err := run(t, checker{results: []failure.Checked{
		{Name: "artifacts", State: "ok", Where: "gs://b", Identity: "mlflow@p.iam.gserviceaccount.com"},
		{Name: "network-policies", State: "not enforced", Message: "nobody holds to them", Hint: "a network plugin does"},
	}}, "")
	if err != nil || out != "artifacts ok\nnetwork-policies not enforced\n" {
		t.Errorf("got %q, %v", out, err)
	}
	if talk != "artifacts: gs://b as mlflow@p.iam.gserviceaccount.com\nwarning: network-policies: nobody holds to them: a network plugin does\n" {
		t.Errorf("said %q", talk)
	}
}

func TestAFailedCheckIsAResultAndAFailure(t *testing.T) {
	failed := &failure.Error{Class: failure.Diagnosed, Object: "artifacts", Message: "it may not write"}
	results := []failure.Checked{{Name: "artifacts", State: "failed", Message: "it may not write", Failure: failed}, {Name: "database", State: "ok"}}
	out, _, err := run(t, checker{results: results}, "")
	if out != "artifacts failed\ndatabase ok\n" || failure.ClassOf(err) != failure.Diagnosed {
		t.Errorf("got %q, %v", out, err)
	}
	out, _, err = run(t, checker{results: results}, "json")
	if !strings.Contains(out, `"message": "it may not write"`) || failure.ClassOf(err) != failure.Diagnosed {
		t.Errorf("as json: %q, %v", out, err)
	}
	if out, _, err = run(t, checker{err: errors.New("no cluster")}, ""); out != "" || err == nil {
		t.Errorf("where nothing could be checked: %q, %v", out, err)
	}
}

// Each result that is not well leads to its section, on standard error and in JSON.
func TestWhatIsNotWellLeadsToItsSection(t *testing.T) {
	failed := &failure.Error{Class: failure.Diagnosed, Message: "there is none", Evidence: []string{"one"}}
	results := []failure.Checked{{Name: "rights", State: "ok", Where: "namespace mlflow"}, {Name: "storage-class", State: "failed", Failure: failed}}
	out, talk, err := run(t, checker{results: results}, "json")
	f, ok := errors.AsType[*failure.Error](err)
	if !ok || len(f.Evidence) != 2 || f.Evidence[1] != "see "+docs+"storage-class" {
		t.Errorf("got %+v", err)
	}
	if len(failed.Evidence) != 1 {
		t.Error("the failure itself was changed")
	}
	if !strings.Contains(out, `"docs": "`+docs+`storage-class"`) || strings.Count(out, docs) != 1 {
		t.Errorf("as json: %s", out)
	}
	if talk != "rights: namespace mlflow\n" {
		t.Errorf("said %q", talk)
	}
}

func TestPreLooksAtBothHalves(t *testing.T) {
	streams, _, out, talk := genericiooptions.NewTestIOStreams()
	said, asked := ui.NewProgress(talk), ""
	o := &Options{
		Flags: Flags{Pre: true, ImageRepository: "registry.example.com/models"}, Parameters: trackingserver.Parameters{Namespace: "ml"},
		Checker:     checker{results: []failure.Checked{{Name: "admission", State: failure.CheckSkipped, Message: "no namespace"}}},
		Deployments: models{&asked}, Streams: streams, Talk: said,
	}
	err := o.Run(t.Context())
	said.Close()
	if err != nil || out.String() != "admission skipped\nknative warning\n" || asked != "ml registry.example.com/models" {
		t.Errorf("got %q, %v; asked for %q", out, err, asked)
	}
	if talk.String() != "admission: skipped: no namespace\nwarning: knative: there is none: install it\n" {
		t.Errorf("said %q", talk)
	}
	o.Checker, asked = checker{err: errors.New("no cluster")}, ""
	if err := o.Run(t.Context()); err == nil || asked != "" {
		t.Errorf("a cluster that does not answer: %v; then asked for %q", err, asked)
	}
}

// Each check has a section, under the name that its link ends with.
func TestEveryCheckHasItsSection(t *testing.T) {
	text, err := os.ReadFile("../../../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		trackingserver.CheckKubernetes, trackingserver.CheckRights, trackingserver.CheckNames, trackingserver.CheckStorageClass, trackingserver.CheckAdmission,
		trackingserver.CheckNetworkPolicies, trackingserver.CheckArtifacts, trackingserver.CheckDatabase,
		deployments.CheckKnative, deployments.CheckDeploymentRights, deployments.CheckArchitectures, deployments.CheckImageRepository,
	} {
		if !strings.Contains(string(text), "\n### "+name+"\n") {
			t.Errorf("docs/troubleshooting.md has no section %s", name)
		}
	}
}
