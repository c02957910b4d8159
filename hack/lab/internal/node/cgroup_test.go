package node

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestHierarchies(t *testing.T) {
	for _, test := range []struct {
		name, mountinfo string
		want            []Hierarchy
	}{
		{"version 2", `24 1 0:22 / / rw - ext4 /dev/vda rw
30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate
`, []Hierarchy{{Path: "/sys/fs/cgroup", Version: 2}}},
		{"version 1, with the unified hierarchy beside", `30 24 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
`, []Hierarchy{
			{Path: "/sys/fs/cgroup/cpu,cpuacct", Version: 1, Controllers: []string{"rw", "cpu", "cpuacct"}},
			{Path: "/sys/fs/cgroup/systemd", Version: 1, Controllers: []string{"rw", "name=systemd"}},
			{Path: "/sys/fs/cgroup/unified", Version: 2},
		}},
		{"twice, and a space in the path", `31 30 0:27 / /a\040b rw - cgroup cgroup rw,pids
32 30 0:27 / /a\040b rw - cgroup cgroup rw,pids
`, []Hierarchy{{Path: "/a b", Version: 1, Controllers: []string{"rw", "pids"}}}},
	} {
		got, err := Hierarchies(strings.NewReader(test.mountinfo))
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %+v, %v", test.name, got, err)
		}
	}
}

func TestVersion1ChildInheritsCPUs(t *testing.T) {
	root := t.TempDir()
	put(t, root, map[string]string{"cpuset.cpus": "0-1\n", "cpuset.mems": "0\n"})
	h := Hierarchy{Path: root, Version: 1, Controllers: []string{"rw", "cpuset"}}
	if err := h.enter("/lab"); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"lab/cpuset.cpus": "0-1\n", "lab/node/cpuset.cpus": "0-1\n", "lab/node/cpuset.mems": "0\n", "lab/node/cgroup.procs": "0",
	} {
		if got := content(t, root, file); got != want {
			t.Errorf("%s reads %q, want %q", file, got, want)
		}
	}
}

func TestVersion2ParentHandsOnItsControllers(t *testing.T) {
	root := t.TempDir()
	put(t, root, map[string]string{"cgroup.controllers": "cpu memory pids\n", "cgroup.subtree_control": "cpu memory pids\n"})
	put(t, filepath.Join(root, "lab"), map[string]string{"cgroup.controllers": "cpu\n", "cgroup.subtree_control": "\n"})
	if err := (Hierarchy{Path: root, Version: 2}).enter("/lab"); err != nil {
		t.Fatal(err)
	}
	if got := content(t, root, "cgroup.subtree_control"); got != "cpu memory pids\n" {
		t.Errorf("what was enabled already was written again: %q", got)
	}
	if got := content(t, root, "lab/cgroup.subtree_control"); got != "+cpu" {
		t.Errorf("the pods' parent hands on %q", got)
	}
}

func TestRemoveTreeGoesFromTheLeavesUp(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "lab/kubepods/burstable/pod1"), 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := removeTree(filepath.Join(root, "lab")); err != nil {
			t.Fatal(err)
		}
	}
	if entries, err := os.ReadDir(root); err != nil || len(entries) != 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

func TestWithin(t *testing.T) {
	for _, test := range []struct {
		path, folder string
		want         bool
	}{
		{"/var/lib/lab", "/var/lib", true}, {"/var/lib", "/var/lib", true}, {"/var/library", "/var/lib", false},
		{"/var", "/var/lib", false}, {"/root/..cache", "/root", true},
	} {
		if got := Within(test.path, test.folder); got != test.want {
			t.Errorf("Within(%s, %s) = %v", test.path, test.folder, got)
		}
	}
}

func put(t *testing.T, folder string, files map[string]string) {
	t.Helper()
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func content(t *testing.T, folder, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(folder, file)) // #nosec G304 -- a file of this test
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
