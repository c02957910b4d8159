package completion

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

func TestTheLinkMovesWithThePlugin(t *testing.T) {
	for name, c := range map[string]struct{ directory, want string }{
		"beside it": {"/opt/bin", "kubectl-mlflow"},
		"elsewhere": {"/home/ada/bin", "/opt/bin/kubectl-mlflow"},
	} {
		if got := newLink("linux", "/opt/bin/kubectl-mlflow", c.directory); got.target != c.want || got.file != filepath.Join(c.directory, "kubectl_complete-mlflow") {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestAScriptOnWindows(t *testing.T) {
	folder := t.TempDir()
	l := newLink("windows", filepath.Join(folder, "kubectl-mlflow.exe"), folder)
	for i, want := range []bool{true, false} {
		made, err := l.make()
		if err != nil || made != want {
			t.Errorf("call %d: made is %v, error %v", i, made, err)
		}
	}
	if _, err := os.Stat(filepath.Join(folder, "kubectl_complete-mlflow.cmd")); err != nil {
		t.Error(err)
	}
}

func TestTheArchivesScriptIsOurs(t *testing.T) {
	folder := t.TempDir()
	l := newLink("linux", filepath.Join(folder, "kubectl-mlflow"), folder)
	if err := os.WriteFile(l.file, script, 0o600); err != nil {
		t.Fatal(err)
	}
	if made, err := l.make(); err != nil || made {
		t.Errorf("made is %v, error %v", made, err)
	}
}

func TestADirectoryOfThatNameIsForeign(t *testing.T) {
	folder := t.TempDir()
	l := newLink("linux", filepath.Join(folder, "kubectl-mlflow"), folder)
	if err := os.Mkdir(l.file, 0o750); err != nil {
		t.Fatal(err)
	}
	if _, err := l.make(); failure.ClassOf(err) != failure.Refused {
		t.Errorf("error %v", err)
	}
}
