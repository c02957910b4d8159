//go:build e2e

package e2e

import (
	"strings"
	"testing"
)

// job runs a CronJob now, to its end.
func (n *installed) job(t *testing.T, cronJob string) {
	t.Helper()
	name := strings.TrimPrefix(cronJob, "mlflow-") + "-now"
	n.kubectl(t, "delete", "job", name, "--ignore-not-found", "--wait")
	n.kubectl(t, "create", "job", name, "--from=cronjob/"+cronJob)
	timed(t, cronJob, func() {
		n.kubectl(t, "wait", "--for=condition=complete", "job/"+name, "--timeout=3m")
	})
	n.kubectl(t, "logs", "job/"+name, "--all-containers") // for the log of the test
}

// TestBackupAndRestore loses the data and gets it back: from a volume, and from a bucket.
func TestBackupAndRestore(t *testing.T) {
	l := openLab(t)
	l.addon(t, "google")
	for _, c := range []struct {
		place string
		flags []string
	}{
		{"volume", nil},
		{"bucket", []string{
			"--overlay=gcp", "--artifacts-destination=gs://" + bucket + "/backed-up", "--backup-destination=gs://" + bucket + "/backups",
			"-k", kustomization(t, storage), "--basic-auth",
		}},
	} {
		t.Run(c.place, func(t *testing.T) {
			n := l.namespace(t, "lab-backup-"+c.place)
			n.create(t)
			n.mlflow(t, "install", append([]string{"--backup-schedule=manual"}, c.flags...)...)
			credentials := n.credentials(t)
			data := n.log(t, credentials...)
			name := strings.TrimSpace(n.mlflow(t, "backup").stdout)
			if list := n.mlflow(t, "backup", "--list").stdout; name == "" || !strings.Contains(list, name) {
				t.Errorf("the backup %q is not among\n%s", name, list)
			}
			if c.place == "bucket" {
				if names := l.objects(t, "backups/"); !strings.Contains(names, "/tracking.dump\n") || !strings.Contains(names, "/auth.dump\n") {
					t.Errorf("the bucket holds no backup of both databases, but\n%s", names)
				}
			}
			n.sql(t, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
			// No server may run meanwhile.
			n.kubectl(t, "scale", "deployment/mlflow", "--replicas=0")
			n.kubectl(t, "wait", "--for=delete", "pod", "-l", "app=mlflow", "--timeout=2m")
			n.job(t, "mlflow-restore")
			n.kubectl(t, "scale", "deployment/mlflow", "--replicas=1")
			n.mlflow(t, "wait")
			n.check(t, data, credentials...)
		})
	}
}

// TestGarbage is removed for good by the CronJob, and nothing else is.
func TestGarbage(t *testing.T) {
	l := openLab(t)
	n := l.namespace(t, "lab-gc")
	n.create(t)
	n.mlflow(t, "install", "--gc-schedule=0 3 * * 0", "--gc-older-than=0s")
	kept, deleted := n.log(t), n.log(t)
	n.sql(t, "UPDATE runs SET lifecycle_stage = 'deleted', deleted_time = 1 WHERE run_uuid = '"+deleted.Run+"'")
	n.job(t, "mlflow-gc")
	if left := n.sql(t, "SELECT run_uuid FROM runs"); left != kept.Run {
		t.Errorf("the runs are %q, want %s alone", left, kept.Run)
	}
	n.check(t, kept)
}
