package browser

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestABrowserIsOpenedByAProgramOfTheSystem(t *testing.T) {
	dir := t.TempDir()
	seen := filepath.Join(dir, "seen")
	if err := os.WriteFile(filepath.Join(dir, "xdg-open"), []byte("#!/bin/sh\necho \"$@\" > "+seen+".new && mv "+seen+".new "+seen+"\n"), 0o700); err != nil { //nolint:gosec // it is run
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(filepath.ListSeparator)+os.Getenv("PATH"))
	if err := open(t.Context(), "linux", "http://127.0.0.1:1"); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		got, err := os.ReadFile(seen)
		if err == nil {
			if string(got) != "http://127.0.0.1:1\n" {
				t.Errorf("it is opened with %q", got)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing was opened")
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Setenv("PATH", dir+"/none")
	if err := open(t.Context(), "linux", "http://127.0.0.1:1"); err == nil {
		t.Error("there is no such program, and no error")
	}
}
