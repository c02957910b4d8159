package trackingserver

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

const (
	oldImage = "ghcr.io/mlflow/mlflow:v3.16.1-full"
	newImage = "ghcr.io/mlflow/mlflow:v3.17.2-full"
)

// serverOf is the server's Deployment in the namespace mlflow.
func (w *world) serverOf(t *testing.T) cluster.Ref {
	t.Helper()
	for r := range w.objects {
		if r.Kind == "Deployment" && r.Name == "mlflow" {
			return r
		}
	}
	t.Fatal("there is no server")
	return cluster.Ref{}
}

func (w *world) upgrade(t *testing.T, p Parameters) []string {
	t.Helper()
	var said []string
	if _, err := w.client().Upgrade(t.Context(), p, false, Options{Say: func(line string) { said = append(said, line) }}); err != nil {
		t.Fatal(err)
	}
	return said
}

// jobsAreComplete ends all Jobs that there are.
func (w *world) jobsAreComplete() {
	for r := range w.objects {
		if r.Kind == "Job" {
			w.endJob(r, "Complete")
		}
	}
}

func (w *world) endJob(r cluster.Ref, how string) {
	w.objects[r].Object["status"] = map[string]any{"conditions": []any{map[string]any{"type": how, "status": "True"}}}
}

func TestUpgradeStopsMigratesAndStarts(t *testing.T) {
	w := newWorld()
	w.install(t, Parameters{Image: oldImage, Limits: "memory=4Gi"})
	w.objects[w.serverOf(t)].Object["replicas"] = int64(3)
	w.jobsAreComplete()
	w.journal = nil
	said := w.upgrade(t, Parameters{Image: newImage})
	var order []string
	for _, entry := range generic(w.journal) {
		if !strings.HasPrefix(entry, "dry run") {
			order = append(order, entry)
		}
	}
	want := []string{
		"scale to 0 deployment.apps/mlflow",
		"wait for statefulset.apps/postgres",
		"apply job.batch/mlflow-migration",
		"wait for job.batch/mlflow-migration",
		"apply deployment.apps/mlflow",
		"scale to 3 deployment.apps/mlflow",
		"wait for deployment.apps/mlflow",
		"ask MLflow",
		"delete job.batch/mlflow-migration",
	}
	if diff := cmp.Diff(want, order); diff != "" {
		t.Error(diff)
	}
	if len(said) != 1 || !strings.Contains(said[0], oldImage) || !strings.Contains(said[0], newImage) || !strings.Contains(said[0], "away") {
		t.Errorf("said %q", said)
	}
	record := w.record["mlflow"]
	if record.Image != newImage || record.Replicas != 0 || record.Parameters["LIMITS"] != "memory=4Gi" || record.Parameters["MLFLOW_IMAGE"] != newImage {
		t.Errorf("recorded are image %s, %d replicas, %v", record.Image, record.Replicas, record.Parameters)
	}
	w.isSettled(t)
}

func TestUpgradeWithoutAnImageGoesToThatOfTheManifestsInTheSameRegistry(t *testing.T) {
	w := newWorld()
	w.install(t, Parameters{Image: "registry.example.com/mlflow:v3.16.1-full"})
	w.upgrade(t, Parameters{})
	if got := w.record["mlflow"].Image; got != "registry.example.com/mlflow:v3.17.2-full" {
		t.Errorf("upgraded to %s", got)
	}
	w.journal = nil
	if said := w.upgrade(t, Parameters{}); len(said) != 1 || !strings.Contains(said[0], "already") {
		t.Errorf("a second upgrade said %q", said)
	}
	if wrote := w.wrote(); len(wrote) > 0 {
		t.Errorf("a second upgrade wrote %v", wrote)
	}
}

func TestUpgradeRefusesAndChangesNothing(t *testing.T) {
	for _, c := range []struct {
		name   string
		before Parameters
		given  func(*testing.T, *world)
		p      Parameters
		class  failure.Class
		says   string
	}{
		{"a downgrade", Parameters{Image: newImage}, nil, Parameters{Image: oldImage}, failure.Refused, "does not go back"},
		{"a digest", Parameters{Image: "mlflow@sha256:" + strings.Repeat("0", 64)}, nil, Parameters{}, failure.Invalid, "--image"},
		{"what is gone", Parameters{}, func(t *testing.T, w *world) { w.uninstall(t, false) }, Parameters{Image: "mlflow:v4.0.0"}, failure.Invalid, "uninstalled"},
		{"what was never there", Parameters{}, func(t *testing.T, w *world) { w.uninstall(t, true) }, Parameters{}, failure.Invalid, "there is no MLflow"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld()
			w.install(t, c.before)
			if c.given != nil {
				c.given(t, w)
			}
			w.journal = nil
			_, err := w.client().Upgrade(t.Context(), c.p, false, Options{})
			if failure.ClassOf(err) != c.class || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %s with %q", err, c.class, c.says)
			}
			if len(w.journal) > 0 {
				t.Errorf("did %v", w.journal)
			}
		})
	}
}

