package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/node"
)

// checkHost says what keeps this machine from holding a full node, all at once.
func checkHost(bin string) error {
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		return errors.New("profile full needs Linux and root: it makes namespaces, mounts and cgroups; profile api needs neither")
	}
	var problems []error
	if _, err := node.HostHierarchies(); err != nil {
		problems = append(problems, err)
	}
	for _, tool := range []string{"iptables", "ip6tables", "iptables-save", "iptables-restore"} {
		if _, err := os.Stat(bin + "/" + tool); err == nil {
			continue
		}
		if _, err := exec.LookPath(tool); err != nil {
			problems = append(problems, fmt.Errorf("%s is missing, which kube-proxy and the CNI plugins call (Debian package iptables)", tool))
		}
	}
	problems = append(problems, checkNetwork())
	return errors.Join(problems...)
}

// checkNetwork makes sure that the node's network is nobody's yet.
func checkNetwork() error {
	_, ours, err := net.ParseCIDR(linkNetwork)
	if err != nil {
		return err
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("routes of this machine: %w", err)
	}
	for _, r := range routes {
		if r.Dst == nil || !overlap(ours, r.Dst) {
			continue
		}
		if ones, _ := r.Dst.Mask.Size(); ones == 0 {
			continue
		}
		link, err := netlink.LinkByIndex(r.LinkIndex)
		if err != nil {
			return fmt.Errorf("interface %d of this machine: %w", r.LinkIndex, err)
		}
		if link.Attrs().Name != hostLink {
			return fmt.Errorf("%s, the lab's network, is routed to %s by %s already: the lab needs it for itself", linkNetwork, r.Dst, link.Attrs().Name)
		}
	}
	return nil
}

func overlap(a, b *net.IPNet) bool { return a.Contains(b.IP) || b.Contains(a.IP) }

// owner is the supervisor that lives in the lab's cgroup, and the run folder that it was started with.
type owner struct {
	pid    int
	folder string
}

// findOwner looks for a full node on this machine, of whatever cache folder: there can be one. The pid is 0 where there is none.
func findOwner() (owner, error) {
	list, err := node.HostHierarchies()
	if err != nil {
		return owner{}, nil //nolint:nilerr // without cgroups no node was ever up
	}
	for _, h := range list {
		text, err := os.ReadFile(filepath.Join(h.Path, cgroupRoot, "node", "cgroup.procs"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return owner{}, fmt.Errorf("processes of the node: %w", err)
		}
		for _, field := range strings.Fields(string(text)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				return owner{}, fmt.Errorf("processes of the node: %w", err)
			}
			command, err := os.ReadFile(filepath.Join("/proc", field, "cmdline"))
			if err != nil {
				// It has ended meanwhile.
				continue
			}
			arguments := strings.Split(strings.TrimRight(string(command), "\x00"), "\x00")
			if spec := arguments[len(arguments)-1]; filepath.Base(spec) == specFile {
				return owner{pid: pid, folder: filepath.Dir(spec)}, nil
			}
		}
	}
	return owner{}, nil
}

// checkOwner makes sure that the one full node of this machine, if there is one, is of this run folder. One whose folder
// is gone, or which has lost its lock with it, is nobody's: it is ended.
func checkOwner(run string) error {
	o, err := findOwner()
	if err != nil || o.pid == 0 {
		return err
	}
	alive, err := node.Alive(o.folder)
	if err != nil {
		return err
	}
	if alive == 0 {
		if err := syscall.Kill(o.pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("end a forgotten node, pid %d: %w", o.pid, err)
		}
		return nil
	}
	if o.folder != run {
		return fmt.Errorf("%w: %s; end it with KUBECTL_MLFLOW_LAB_CACHE=%s lab down", errOtherCache, o.folder, filepath.Dir(filepath.Dir(o.folder)))
	}
	return nil
}

var errOtherCache = errors.New("the one full node of this machine belongs to another cache")

// linkNode makes the veth pair whose one end is the host's and whose other is the node's, of which pid is PID 1.
// Nothing else of the host's network is touched, and with the node's namespace the pair is gone.
func linkNode(pid int) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = hostLink
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: nodeLink, PeerNamespace: netlink.NsPid(pid)}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("veth pair %s of the node: %w", hostLink, err)
	}
	addr, err := netlink.ParseAddr(hostAddress + "/24")
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(veth, addr); err != nil {
		return fmt.Errorf("address %s of %s: %w", hostAddress, hostLink, err)
	}
	if err := netlink.LinkSetUp(veth); err != nil {
		return fmt.Errorf("interface %s: %w", hostLink, err)
	}
	return nil
}

// unlinkNode removes the veth pair, and returns once it is gone.
func unlinkNode(ctx context.Context) error {
	for {
		link, err := netlink.LinkByName(hostLink)
		if missing := (netlink.LinkNotFoundError{}); errors.As(err, &missing) {
			return nil
		}
		if err == nil {
			err = netlink.LinkDel(link)
		}
		// An error here may be the kernel's having removed it in between: looked at again below.
		if !node.Wait(ctx, 50*time.Millisecond) {
			return fmt.Errorf("remove interface %s: %w", hostLink, errors.Join(ctx.Err(), err))
		}
	}
}

// tail returns the last lines of a log.
func tail(file string, lines int) string {
	text, err := os.ReadFile(file) // #nosec G304 -- a log of the lab's own
	if err != nil {
		return "(no log: " + err.Error() + ")"
	}
	all := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
