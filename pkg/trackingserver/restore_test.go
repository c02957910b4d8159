package trackingserver

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	corev1 "k8s.io/api/core/v1"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

// holding is a world with MLflow, with backups, and with these rows in its database.
func holding(t *testing.T, p Parameters, rows ...string) *world {
	t.Helper()
	w := withBackups(t, p)
	w.pods[restoreName+"-look"] = pod{log: append([]string{"12:00:00 waiting for the database (1)", "backup\t" + second}, rows...)}
	w.pods[importName] = pod{message: third}
	return w
}

func (w *world) restore(t *testing.T, r Restoration) (Restored, []string) {
	t.Helper()
	var said []string
	restored, err := w.client().Restore(t.Context(), r, Options{Say: func(line string) { said = append(said, line) }})
	if err != nil {
		t.Fatal(err)
	}
	return restored, said
}

func dump(content string) *Dump {
	return &Dump{Size: int64(len(content)), SHA256: "5f", Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }}
}

func TestRestoreStopsBacksUpRestoresAndStarts(t *testing.T) {
	for _, c := range []struct {
		name   string
		rows   []string
		r      Restoration
		before string
	}{
		{"an empty database", nil, Restoration{Backup: LatestBackup}, ""},
		{"one that holds something", []string{"rows\truns\t12"}, Restoration{Backup: second, Replace: true}, first},
		{"one that may be lost", []string{"rows\truns\t12"}, Restoration{Backup: second, Replace: true, NoBackup: true}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := holding(t, Parameters{}, c.rows...)
			w.objects[w.serverOf(t)].Object["replicas"] = int64(2)
			restored, said := w.restore(t, c.r)
			if restored.Backup != second || restored.Before != c.before {
				t.Errorf("restored %+v", restored)
			}
			if all := strings.Join(said, "\n"); !strings.Contains(all, second) || !strings.Contains(all, "away") || !strings.Contains(all, c.before) {
				t.Errorf("said %q", said)
			}
			at := func(start string) int {
				i := slices.IndexFunc(w.journal, func(entry string) bool { return strings.HasPrefix(entry, start) })
				if i < 0 {
					t.Errorf("there is no %q in %q", start, w.journal)
				}
				return i
			}
			order := []int{at("wait for job.batch/mlflow-restore-look"), at("scale to 0")}
			if c.before != "" {
				order = append(order, at("wait for job.batch/mlflow-backup"))
			}
			order = append(order, at("wait for job.batch/mlflow-restore-2"), at("wait for job.batch/mlflow-migration"), at("scale to 2"), at("ask MLflow"))
			if !slices.IsSorted(order) {
				t.Errorf("the order is %q", w.journal)
			}
			if record := w.record["mlflow"]; record.Replicas != 0 || record.Restoring != "" {
				t.Errorf("recorded are %d replicas, restoring %q", record.Replicas, record.Restoring)
			}
			w.isSettled(t)
		})
	}
}

// The backup of what is replaced must not take the place of the one that is restored.
func TestTheBackupBeforeARestoreRemovesNone(t *testing.T) {
	w := holding(t, Parameters{BackupKeep: "1"}, "rows\truns\t12")
	w.restore(t, Restoration{Backup: second, Replace: true})
	for r, obj := range w.objects {
		if r.Kind != "Job" || !strings.HasPrefix(r.Name, backupName) {
			continue
		}
		for _, c := range jobOf(t, obj).Spec.Template.Spec.Containers {
			if c.Name == storeContainer && !slices.Contains(c.Env, corev1.EnvVar{Name: "BACKUP_KEEP", Value: allKept}) {
				t.Errorf("it keeps %v", c.Env)
			}
		}
		return
	}
	t.Error("there was no backup")
}

func TestADumpBecomesABackupWhileMLflowAnswers(t *testing.T) {
	w := holding(t, Parameters{})
	w.pods[restoreName+"-look"] = pod{log: []string{"backup\t" + third}}
	restored, said := w.restore(t, Restoration{Dump: dump("PGDMP and so on")})
	if restored.Backup != third || w.sent != "PGDMP and so on" || !slices.ContainsFunc(said, func(line string) bool { return strings.Contains(line, third) }) {
		t.Errorf("restored %+v, sent %q, said %q", restored, w.sent, said)
	}
	at := func(start string) int {
		return slices.IndexFunc(w.journal, func(entry string) bool { return strings.HasPrefix(entry, start) })
	}
	if sent, stopped := at("send to dump of"), at("scale to 0"); sent < 0 || stopped < sent {
		t.Errorf("the order is %q", w.journal)
	}
	if left := strings.Join(w.left(), " "); strings.Contains(left, importName) || strings.Contains(left, "-look") {
		t.Errorf("left are %s", left)
	}
}