func TestAFailedMigrationLeavesTheOldServerAndBothWaysOpen(t *testing.T) {
	failing := func(t *testing.T) *world {
		w := newWorld()
		w.install(t, Parameters{Image: oldImage})
		template := text(w.objects[w.serverOf(t)])
		w.jobsAreComplete()
		w.notReady = func(r cluster.Ref) error {
			if r.Kind == "Job" {
				w.endJob(r, "Failed")
				return &failure.Error{Class: failure.Diagnosed, Reason: "JobFailed", Object: r.String(), Message: "it failed", Evidence: []string{"column exists"}}
			}
			return nil
		}
		_, err := w.client().Upgrade(t.Context(), Parameters{Image: newImage}, false, Options{})
		f, ok := errors.AsType[*failure.Error](err)
		if !ok || f.Reason != "MigrationFailed" || f.Class != failure.Diagnosed {
			t.Fatalf("got %v", err)
		}
		if !strings.Contains(f.Hint, "kubectl mlflow install --namespace mlflow") || !slices.Contains(f.Evidence, "column exists") {
			t.Errorf("hint %q, evidence %q", f.Hint, f.Evidence)
		}
		now := w.objects[w.serverOf(t)].DeepCopy()
		delete(now.Object, "replicas")
		if text(now) != template {
			t.Error("the old server's Deployment was changed")
		}
		if record := w.record["mlflow"]; record.Image != oldImage || record.Replicas != 1 || record.Parameters["MLFLOW_IMAGE"] != oldImage {
			t.Errorf("recorded are image %s, %d replicas, %v", record.Image, record.Replicas, record.Parameters)
		}
		w.notReady, w.journal = nil, nil
		return w
	}
	t.Run("on", func(t *testing.T) {
		w := failing(t)
		w.upgrade(t, Parameters{Image: newImage})
		if got := w.record["mlflow"]; got.Image != newImage || got.Replicas != 0 {
			t.Errorf("recorded are image %s, %d replicas", got.Image, got.Replicas)
		}
	})
	t.Run("back", func(t *testing.T) {
		w := failing(t)
		w.install(t, Parameters{})
		wrote := generic(w.wrote())
		for _, want := range []string{"apply job.batch/mlflow-migration", "scale to 1 deployment.apps/mlflow"} { // what the schema is now is not taken from before
			if !slices.Contains(wrote, want) {
				t.Errorf("an install after the failure wrote %v, want %q in it", wrote, want)
			}
		}
		if got := w.record["mlflow"]; got.Image != oldImage || got.Replicas != 0 {
			t.Errorf("recorded are image %s, %d replicas", got.Image, got.Replicas)
		}
	})
}

// A kill anywhere in an upgrade, and a rerun of it, end in the same objects; a plain install in between does no harm.
func TestUpgradeConvergesAfterAKillAnywhere(t *testing.T) {
	begin := func(t *testing.T) *world {
		w := newWorld()
		w.install(t, Parameters{Image: oldImage})
		w.journal = nil
		return w
	}
	run := func(ctx context.Context, w *world) error {
		_, err := w.client().Upgrade(ctx, Parameters{Image: newImage}, false, Options{})
		return err
	}
	killedAnywhere(t, begin, run, func(t *testing.T, w, whole *world) {
		w.upgrade(t, Parameters{Image: newImage})
		if diff := cmp.Diff(whole.left(), w.left()); diff != "" {
			t.Error(diff)
		}
		if record := w.record["mlflow"]; record.Image != newImage || record.Replicas != 0 {
			t.Errorf("recorded are image %s, %d replicas", record.Image, record.Replicas)
		}
		w.serves(t)
	})
}

func TestVersionsAreToldByTagAndDigest(t *testing.T) {
	for _, c := range []struct {
		a, b        string
		same, older bool
	}{
		{"mlflow:v3.16.1-full", "mlflow:v3.17.2-full", false, true},
		{"registry.example.com:5000/mlflow:v3.17.2-full", "mlflow:v3.17.2-full", true, false},
		{"mlflow:v3.9.0", "mlflow:v3.17.2", false, true},
		{"mlflow:mine", "mlflow:v3.17.2", false, false},
		{"mlflow@sha256:1", "mirror/mlflow@sha256:1", true, false},
		{"mlflow@sha256:1", "mlflow@sha256:2", false, false},
		{"mlflow:v3.17.2@sha256:1", "mlflow:v3.17.2", true, false},
	} {
		if same, old := sameVersion(c.a, c.b), older(c.a, c.b); same != c.same || old != c.older {
			t.Errorf("%s and %s: same %t, older %t", c.a, c.b, same, old)
		}
	}
	for image, want := range map[string]string{
		"registry.example.com:5000/mlflow": "registry.example.com:5000/mlflow", "a/mlflow:v1@sha256:1": "a/mlflow", "mlflow:v1": "mlflow",
	} {
		if got := repositoryOf(image); got != want {
			t.Errorf("repositoryOf(%s) = %s", image, got)
		}
	}
}

