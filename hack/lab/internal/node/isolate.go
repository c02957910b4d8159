package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
)

// linkTimeout is how long the supervisor waits for `lab up` to move the node's interface in.
const linkTimeout = 30 * time.Second

// Namespaces are what a node with an Isolation is started in.
const Namespaces = syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC

// isolate makes the namespaces that the process was born in a node: cgroup, host name, mounts, network.
func isolate(ctx context.Context, iso Isolation) error {
	if os.Getpid() != 1 {
		return errors.New("the node is not PID 1 of namespaces of its own: it is started by `lab up`, not by hand")
	}
	if err := EnterCgroup(iso.Cgroup); err != nil {
		return err
	}
	if err := syscall.Sethostname([]byte(iso.Hostname)); err != nil {
		return fmt.Errorf("host name of the node: %w", err)
	}
	if err := mountAll(iso); err != nil {
		return err
	}
	for _, s := range iso.Sysctl {
		err := os.WriteFile(filepath.Join("/proc/sys", s.Path), []byte(s.Value), 0o600)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("sysctl %s of the node: %w", s.Path, err)
		}
	}
	return connect(ctx, iso.Link)
}

// mountAll builds the node's view of the filesystem. /sys stays the host's: a fresh one would hide the cgroups.
func mountAll(iso Isolation) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("cut the node's mounts from the host's: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount the node's /proc: %w", err)
	}
	keep, err := os.Open(iso.Keep)
	if err != nil {
		return err
	}
	for _, m := range iso.Mounts {
		if err := mountOne(m, iso.Keep, keep); err != nil {
			return errors.Join(fmt.Errorf("mount %s: %w", m.Target, err), keep.Close())
		}
	}
	if err := keep.Close(); err != nil {
		return err
	}
	// Shared within the node alone: volumes that pods mount reach other pods, as on any node.
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share the node's mounts among its pods: %w", err)
	}
	return nil
}

func mountOne(m Mount, keepPath string, keep *os.File) error {
	switch m.Type {
	case "bind":
		if err := prepareSource(m); err != nil {
			return err
		}
		if err := syscall.Mount(m.Source, m.Target, "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
			return err
		}
	case "tmpfs":
		if err := syscall.Mount("tmpfs", m.Target, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, m.Data); err != nil {
			return err
		}
	case "overlay":
		if err := syscall.Mount("overlay", m.Target, "overlay", 0, m.Data); err != nil {
			return err
		}
	default:
		return fmt.Errorf("unknown type %q", m.Type)
	}
	if !Within(keepPath, m.Target) {
		return nil
	}
	// What must stay visible lies below what was just covered: bring it back by the handle taken before.
	if err := os.MkdirAll(keepPath, 0o700); err != nil {
		return err
	}
	return syscall.Mount(fmt.Sprintf("/proc/self/fd/%d", keep.Fd()), keepPath, "", syscall.MS_BIND|syscall.MS_REC, "")
}

// prepareSource makes the source of a bind mount: an empty folder for a folder, a copy for a file.
func prepareSource(m Mount) error {
	target, err := os.Stat(m.Target)
	if err != nil {
		return err
	}
	if _, err := os.Stat(m.Source); err == nil {
		return nil
	}
	if target.IsDir() {
		return os.MkdirAll(m.Source, 0o755) // #nosec G301 -- it stands in for /var/lib and the like, which others read
	}
	if err := os.MkdirAll(filepath.Dir(m.Source), 0o700); err != nil {
		return err
	}
	text, err := os.ReadFile(m.Target)
	if err != nil {
		return err
	}
	return os.WriteFile(m.Source, text, 0o600)
}

// Within tells whether path is folder or lies below it.
func Within(path, folder string) bool {
	rel, err := filepath.Rel(folder, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// connect waits for the node's end of the veth pair and gives it its addresses and the way out.
func connect(ctx context.Context, l Link) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("loopback of the node: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("loopback of the node: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, linkTimeout)
	defer cancel()
	link, err := awaitLink(ctx, l.Name)
	if err != nil {
		return err
	}
	for _, a := range l.Addresses {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			return fmt.Errorf("address of the node %s: %w", a, err)
		}
		if err := netlink.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("address of the node %s: %w", a, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("interface of the node %s: %w", l.Name, err)
	}
	route := netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.ParseIP(l.Gateway)}
	if err := netlink.RouteAdd(&route); err != nil {
		return fmt.Errorf("default route of the node by %s: %w", l.Gateway, err)
	}
	return nil
}

func awaitLink(ctx context.Context, name string) (netlink.Link, error) {
	for {
		link, err := netlink.LinkByName(name)
		if err == nil {
			return link, nil
		}
		if missing := (netlink.LinkNotFoundError{}); !errors.As(err, &missing) {
			return nil, fmt.Errorf("interface of the node %s: %w", name, err)
		}
		if !Wait(ctx, probeEvery) {
			return nil, fmt.Errorf("interface of the node %s was not moved in: %w", name, ctx.Err())
		}
	}
}

// endAll ends whatever is left in the PID namespace, of which the caller is PID 1.
func endAll(grace time.Duration) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if err := syscall.Kill(-1, sig); err != nil {
			// ESRCH: nobody is left.
			return
		}
		deadline := time.NewTimer(grace)
		ticker := time.NewTicker(20 * time.Millisecond)
		for alone := false; !alone; {
			select {
			case <-ticker.C:
				_, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
				alone = errors.Is(err, syscall.ECHILD)
			case <-deadline.C:
				alone = true
			}
		}
		ticker.Stop()
		deadline.Stop()
	}
}
