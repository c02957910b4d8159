package trackingserver

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

// withBackups is a world with MLflow and backups in it.
func withBackups(t *testing.T, p Parameters) *world {
	t.Helper()
	w := newWorld()
	p.BackupSchedule = manual
	w.install(t, p)
	w.journal = nil
	w.pods = map[string]pod{
		backupName:           {message: first},
		backupName + "-list": {log: []string{"INFO something that a library says", first + "\t2048", second + "\t4096", "mlflow-nonsense\t1"}},
	}
	return w
}

func TestBackupRunsAJobOfTheCronJob(t *testing.T) {
	for _, p := range []Parameters{{}, {BasicAuth: yes}, {Overlay: overlayGCP, ArtifactsDestination: "gs://bucket/mlflow", BackupDestination: "gs://bucket/backups"}} {
		w := withBackups(t, p)
		name, err := w.client().Backup(t.Context())
		if err != nil || name != first {
			t.Fatalf("%+v: got %q, %v", p, name, err)
		}
		if len(w.journal) != 2 || !strings.HasPrefix(w.journal[0], "create job.batch/mlflow-backup-2") || !strings.HasPrefix(w.journal[1], "wait for job.batch/mlflow-backup-2") {
			t.Errorf("%+v: %q", p, w.journal)
		}
		cron := w.objects[cronJob("mlflow", backupName)]
		for r, job := range w.objects {
			if r.Kind != "Job" || !strings.HasPrefix(r.Name, backupName) {
				continue
			}
			if owners := job.GetOwnerReferences(); len(owners) != 1 || owners[0].UID != cron.GetUID() || owners[0].Controller == nil || !*owners[0].Controller {
				t.Errorf("%s belongs to %v: who keeps count of it?", r, owners)
			}
		}
	}
}

func TestBackupsAreListedByAPodOfWhichNothingStays(t *testing.T) {
	w := withBackups(t, Parameters{})
	before := w.left()
	found, err := w.client().Backups(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []Backup{
		{Name: first, Time: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Size: 2048},
		{Name: second, Time: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC), Size: 4096},
	}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(before, w.left()); diff != "" {
		t.Errorf("something stays: %s", diff)
	}
}

// The Job that lists dumps nothing, and goes away where the plugin is killed before it can delete it.
func TestTheJobThatListsDumpsNothing(t *testing.T) {
	w := withBackups(t, Parameters{Overlay: CloudSQLOverlay, CloudSQLInstance: "my-project:europe-west1:mlflow", CloudSQLProxy: sidecar, AutoIAMAuthn: yes,
		DatabaseUser: "mlflow@my-project.iam", ArtifactsDestination: "gs://bucket/mlflow"})
	w.refuse = func(verb string, _ cluster.Ref) error {
		if verb == "delete" {
			return errKilled
		}
		return nil
	}
	if _, err := w.client().Backups(t.Context()); err != nil {
		t.Fatal(err)
	}
	for r, job := range w.objects {
		if r.Kind != "Job" || !strings.HasPrefix(r.Name, backupName) {
			continue
		}
		typed := jobOf(t, job)
		pod := typed.Spec.Template.Spec
		if len(pod.InitContainers) != 1 || pod.InitContainers[0].Name != "cloud-sql-proxy" || !slices.Contains(pod.Containers[0].Command, "list") {
			t.Errorf("it runs %v and %v", pod.InitContainers, pod.Containers[0].Command)
		}
		if typed.Spec.TTLSecondsAfterFinished == nil || len(typed.OwnerReferences) > 0 {
			t.Errorf("it stays: %v, %v", typed.Spec.TTLSecondsAfterFinished, typed.OwnerReferences)
		}
		return
	}
	t.Error("there is no Job that lists")
}

func TestBackupNeedsBackupsAndRights(t *testing.T) {
	bare := newWorld()
	bare.install(t, Parameters{})
	bare.journal = nil
	limited := withBackups(t, Parameters{})
	limited.rights = []string{"create jobs", "get pods"}
	for _, c := range []struct {
		w     *world
		class failure.Class
		says  string
	}{
		{newWorld(), failure.Invalid, "kubectl-mlflow installed"},
		{bare, failure.Invalid, "without backups"},
		{limited, failure.Forbidden, "create jobs"},
	} {
		_, made := c.w.client().Backup(t.Context())
		_, listed := c.w.client().Backups(t.Context())
		for _, err := range []error{made, listed} {
			if failure.ClassOf(err) != c.class || !strings.Contains(err.Error(), c.says) {
				t.Errorf("want %s and %q, got %v", c.class, c.says, err)
			}
		}
		if wrote := c.w.wrote(); len(wrote) > 0 {
			t.Errorf("%s: wrote %v", c.says, wrote)
		}
	}
}

// The name is what a script goes on with: without it, nothing is done.
func TestABackupWithoutANameIsAnError(t *testing.T) {
	w := withBackups(t, Parameters{})
	w.pods = nil
	if _, err := w.client().Backup(t.Context()); err == nil || !strings.Contains(err.Error(), "--list") {
		t.Errorf("got %v", err)
	}
}

func TestUpgradeBacksUpWhileTheServerIsStopped(t *testing.T) {
	w := newWorld()
	w.install(t, Parameters{Image: oldImage})
	w.journal, w.pods = nil, map[string]pod{backupName: {message: first}}
	if _, err := w.client().Upgrade(t.Context(), Parameters{Image: newImage}, true, Options{}); err != nil {
		t.Fatal(err)
	}
	at := func(start string) int {
		return slices.IndexFunc(w.journal, func(entry string) bool { return strings.HasPrefix(entry, start) })
	}
	stopped, backedUp, migrated := at("scale to 0"), at("wait for job.batch/mlflow-backup"), at("wait for job.batch/mlflow-migration")
	if stopped < 0 || backedUp < stopped || migrated < backedUp {
		t.Errorf("the order is %q", w.journal)
	}
}

func jobOf(t *testing.T, obj *unstructured.Unstructured) *batchv1.Job {
	t.Helper()
	job := &batchv1.Job{}
	if err := cluster.Into(obj, job); err != nil {
		t.Fatal(err)
	}
	return job
}