func TestThePodThatTakesADump(t *testing.T) {
	w := holding(t, Parameters{Overlay: CloudSQLOverlay, CloudSQLInstance: "my-project:europe-west1:mlflow", CloudSQLProxy: sidecar, AutoIAMAuthn: yes,
		DatabaseUser: "mlflow@my-project.iam", ArtifactsDestination: "gs://bucket/mlflow", BackupDestination: "gs://bucket/backups"})
	w.refuse = func(verb string, r cluster.Ref) error {
		if verb == "delete" && strings.HasPrefix(r.Name, importName) {
			return errKilled
		}
		return nil
	}
	w.pods[restoreName+"-look"] = pod{log: []string{"backup\t" + third}}
	w.restore(t, Restoration{Dump: dump("PGDMP")})
	for r, obj := range w.objects {
		if r.Kind != "Job" || !strings.HasPrefix(r.Name, importName) {
			continue
		}
		job := jobOf(t, obj)
		if job.Spec.TTLSecondsAfterFinished == nil || len(job.OwnerReferences) > 0 || *job.Spec.BackoffLimit != 0 {
			t.Errorf("a second try would wait for a dump that does not come: %+v", job.Spec)
		}
		for _, c := range job.Spec.Template.Spec.InitContainers {
			takes := c.Stdin && c.StdinOnce && slices.Contains(c.Command, "receive") && slices.Contains(c.Env, corev1.EnvVar{Name: "DUMP_SIZE", Value: "5"})
			if takes != (c.Name == dumpContainer) {
				t.Errorf("%s: %+v", c.Name, c)
			}
		}
		return
	}
	t.Error("there is no such pod")
}

func TestRestoreRefusesAndStopsNothing(t *testing.T) {
	bare := newWorld()
	bare.install(t, Parameters{})
	limited := holding(t, Parameters{})
	limited.rights = []string{"create jobs"}
	tied := holding(t, Parameters{})
	tied.rights = []string{"create pods"} // pods/attach, here
	silent := holding(t, Parameters{})
	silent.pods[restoreName+"-look"] = pod{}
	gone := holding(t, Parameters{})
	gone.pods[restoreName+"-look"] = pod{message: "there is no backup " + third, code: 1}
	gone.notReady = func(r cluster.Ref) error {
		if strings.HasPrefix(r.Name, restoreName) {
			return &failure.Error{Class: failure.Diagnosed, Reason: "JobFailed", Object: r.String(), Message: "it failed"}
		}
		return nil
	}
	held := holding(t, Parameters{}, "rows\tspans\t99", "rows\tmetrics\t7", "rows\tparams\t6", "rows\texperiments\t2", "rows\truns\t1")
	for _, c := range []struct {
		name  string
		w     *world
		r     Restoration
		class failure.Class
		says  string
	}{
		{"nothing is installed", newWorld(), Restoration{Backup: second}, failure.Invalid, "kubectl-mlflow installed"},
		{"there are no backups", bare, Restoration{Backup: second}, failure.Invalid, "without backups"},
		{"a right is missing", limited, Restoration{Backup: second}, failure.Forbidden, "create jobs"},
		{"a right is missing for a dump", tied, Restoration{Dump: dump("PGDMP")}, failure.Forbidden, "create pods"},
		{"the backup is gone", gone, Restoration{Backup: third, Replace: true}, failure.Invalid, "there is no backup " + third},
		{"nothing is said of the backup", silent, Restoration{Backup: third}, "", "does not say"},
		{"the database holds something", held, Restoration{Backup: second}, failure.Refused, second + " would replace: 1 in runs, 2 in experiments, 6 in params, 7 in metrics, and more in other tables (1)"},
		{"the database holds something, and it is a dump", held, Restoration{Dump: dump("PGDMP")}, failure.Refused, "the dump would replace"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.w.journal = nil
			_, err := c.w.client().Restore(t.Context(), c.r, Options{})
			if failure.ClassOf(err) != c.class || err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %s with %q", err, c.class, c.says)
			}
			for _, entry := range c.w.wrote() {
				if !strings.Contains(entry, restoreName+"-look") {
					t.Errorf("did %q", entry)
				}
			}
		})
	}
}

