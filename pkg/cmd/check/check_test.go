package check

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/trackingserver"
)

type checker struct {
	results []trackingserver.Checked
	err     error
}

func (c checker) Check(context.Context, time.Duration) ([]trackingserver.Checked, error) {
	return c.results, c.err
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
	out, talk, err := run(t, checker{results: []trackingserver.Checked{
		{Name: "artifacts", State: "ok", Where: "gs://b", Identity: "mlflow@p.iam.gserviceaccount.com"},
		{Name: "network-policies", State: "not enforced", Message: "nobody holds to them", Hint: "a network plugin does"},
	}}, "")
	if err != nil || out != "artifacts ok\nnetwork-policies not enforced\n" {
		t.Errorf("got %q, %v", out, err)
	}
	if talk != "artifacts: gs://b as mlflow@p.iam.gserviceaccount.com\nwarning: nobody holds to them: a network plugin does\n" {
		t.Errorf("said %q", talk)
	}
}

func TestAFailedCheckIsAResultAndAFailure(t *testing.T) {
	failed := &failure.Error{Class: failure.Diagnosed, Object: "artifacts", Message: "it may not write"}
	results := []trackingserver.Checked{{Name: "artifacts", State: "failed", Message: "it may not write", Failure: failed}, {Name: "database", State: "ok"}}
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