// An evicted pod keeps its labels, and nobody takes it away.
func TestAPodThatWasEvictedIsNotWaitedFor(t *testing.T) {
	for name, work := range map[string]func(context.Context, *Client) error{
		"upgrade": func(ctx context.Context, c *Client) error {
			_, err := c.Upgrade(ctx, Parameters{Image: newImage}, false, Options{})
			return err
		},
		"restore": func(ctx context.Context, c *Client) error {
			_, err := c.Restore(ctx, Restoration{Backup: LatestBackup}, Options{})
			return err
		},
	} {
		for phase, awaited := range map[string]bool{"Failed": false, "Succeeded": false, "Running": true, "Pending": true} {
			t.Run(name+", "+phase, func(t *testing.T) {
				w := newWorld()
				w.pods = map[string]pod{"mlflow-restore-look": {log: []string{"backup\tmlflow-20261126T020000Z"}}}
				w.install(t, Parameters{Image: oldImage, BackupSchedule: manual})
				w.put(podInPhase(phase), "")
				if err := work(t.Context(), w.client()); (err != nil) != awaited {
					t.Errorf("got %v, want it to be waited for: %t", err, awaited)
				}
			})
		}
	}
}

// podInPhase is one of the server's.
func podInPhase(phase string) *unstructured.Unstructured {
	pod := serverPod("mlflow-0")
	pod.Object["status"] = map[string]any{"phase": phase}
	return pod
}

// A migration that only waits for its image, or for a node, would change the schema under the server that is started again.
func TestGoingBackEndsTheOtherVersionsMigrationFirst(t *testing.T) {
	for name, work := range map[string]func(*testing.T, *world){
		"install": func(t *testing.T, w *world) { w.install(t, Parameters{}) },
		"restore": func(t *testing.T, w *world) {
			if _, err := w.client().Restore(t.Context(), Restoration{Backup: LatestBackup}, Options{}); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.pods = map[string]pod{"mlflow-restore-look": {log: []string{"backup\tmlflow-20261126T020000Z"}}}
			w.install(t, Parameters{Image: oldImage, BackupSchedule: manual})
			w.notReady = func(r cluster.Ref) error {
				if r.Kind == "Job" {
					return &failure.Error{Class: failure.TimedOut, Reason: "NotReady", Object: r.String(), Message: "it waits for its image"}
				}
				return nil
			}
			if _, err := w.client().Upgrade(t.Context(), Parameters{Image: newImage}, false, Options{}); err == nil {
				t.Fatal("the upgrade succeeded")
			}
			w.notReady, w.journal = nil, nil
			work(t, w)
			did := generic(w.journal)
			ends := slices.Index(did, "delete job.batch/mlflow-migration")
			for _, later := range []string{"wait for job.batch/mlflow-migration", "scale to 1 deployment.apps/mlflow", "wait for job.batch/mlflow-restore"} {
				if i := slices.Index(did, later); ends < 0 || i >= 0 && i < ends {
					t.Errorf("the other version's migration is not ended before %q: %v", later, did)
				}
			}
		})
	}
}

// A Job that is done says nothing of a database that came after it.
func TestANewVolumeGetsItsSchema(t *testing.T) {
	claim := core("PersistentVolumeClaim", "mlflow", databaseClaim)
	for name, replace := range map[string]func(w *world){
		"deleted": func(w *world) { delete(w.objects, claim) },
		"made anew by somebody, or by an install that was killed": func(w *world) {
			w.objects[claim].SetCreationTimestamp(metav1.NewTime(time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.install(t, Parameters{})
			w.jobsAreComplete()
			for r, obj := range w.objects {
				if r.Kind == "Job" {
					obj.SetCreationTimestamp(metav1.NewTime(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)))
				}
			}
			w.journal = nil
			w.install(t, Parameters{})
			if wrote := w.wrote(); len(wrote) > 0 {
				t.Errorf("an install of what is there wrote %v", wrote)
			}
			replace(w)
			w.install(t, Parameters{})
			for _, want := range []string{"delete job.batch/mlflow-migration", "apply job.batch/mlflow-migration"} {
				if !slices.Contains(generic(w.journal), want) {
					t.Errorf("did %v, want %q", generic(w.journal), want)
				}
			}
		})
	}
}