// A kill anywhere in a restore, and a rerun of it that says no more, end in the same; so does one that says `latest`, although what
// was replaced is the newest backup by then.
func TestRestoreConvergesAfterAKillAnywhere(t *testing.T) {
	begin := func(t *testing.T) *world { return holding(t, Parameters{}, "rows\truns\t12") }
	run := func(ctx context.Context, w *world) error {
		_, err := w.client().Restore(ctx, Restoration{Backup: second, Replace: true}, Options{})
		return err
	}
	killedAnywhere(t, begin, run, func(t *testing.T, w, _ *world) {
		again := Restoration{Backup: LatestBackup}
		if w.record["mlflow"].Restoring == "" { // not even stopped
			again.Replace = true
		}
		w.restore(t, again)
		var restoring []string
		for r, obj := range w.objects {
			if r.Kind == "Job" && strings.HasPrefix(r.Name, restoreName+"-2") {
				for _, c := range jobOf(t, obj).Spec.Template.Spec.InitContainers {
					for _, e := range c.Env {
						if e.Name == "BACKUP_NAME" {
							restoring = append(restoring, e.Value)
						}
					}
				}
			}
		}
		if !slices.Contains(restoring, second) || slices.Contains(restoring, first) {
			t.Errorf("restored was %q, want %s", restoring, second)
		}
		if record := w.record["mlflow"]; record.Replicas != 0 || record.Restoring != "" {
			t.Errorf("recorded are %d replicas, restoring %q", record.Replicas, record.Restoring)
		}
		w.serves(t)
	})
}

func TestAFailedRestoreSaysWhatStands(t *testing.T) {
	w := holding(t, Parameters{}, "rows\truns\t12")
	w.notReady = func(r cluster.Ref) error {
		if strings.HasPrefix(r.Name, restoreName+"-2") {
			return &failure.Error{Class: failure.Diagnosed, Reason: "JobFailed", Object: r.String(), Message: "it failed", Evidence: []string{"disk full"}}
		}
		return nil
	}
	restored, err := w.client().Restore(t.Context(), Restoration{Backup: second, Replace: true}, Options{})
	f, ok := errors.AsType[*failure.Error](err)
	if !ok || len(f.Evidence) != 2 || !strings.Contains(f.Evidence[0], "kubectl mlflow install --namespace mlflow") || f.Evidence[1] != "disk full" {
		t.Fatalf("got %v, with %+v", err, f)
	}
	if restored.Before != first {
		t.Errorf("what was there before is %q", restored.Before)
	}
	w.notReady, w.journal = nil, nil
	w.install(t, Parameters{})
	if replicas, err := w.Replicas(t.Context(), w.serverOf(t)); err != nil || replicas != 1 || w.record["mlflow"].Restoring != "" {
		t.Errorf("an install left %d replicas, restoring %q", replicas, w.record["mlflow"].Restoring)
	}
}

func TestARestoreEndsOnesThatStillRun(t *testing.T) {
	w := holding(t, Parameters{})
	left := w.objects[cronJob("mlflow", restoreName)].DeepCopy()
	left.SetGroupVersionKind(core("Job", "", "").GroupVersionKind)
	left.SetAPIVersion("batch/v1")
	left.SetName(restoreName + "-20200101-000000")
	w.put(left, "")
	w.restore(t, Restoration{Backup: second})
	if i := slices.Index(w.journal, "delete job.batch/mlflow-restore-20200101-000000"); i < 0 || i > slices.IndexFunc(w.journal, func(e string) bool { return strings.HasPrefix(e, "scale") }) {
		t.Errorf("did %q", w.journal)
	}
}

func TestBackupNames(t *testing.T) {
	for name, ok := range map[string]bool{first: true, LatestBackup: true, "": false, "mlflow": false, "../x": false, "mlflow-20261399T000000Z": false} {
		if err := CheckBackupName(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
	if diff := cmp.Diff(before{second, []rows{{"runs", 3}}}, readBefore([]string{"backup\t" + second, "noise", "rows\truns\t3", "rows\truns\tmany"}), cmp.AllowUnexported(before{}, rows{})); diff != "" {
		t.Error(diff)
	}
}
