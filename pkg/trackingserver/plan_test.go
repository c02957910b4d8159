package trackingserver

import (
	"slices"
	"strings"
	"testing"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

func (w *world) plan(t *testing.T, p Parameters, dry DryRun) map[string]Difference {
	t.Helper()
	plan, err := w.client().Plan(t.Context(), p, Options{}, dry)
	if err != nil {
		t.Fatal(err)
	}
	if wrote := w.wrote(); len(wrote) > 0 {
		t.Errorf("a plan wrote %v", wrote)
	}
	found := map[string]Difference{}
	for _, d := range plan {
		found[generic([]string{d.Object()})[0]] = d
	}
	return found
}

func TestPlanOfAFirstInstallCreatesAllOfIt(t *testing.T) {
	for _, dry := range []DryRun{DryRunClient, DryRunServer} {
		plan := newWorld().plan(t, Parameters{}, dry)
		whole := newWorld()
		if done := whole.install(t, Parameters{}); len(plan) != len(done) {
			t.Errorf("%s: %d objects are planned, install made %d", dry, len(plan), len(done))
		}
		for object, d := range plan {
			if d.Action != cluster.Created || d.Before != nil || (d.After == nil) != (d.Kind == "Secret") {
				t.Errorf("%s: %s is %s, before %t, after %t", dry, object, d.Action, d.Before != nil, d.After != nil)
			}
		}
	}
}

func TestPlanTellsWhatDiffersAndWhatWouldGo(t *testing.T) {
	w := newWorld()
	w.install(t, Parameters{})
	w.journal = nil
	for object, d := range w.plan(t, Parameters{}, DryRunServer) {
		if d.Action != Unchanged {
			t.Errorf("%s would be %s", object, d.Action)
		}
	}
	var differs []string
	for object, d := range w.plan(t, Parameters{Image: "registry.example.com/mlflow:v3.17.2-full"}, DryRunServer) {
		if d.Action != Unchanged {
			differs = append(differs, object+" "+d.Action)
		}
		if d.Action == cluster.Configured && !strings.Contains(text(d.Before), "ghcr.io/mlflow") {
			t.Errorf("%s was not like this before: %s", object, text(d.Before))
		}
	}
	slices.Sort(differs)
	// The old migration goes, the new one comes: both have the name that generic gives them, and one is enough to be told.
	if len(differs) != 2 || differs[0] != "deployment.apps/mlflow configured" || !strings.HasPrefix(differs[1], "job.batch/mlflow-migration") {
		t.Errorf("what differs is %v", differs)
	}
}
