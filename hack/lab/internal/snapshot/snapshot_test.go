package snapshot

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestDiff(t *testing.T) {
	got := Diff([]string{"process a", "process a", "mount x", "mount y"}, []string{"process a", "mount y", "mount z", "mount z"})
	if want := []string{"+ mount z", "+ mount z", "- mount x", "- process a"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWhatOthersDoMeanwhileIsNotLeftByTheLab(t *testing.T) {
	got := Left([]string{"+ process bash", "- file /tmp/other", "+ lab process kubelet", "- link eth0", "+ file /etc/cni"})
	if want := []string{"+ lab process kubelet", "- link eth0", "+ file /etc/cni"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestFilesAreSeenUnlessExcepted(t *testing.T) {
	folder, err := os.MkdirTemp("/tmp", "lab-snapshot-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(folder); err != nil {
			t.Error(err)
		}
	})
	for _, name := range []string{"seen", "cache/hidden"} {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	lines, err := leftFiles([]string{filepath.Join(folder, "cache")})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(lines, "file "+filepath.Join(folder, "seen")) {
		t.Error("a file in /tmp is not seen")
	}
	if slices.Contains(lines, "file "+filepath.Join(folder, "cache/hidden")) {
		t.Error("what was excepted is seen")
	}
}
