package trackingserver

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// backups runs backup.py over a volume of the test's own.
type backups struct{ volume, work string }

func newBackups(t *testing.T) backups {
	t.Helper()
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("SKIPPED: there is no python3 on PATH to run backup.py")
	}
	return backups{t.TempDir(), t.TempDir()}
}

func (b backups) run(t *testing.T, mode string, env ...string) (string, error) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "python3", "../../manifests/components/backup/backup.py", mode)
	command.Env = append(os.Environ(), append([]string{"BACKUP_VOLUME=" + b.volume, "BACKUP_WORK=" + b.work}, env...)...)
	out, err := command.CombinedOutput()
	return string(out), err
}

// dump leaves what database.sh leaves.
func (b backups) dump(t *testing.T, name string, whole bool) {
	t.Helper()
	sum := sha256.Sum256([]byte(name))
	files := map[string]string{filepath.Join(b.volume, name, "tracking.dump"): name, filepath.Join(b.work, "name"): name}
	if whole {
		files[filepath.Join(b.volume, name, "SHA256SUMS")] = hex.EncodeToString(sum[:]) + "  tracking.dump\n"
	}
	if err := os.Mkdir(filepath.Join(b.volume, name), 0o700); err != nil {
		t.Fatal(err)
	}
	for path, text := range files {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// schemas makes a migrate.py that knows these.
func (b backups) schemas(t *testing.T, known ...string) {
	t.Helper()
	text := fmt.Sprintf("def image_revisions():\n    return %q, set(%q.split())\n", known[0], strings.Join(known, " "))
	if err := os.WriteFile(filepath.Join(b.work, "migrate.py"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (b backups) names(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(b.volume)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

const first, second, third, fourth = "mlflow-20260101T000000Z", "mlflow-20260102T000000Z", "mlflow-20260103T000000Z", "mlflow-20260104T000000Z"

func TestTheNewestBackupsAreKept(t *testing.T) {
	b := newBackups(t)
	b.dump(t, first, true)
	b.dump(t, second, false) // of a pod that was killed
	b.dump(t, third, true)
	b.dump(t, fourth, true)
	if err := os.Mkdir(filepath.Join(b.volume, "lost+found"), 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := b.run(t, "store", "BACKUP_KEEP=2"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if diff := cmp.Diff([]string{"lost+found", third, fourth}, b.names(t)); diff != "" {
		t.Error(diff)
	}
	if out, err := b.run(t, "store", "BACKUP_KEEP=0"); err != nil { // the last one stays whatever is said
		t.Fatalf("%v: %s", err, out)
	}
	if diff := cmp.Diff([]string{"lost+found", fourth}, b.names(t)); diff != "" {
		t.Error(diff)
	}
}

// A backup that failed takes no other one's place.
func TestADamagedBackupRemovesNone(t *testing.T) {
	for _, damage := range []func(folder string) error{
		func(folder string) error { return os.Remove(filepath.Join(folder, "SHA256SUMS")) },
		func(folder string) error { return os.WriteFile(filepath.Join(folder, "tracking.dump"), nil, 0o600) },
	} {
		b := newBackups(t)
		b.dump(t, first, true)
		b.dump(t, second, true)
		if err := damage(filepath.Join(b.volume, second)); err != nil {
			t.Fatal(err)
		}
		if out, err := b.run(t, "store", "BACKUP_KEEP=1"); err == nil {
			t.Errorf("a damaged backup is stored: %s", out)
		}
		if diff := cmp.Diff([]string{first, second}, b.names(t)); diff != "" {
			t.Error(diff)
		}
	}
}

func TestFetchFindsAWholeBackup(t *testing.T) {
	b := newBackups(t)
	if out, err := b.run(t, "fetch"); err == nil || !strings.Contains(out, "there are no backups") {
		t.Errorf("of none, it fetches: %v: %s", err, out)
	}
	b.dump(t, first, true)
	b.dump(t, second, true)
	b.dump(t, third, false)
	for wanted, want := range map[string]string{"": second, first: first} {
		if out, err := b.run(t, "fetch", "BACKUP_NAME="+wanted); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if source, err := os.ReadFile(filepath.Join(b.work, "source")); err != nil || string(source) != filepath.Join(b.volume, want) {
			t.Errorf("BACKUP_NAME=%s gives %s, %v", wanted, source, err)
		}
	}
	if out, err := b.run(t, "fetch", "BACKUP_NAME="+third); err == nil || !strings.Contains(out, first+", "+second) {
		t.Errorf("half a backup is fetched: %v: %s", err, out)
	}
	if out, err := b.run(t, "list"); err != nil || out != first+"\t103\n"+second+"\t103\n" {
		t.Errorf("the list is %q, %v", out, err)
	}
	b.schemas(t, "0a1b", "2c3d")
	for revision, known := range map[string]bool{"2c3d": true, "ffff": false} {
		if err := os.WriteFile(filepath.Join(b.volume, second, "schema"), []byte(revision+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := b.run(t, "fetch", "BACKUP_SCHEMAS="+b.work); (err == nil) != known || !known && !strings.Contains(out, "of a newer one") {
			t.Errorf("a backup of revision %s: %v: %s", revision, err, out)
		}
	}
	if err := os.WriteFile(filepath.Join(b.volume, second, "tracking.dump"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := b.run(t, "fetch"); err == nil || !strings.Contains(out, "damaged") {
		t.Errorf("a damaged backup is fetched: %v: %s", err, out)
	}
}
