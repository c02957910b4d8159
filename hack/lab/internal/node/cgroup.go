package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Hierarchy is one mounted cgroup filesystem. In version 1 there are many, in version 2 one.
type Hierarchy struct {
	Path    string
	Version int
	// Controllers are those of a version 1 hierarchy: "cpuset", "memory", "name=systemd".
	Controllers []string
}

// Hierarchies reads the cgroup filesystems from a mountinfo file (proc(5)).
func Hierarchies(mountinfo io.Reader) ([]Hierarchy, error) {
	var list []Hierarchy
	lines := bufio.NewScanner(mountinfo)
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 5 || len(right) < 3 {
			continue
		}
		h := Hierarchy{Path: unescape(left[4])}
		switch right[0] {
		case "cgroup":
			h.Version, h.Controllers = 1, strings.Split(right[2], ",")
		case "cgroup2":
			h.Version = 2
		default:
			continue
		}
		// The same hierarchy may be mounted twice over each other.
		if !slices.ContainsFunc(list, func(o Hierarchy) bool { return o.Path == h.Path }) {
			list = append(list, h)
		}
	}
	return list, lines.Err()
}

// unescape undoes mountinfo's octal escapes of space, tab, newline and backslash.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// HostHierarchies are those of this process's mount namespace.
func HostHierarchies() ([]Hierarchy, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	list, err := Hierarchies(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, errors.New("no cgroup filesystem is mounted: the node needs one, version 1 or 2")
	}
	return list, nil
}

// EnterCgroup makes the cgroup root with a child "node" in every hierarchy and moves the calling process into the child:
// in version 2, processes and controllers of children do not share a cgroup, and root is to be the parent of the pods'.
func EnterCgroup(root string) error {
	list, err := HostHierarchies()
	if err != nil {
		return err
	}
	for _, h := range list {
		if err := h.enter(root); err != nil {
			return fmt.Errorf("cgroup %s: %w", filepath.Join(h.Path, root), err)
		}
	}
	return nil
}

func (h Hierarchy) enter(root string) error {
	parent := filepath.Join(h.Path, root)
	leaf := filepath.Join(parent, "node")
	for _, folder := range []string{parent, leaf} {
		if err := os.Mkdir(folder, 0o755); err != nil && !errors.Is(err, fs.ErrExist) { // #nosec G301 -- as all of cgroupfs
			return err
		}
		if err := h.furnish(folder); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(leaf, "cgroup.procs"), []byte("0"), 0o600)
}

// furnish makes a new cgroup usable: its parent hands it controllers (version 2), or CPUs and memory nodes (version 1).
func (h Hierarchy) furnish(folder string) error {
	parent := filepath.Dir(folder)
	if h.Version == 2 {
		return delegate(parent)
	}
	if !slices.Contains(h.Controllers, "cpuset") {
		return nil
	}
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(parent, name)) // #nosec G304 -- the kernel's own filesystem
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, name), value, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// delegate enables for the children of a version 2 cgroup every controller that it has itself.
func delegate(folder string) error {
	has, err := os.ReadFile(filepath.Join(folder, "cgroup.controllers")) // #nosec G304 -- the kernel's own filesystem
	if err != nil {
		return err
	}
	gives, err := os.ReadFile(filepath.Join(folder, "cgroup.subtree_control")) // #nosec G304 -- the kernel's own filesystem
	if err != nil {
		return err
	}
	enabled := strings.Fields(string(gives))
	for _, controller := range strings.Fields(string(has)) {
		if slices.Contains(enabled, controller) {
			continue
		}
		err := os.WriteFile(filepath.Join(folder, "cgroup.subtree_control"), []byte("+"+controller), 0o600)
		if err != nil {
			return fmt.Errorf("enable controller %s: %w", controller, err)
		}
	}
	return nil
}

// RemoveCgroup removes the cgroup root and all below it from every hierarchy, as soon as the processes in it have ended.
func RemoveCgroup(ctx context.Context, root string) error {
	list, err := HostHierarchies()
	if err != nil {
		return err
	}
	for {
		var left error
		for _, h := range list {
			left = errors.Join(left, removeTree(filepath.Join(h.Path, root)))
		}
		if left == nil {
			return nil
		}
		if !Wait(ctx, 50*time.Millisecond) {
			return fmt.Errorf("cgroups of the node: %w", left)
		}
	}
}

// removeTree removes a cgroup from the leaves up. A folder of cgroupfs goes with its files, while they are never removed alone.
func removeTree(folder string) error {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(folder, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := os.Remove(folder); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
