// Package snapshot lists what a program may leave on a machine, so that before and after can be compared.
package snapshot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/node"
)

// folders are where programs leave files.
func folders() []string {
	return []string{"/etc", "/opt", "/run", "/srv", "/tmp", "/usr/libexec", "/usr/local", "/var"}
}

// sysctls are those that kubelet, kube-proxy or the lab set, which are to be set in the node alone.
func sysctls() []string {
	return []string{
		"kernel/keys/root_maxbytes", "kernel/keys/root_maxkeys", "kernel/panic", "kernel/panic_on_oops",
		"net/ipv4/ip_forward", "net/netfilter/nf_conntrack_max", "vm/overcommit_memory", "vm/panic_on_oom",
	}
}

// Take returns one sorted line for every process of user space, mount, interface, address, route, firewall rule, cgroup,
// and file in the folders where programs leave files, without those in except.
func Take(except ...string) ([]string, error) {
	var lines []string
	var errs []error
	for _, part := range []func([]string) ([]string, error){processes, mounts, network, firewall, cgroups, values, leftFiles} {
		more, err := part(except)
		lines = append(lines, more...)
		errs = append(errs, err)
	}
	slices.Sort(lines)
	return lines, errors.Join(errs...)
}

// building tells whether a process is of a Go build or test, which may go on at the same time.
func building(process string) bool {
	return slices.Contains([]string{"asm", "cgo", "compile", "go", "link", "vet"}, process) || strings.HasSuffix(process, ".test")
}

// ours tells whether a process is of the lab: by its cgroup, by its program, or by a path in the lab's folder that it was started with.
func ours(pid string, command []byte, lab []string) bool {
	if groups, err := os.ReadFile(filepath.Join("/proc", pid, "cgroup")); err == nil && strings.Contains(string(groups), "/kubectl-mlflow-lab") {
		return true
	}
	if self, err := os.Executable(); err == nil {
		if program, err := os.Readlink(filepath.Join("/proc", pid, "exe")); err == nil && program == self {
			return true
		}
	}
	return slices.ContainsFunc(lab, func(folder string) bool { return folder != "" && strings.Contains(string(command), folder) })
}

// processes are those with a command line, which kernel threads have not. This one and its parents are left out. Those of the lab,
// whose folder is in except, are told apart.
func processes(except []string) ([]string, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	own, err := ancestors()
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || own[pid] {
			continue
		}
		command, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil || len(command) == 0 {
			// Gone in the meantime, or a kernel thread.
			continue
		}
		comm, err := os.ReadFile(filepath.Join("/proc", e.Name(), "comm"))
		switch name := strings.TrimSpace(string(comm)); {
		case err != nil: // gone in the meantime
		case ours(e.Name(), command, except):
			lines = append(lines, "lab process "+name)
		case !building(name):
			lines = append(lines, "process "+name)
		}
	}
	return lines, nil
}

func ancestors() (map[int]bool, error) {
	own := map[int]bool{}
	for pid := os.Getpid(); pid > 1; {
		own[pid] = true
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return nil, err
		}
		// The name in parentheses may hold spaces; state and parent follow it.
		_, after, _ := strings.Cut(string(stat), ") ")
		fields := strings.Fields(after)
		if len(fields) < 2 {
			return nil, fmt.Errorf("/proc/%d/stat reads %q", pid, stat)
		}
		if pid, err = strconv.Atoi(fields[1]); err != nil {
			return nil, err
		}
	}
	return own, nil
}

func mounts([]string) ([]string, error) {
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		lines = append(lines, "mount "+strings.TrimSpace(line))
	}
	return lines, nil
}

func network([]string) ([]string, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, l := range links {
		lines = append(lines, fmt.Sprintf("link %s %s", l.Type(), l.Attrs().Name))
		addrs, err := netlink.AddrList(l, netlink.FAMILY_ALL)
		if err != nil {
			return nil, err
		}
		for _, a := range addrs {
			lines = append(lines, fmt.Sprintf("address %s %s", l.Attrs().Name, a.IPNet))
		}
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, err
	}
	for _, r := range routes {
		lines = append(lines, "route "+r.String())
	}
	return lines, nil
}

// firewall are the rules of all tools that this machine has.
func firewall([]string) ([]string, error) {
	var lines []string
	for _, command := range [][]string{{"iptables-save"}, {"ip6tables-save"}, {"iptables-legacy-save"}, {"nft", "list", "ruleset"}} {
		path, err := exec.LookPath(command[0])
		if err != nil {
			continue
		}
		out, err := exec.Command(path, command[1:]...).CombinedOutput() // #nosec G204 -- fixed commands
		if err != nil {
			return nil, fmt.Errorf("%s: %w: %s", path, err, out)
		}
		for line := range strings.Lines(string(out)) {
			// Comments hold the time, the lines of chains hold counters.
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				rule, _, _ := strings.Cut(line, " [")
				lines = append(lines, "firewall "+command[0]+" "+rule)
			}
		}
	}
	return lines, nil
}

func cgroups([]string) ([]string, error) {
	list, err := node.HostHierarchies()
	if err != nil {
		return nil, nil //nolint:nilerr // a machine without cgroups has none left over
	}
	var lines []string
	for _, h := range list {
		err := walk(h.Path, func(path string, d fs.DirEntry) error {
			if d.IsDir() {
				lines = append(lines, "cgroup "+path)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return lines, nil
}

func values([]string) ([]string, error) {
	var lines []string
	for _, path := range sysctls() {
		text, err := os.ReadFile(filepath.Join("/proc/sys", path))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		lines = append(lines, "sysctl "+path+" "+strings.TrimSpace(string(text)))
	}
	return lines, nil
}

func leftFiles(except []string) ([]string, error) {
	var lines []string
	for _, folder := range folders() {
		err := walk(folder, func(path string, _ fs.DirEntry) error {
			for _, e := range except {
				if node.Within(path, e) {
					return fs.SkipDir
				}
			}
			if base := filepath.Base(path); strings.HasPrefix(base, "go-build") || strings.HasPrefix(path, "/tmp/Test") {
				// The scratch folders of Go builds and tests that go on at the same time, such as the one that asks.
				return fs.SkipDir
			}
			lines = append(lines, "file "+path)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return lines, nil
}

// walk visits what is there and readable; what goes away meanwhile is left out.
func walk(folder string, visit func(path string, d fs.DirEntry) error) error {
	return filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return nil
		}
		if err != nil {
			return err
		}
		return visit(path, d)
	})
}

// Diff returns what only one of two snapshots has: "+ " what came, "- " what went.
func Diff(before, after []string) []string {
	count := map[string]int{}
	for _, line := range after {
		count[line]++
	}
	for _, line := range before {
		count[line]--
	}
	var lines []string
	for line, n := range count {
		for ; n > 0; n-- {
			lines = append(lines, "+ "+line)
		}
		for ; n < 0; n++ {
			lines = append(lines, "- "+line)
		}
	}
	slices.Sort(lines)
	return lines
}

// Left is what of a diff the lab has caused. A machine does other work meanwhile, whose processes and temporary files come and go.
func Left(diff []string) []string {
	return slices.DeleteFunc(slices.Clone(diff), func(line string) bool {
		return strings.HasPrefix(line[2:], "process ") || strings.HasPrefix(line[2:], "file /tmp/")
	})
}
