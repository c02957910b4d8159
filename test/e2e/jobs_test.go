//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
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

// TestBackupAndRestore loses the data and gets it back; takes back what was not meant, with the tag long; and moves the data of one MLflow to
// another. TestBucket has its backups in a bucket.
func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	l := openLab(t)
	n := l.namespace(t, "lab-backup")
	n.create(t)
	n.mlflow(t, "install", "--backup-schedule=manual")
	data := n.log(t)
	name := n.losesAndRestores(t, data)

	n.refused(t, 5, []string{" in runs", "--replace"}, "restore", name)
	n.refused(t, 2, []string{"there is no backup mlflow-20200101T000000Z", name}, "restore", "mlflow-20200101T000000Z")
	if long {
		n.takesBack(t, name, data)
	}
	l.move(t, n, data)
}

// takesBack replaces what is there by a backup, and that by what was there.
func (n *installed) takesBack(t *testing.T, name string, data logged) {
	t.Helper()
	later := n.log(t)
	n.mlflow(t, "restore", name, "--replace") // what was there is the newest backup then
	n.check(t, data)
	if left := n.sql(t, "SELECT count(*) FROM runs WHERE run_uuid = '"+later.Run+"'"); left != "0" {
		t.Error("a run is there that is not in the backup")
	}
	n.mlflow(t, "restore", "latest", "--replace")
	n.check(t, later)
}

// losesAndRestores makes a backup, loses the database and restores it. It returns the backup's name.
func (n *installed) losesAndRestores(t *testing.T, data logged, credentials ...string) string {
	t.Helper()
	otherPassword := func() { // and back
		if len(credentials) > 0 {
			n.sqlOn(t, "mlflow_auth", "UPDATE users SET password_hash = reverse(password_hash) WHERE username = 'admin'")
		}
	}
	otherPassword()
	name := strings.TrimSpace(n.mlflow(t, "backup").stdout)
	otherPassword()
	if list := n.mlflow(t, "backup", "--list").stdout; name == "" || !strings.Contains(list, name) {
		t.Errorf("the backup %q is not among\n%s", name, list)
	}
	n.sql(t, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
	if len(credentials) > 0 {
		n.keepsItsUsers(t, name)
	}
	if restored := n.mlflow(t, "restore", name); restored.stdout != name+"\n" {
		t.Errorf("it restored %q, want %s", restored.stdout, name)
	}
	n.check(t, data, credentials...)
	return name
}

// keepsItsUsers makes the backup's users older than those that there are: a new one is not lost unasked, and the admin's password, which
// was another one then, stays that of the Secret: the check after the restore logs in with it.
func (n *installed) keepsItsUsers(t *testing.T, name string) {
	t.Helper()
	n.sqlOn(t, "mlflow_auth", "INSERT INTO users (username, password_hash, is_admin) VALUES ('ann', 'none', false)")
	n.refused(t, 5, []string{"1 in users", "--replace"}, "restore", name)
	n.sqlOn(t, "mlflow_auth", "DELETE FROM users WHERE username = 'ann'")
}

// move takes a dump of an installation's database, and gives it to another one. Artifacts stay where they are.
func (l *lab) move(t *testing.T, from *installed, data logged) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "mlflow.dump")
	dump, err := l.command(t.Context(), nil, l.Kubectl, "-n", from.namespace, "exec", "statefulset/postgres", "--",
		"bash", "-c", `pg_dump --format=custom --username "$POSTGRES_USER" "$POSTGRES_DB"`).Output()
	if err == nil {
		err = os.WriteFile(file, dump, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	to := l.namespace(t, "lab-moved")
	to.create(t)
	to.mlflow(t, "install", "--backup-schedule=manual")
	to.mlflow(t, "restore", "--from-file", file)
	if found := to.sql(t, "SELECT count(*) FROM runs WHERE run_uuid = '"+data.Run+"'"); found != "1" {
		t.Errorf("%s runs are there, want the one that was logged elsewhere", found)
	}
	half := filepath.Join(t.TempDir(), "half.dump")
	if err := os.WriteFile(half, dump[:len(dump)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	to.refused(t, 5, []string{"the dump would replace"}, "restore", "--from-file", half)
	to.refused(t, 4, []string{"pg_restore"}, "restore", "--from-file", half, "--replace")
}

// TestGarbage is removed for good by the CronJob, and nothing else is.
func TestGarbage(t *testing.T) {
	t.Parallel()
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
