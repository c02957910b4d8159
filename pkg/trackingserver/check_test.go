package trackingserver

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

const (
	artifactsFine = `{"check": "artifacts", "state": "ok", "where": "gs://b/p", "identity": "mlflow@p.iam.gserviceaccount.com"}`
	databaseFine  = `{"check": "database", "state": "ok", "where": "postgres:5432/mlflowdb", "identity": "mlflow", "schema": "dc11669786a5"}`
	doorOpen      = `{"check": "door", "state": "open"}`
	doorClosed    = `{"check": "door", "state": "closed", "detail": "timed out"}`
)

// checkedWorld is a world with MLflow in it, whose checks say these lines.
func checkedWorld(t *testing.T, p Parameters, said []string, door string) *world {
	t.Helper()
	w := newWorld()
	w.install(t, p)
	w.journal = nil
	w.pods = map[string]pod{"mlflow-check": {log: append([]string{"INFO a library"}, said...)}, "mlflow-check-door": {log: []string{door}}}
	return w
}

func states(results []failure.Checked) string {
	var text []string
	for _, r := range results {
		text = append(text, r.Name+" "+r.State)
	}
	return strings.Join(text, ", ")
}

func TestCheckTellsWhatItFound(t *testing.T) {
	const forbidden = `{"check": "artifacts", "state": "failed", "reason": "Forbidden", "detail": "403 no", "where": "gs://b/p", "identity": "m@p", "step": "write"}`
	const anonymous = `{"check": "artifacts", "state": "ok", "where": "gs://b/p", "identity": "anonymous"}`
	const pending = `{"check": "artifacts", "state": "pending", "reason": "Forbidden", "where": "gs://b/p", "identity": "m@p"}`
	const away = `{"check": "database", "state": "failed", "reason": "NoAnswer", "where": "postgres:5432/mlflowdb"}`
	closed := Parameters{NetworkPolicies: yes}
	for _, c := range []struct {
		p    Parameters
		said []string
		door string
		want string
		says string
	}{
		{Parameters{}, []string{artifactsFine, databaseFine}, "", "artifacts ok, database ok", ""},
		{Parameters{}, []string{pending, databaseFine, artifactsFine}, "", "artifacts ok, database ok", ""},
		{Parameters{}, []string{forbidden, databaseFine}, "", "artifacts failed, database ok", "objectUser"},
		{Parameters{}, []string{anonymous, databaseFine}, "", "artifacts ok, database ok", "anonymous"},
		{Parameters{}, nil, "", "artifacts failed, database failed", ""},
		{closed, []string{artifactsFine, databaseFine}, doorClosed, "artifacts ok, database ok, network-policies ok", ""},
		{closed, []string{artifactsFine, databaseFine}, doorOpen, "artifacts ok, database ok, network-policies not enforced", "not enforced by this cluster's network"},
		{closed, []string{artifactsFine, databaseFine}, `{"check": "door", "state": "failed", "detail": "no such name"}`, "artifacts ok, database ok, network-policies unknown", "no such name"},
		{closed, []string{artifactsFine, away}, doorClosed, "artifacts ok, database failed, network-policies unknown", "does not answer"},
	} {
		w := checkedWorld(t, c.p, c.said, c.door)
		before := strings.Join(w.left(), "\n")
		results, err := w.client().Check(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := states(results); got != c.want {
			t.Errorf("%v: %s, want %s", c.said, got, c.want)
		}
		if c.says != "" && !strings.Contains(fmt.Sprintf("%+v", results), c.says) {
			t.Errorf("%s: no %q in %+v", c.want, c.says, results)
		}
		for _, r := range results {
			if (r.State == failure.CheckFailed) != (failure.ClassOf(asError(r)) == failure.Diagnosed) {
				t.Errorf("%s %s has the failure %v", r.Name, r.State, r.Failure)
			}
		}
		if after := strings.Join(w.left(), "\n"); after != before {
			t.Errorf("%s: something stays:\n%s\nbefore:\n%s", c.want, after, before)
		}
	}
}

func asError(c failure.Checked) error {
	if c.Failure == nil {
		return nil
	}
	return c.Failure
}

// Where Google is involved, a refusal may be a grant that is not everywhere yet.
func TestCheckIsPatientWhereGoogleIs(t *testing.T) {
	bucket := Parameters{Overlay: overlayGCP, ArtifactsDestination: "gs://bucket/mlflow"}
	cloudSQL := Parameters{Overlay: CloudSQLOverlay, CloudSQLInstance: "my-project:europe-west1:mlflow", AutoIAMAuthn: yes,
		DatabaseUser: "mlflow@my-project.iam", ArtifactsDestination: "gs://bucket/mlflow", NetworkPolicies: yes}
	for _, c := range []struct {
		p        Parameters
		patience time.Duration
		want     string
	}{
		{Parameters{}, 0, "all 60 20"},
		{bucket, 0, "all 600 20"},
		{bucket, 5 * time.Second, "all 5 5"},
		{cloudSQL, 0, "all 600 600"},
	} {
		w := checkedWorld(t, c.p, []string{artifactsFine, databaseFine}, doorClosed)
		w.refuse = func(verb string, _ cluster.Ref) error {
			if verb == "delete" {
				return errKilled
			}
			return nil
		}
		if _, err := w.client().Check(t.Context(), c.patience); err != nil {
			t.Fatal(err)
		}
		var got, door string
		for r, obj := range w.objects {
			if r.Kind != "Job" || !strings.HasPrefix(r.Name, "mlflow-check") {
				continue
			}
			command := jobOf(t, obj).Spec.Template.Spec.Containers[0].Command
			if strings.HasPrefix(r.Name, "mlflow-check-door") {
				door = strings.Join(command[3:], " ")
				continue
			}
			got = strings.Join(command[3:], " ")
		}
		if got != c.want {
			t.Errorf("%+v: %q, want %q", c.p, got, c.want)
		}
		if c.p.Overlay == CloudSQLOverlay && door != "door mlflow-cloudsql-proxy 5432" {
			t.Errorf("the stranger tries %q", door)
		}
	}
}

// A sidecar's door is in the pod itself.
func TestCheckAsksNoPolicyOfASidecar(t *testing.T) {
	w := checkedWorld(t, Parameters{Overlay: CloudSQLOverlay, CloudSQLInstance: "my-project:europe-west1:mlflow", CloudSQLProxy: sidecar, AutoIAMAuthn: yes,
		DatabaseUser: "mlflow@my-project.iam", ArtifactsDestination: "gs://bucket/mlflow", NetworkPolicies: yes}, []string{artifactsFine, databaseFine}, doorOpen)
	results, err := w.client().Check(t.Context(), 0)
	if err != nil || states(results) != "artifacts ok, database ok" {
		t.Errorf("%s, %v", states(results), err)
	}
}

func TestCheckThatCannotBeDoneIsAnError(t *testing.T) {
	limited := checkedWorld(t, Parameters{}, nil, "")
	limited.rights = []string{"create jobs"}
	gone := checkedWorld(t, Parameters{}, nil, "")
	delete(gone.objects, gone.serverOf(t))
	stuck := checkedWorld(t, Parameters{}, nil, "")
	stuck.notReady = func(cluster.Ref) error {
		return &failure.Error{Class: failure.Diagnosed, Reason: "QuotaExceeded", Message: "no quota"}
	}
	for _, c := range []struct {
		w     *world
		class failure.Class
		says  string
	}{
		{newWorld(), failure.Invalid, "kubectl-mlflow installed"},
		{limited, failure.Forbidden, "create jobs"},
		{gone, failure.Diagnosed, "gone"},
		{stuck, failure.Diagnosed, "no quota"},
	} {
		if _, err := c.w.client().Check(t.Context(), 0); failure.ClassOf(err) != c.class || !strings.Contains(err.Error(), c.says) {
			t.Errorf("want %s and %q, got %v", c.class, c.says, err)
		}
		for r := range c.w.objects {
			if r.Kind == "Job" && strings.HasPrefix(r.Name, "mlflow-check") {
				t.Errorf("%s: %s stays", c.says, r)
			}
		}
	}
}
