package model

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

func inDirectory(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func openDirectory(t *testing.T, name string) *Directory {
	t.Helper()
	d, err := OpenDirectory(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func TestDirectory(t *testing.T) {
	d := openDirectory(t, inDirectory(t, map[string]string{"MLmodel": "flavors: {}", "code/b.py": "b", "code/a.py": "aa", ".hidden": ""}))
	list, err := d.List(t.Context())
	want := []File{{Path: ".hidden"}, {Path: "MLmodel", Size: 11}, {Path: "code/a.py", Size: 2}, {Path: "code/b.py", Size: 1}}
	if err != nil || !reflect.DeepEqual(list, want) {
		t.Errorf("listed %v, %v", list, err)
	}
	in, err := d.Open(t.Context(), "MLmodel", 9)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(in)
	if err != nil || string(text) != "{}" {
		t.Errorf("from offset 9: %q, %v", text, err)
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	if _, err := d.Open(t.Context(), "none", 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	if _, err := d.Open(t.Context(), "../MLmodel", 0); err == nil {
		t.Error("opened a file outside of the directory")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.List(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}

func TestDirectoryRefusesWhatIsNoFile(t *testing.T) {
	for kind, put := range map[string]func(path string) error{
		"a symbolic link": func(path string) error { return os.Symlink("MLmodel", path) },
		"not a regular file": func(path string) error {
			socket, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
			if err == nil {
				t.Cleanup(func() { _ = socket.Close() })
			}
			return err
		},
	} {
		dir := inDirectory(t, map[string]string{"MLmodel": "", "data/x": ""})
		if err := put(filepath.Join(dir, "data", "weights")); err != nil {
			t.Fatal(err)
		}
		_, err := openDirectory(t, dir).List(t.Context())
		if failure.ClassOf(err) != failure.Invalid || !strings.Contains(err.Error(), `"data/weights" in the model's directory is `+kind) {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestNoDirectory(t *testing.T) {
	file := filepath.Join(inDirectory(t, map[string]string{"MLmodel": ""}), "MLmodel")
	for name, want := range map[string]string{
		"/none/iris":     `there is no directory "/none/iris"`,
		file:             "is not a directory",
		"nul\x00in it":   "cannot be opened",
		"./esc\x1b[31mX": "there is no directory \"./esc\\x1b[31mX\"",
	} {
		_, err := OpenDirectory(name)
		if failure.ClassOf(err) != failure.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", name, err)
		}
	}
}
