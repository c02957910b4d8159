package artifacts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// release is the Debian release whose packages the lab is made of.
const release = "bookworm"

// hostTool is a program that must be installed on the machine, and the package that brings it.
type hostTool struct {
	command, debian string
}

// hostTools are all that the lab installs on the machine. None of them starts anything.
func hostTools() []hostTool {
	return []hostTool{
		{"ip", "iproute2"},
		{"iptables", "iptables"},
		{"mmdebstrap", "mmdebstrap"},
		{"mount", "mount"},
		{"nsenter", "util-linux"},
		{"python3", "python3"},
	}
}

// hostPackages installs the host tools that are missing and notes what came with them in installed-packages.
func (s *store) hostPackages(ctx context.Context) error {
	var missing []string
	for _, tool := range hostTools() {
		if _, err := exec.LookPath(tool.command); err != nil {
			missing = append(missing, tool.debian)
		}
	}
	return s.install(ctx, missing)
}

// install installs Debian packages on the machine.
func (s *store) install(ctx context.Context, packages []string) error {
	if len(packages) == 0 || s.plan {
		return nil
	}
	st := step{name: "install Debian packages on this machine: " + strings.Join(packages, " "), usual: 15 * time.Second}
	return s.do(ctx, st, func(ctx context.Context) error {
		before, err := s.installed(ctx)
		if err != nil {
			return err
		}
		args := append([]string{"apt-get", "install", "--yes", "--quiet", "--no-install-recommends", "-o", "APT::Keep-Downloaded-Packages=false"}, packages...)
		installErr := s.apt(ctx, "apt", func() error {
			cmd := command(ctx, args[0], args[1:]...)
			cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
			return s.run("apt", cmd)
		})
		after, err := s.installed(ctx)
		if err != nil {
			return errors.Join(installErr, err)
		}
		var added []string
		for _, name := range after {
			if !slices.Contains(before, name) {
				added = append(added, name)
			}
		}
		return errors.Join(installErr, s.noteInstalled(added))
	})
}

func (s *store) installed(ctx context.Context) ([]string, error) {
	out, err := s.output("dpkg", command(ctx, "dpkg-query", "--show", "--showformat", "${db:Status-Abbrev} ${binary:Package}\n"))
	var list []string
	for line := range strings.Lines(out) {
		if status, name, _ := strings.Cut(strings.TrimSpace(line), " "); strings.HasPrefix(status, "ii") {
			list = append(list, strings.TrimSpace(name))
		}
	}
	return list, err
}

// InstalledPackages is the file in the cache folder that lists what the lab installed on the machine, one package a line.
const InstalledPackages = "installed-packages"

func (s *store) noteInstalled(packages []string) error {
	file, err := os.OpenFile(filepath.Join(s.root, InstalledPackages), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644) //nolint:gosec // names of packages
	if err != nil {
		return err
	}
	for _, name := range packages {
		if _, err := fmt.Fprintln(file, name); err != nil {
			return errors.Join(err, file.Close())
		}
	}
	return file.Close()
}

// apt does something with apt, and once more with fresh lists if it fails: old lists name packages that are gone.
func (s *store) apt(ctx context.Context, log string, work func() error) error {
	first := work()
	if first == nil || ctx.Err() != nil {
		return first
	}
	if err := s.run(log, command(ctx, "apt-get", "update", "--quiet")); err != nil {
		return errors.Join(first, err)
	}
	return work()
}

// debianPrograms are the files of nodePackages that go into Bin; the CNI plugins go into a folder of their own.
// unpigz is for containerd, which unpacks compressed layers with it where it finds it in PATH.
func debianPrograms() []string {
	return []string{"usr/bin/containerd", "usr/bin/containerd-shim-runc-v2", "usr/bin/ctr", "usr/bin/docker-registry", "usr/bin/unpigz", "usr/sbin/runc"}
}

// nodePackages are unpacked and not installed: installing would start daemons. What they need, libc6 and libseccomp2, apt needs too.
func nodePackages() []string {
	return []string{"containerd", "runc", "containernetworking-plugins", "docker-registry", "pigz"}
}

// debian returns a folder with the programs that come from Debian, and the CNI plugins in cni.
func (s *store) debian(ctx context.Context) (string, error) {
	recipe := slices.Concat([]string{release}, nodePackages(), debianPrograms())
	st := step{name: "unpack Debian's containerd, runc, CNI plugins and registry", usual: 5 * time.Second}
	return s.ensure(ctx, st, "debian", keyOf(recipe...), func(ctx context.Context, folder string) error {
		temp, err := s.temp("debs")
		if err != nil {
			return err
		}
		if err := s.newLog("debian"); err != nil {
			return err
		}
		err = s.apt(ctx, "debian", func() error {
			cmd := command(ctx, "apt-get", append([]string{"--quiet", "-o", "APT::Sandbox::User=root", "download"}, nodePackages()...)...)
			cmd.Dir = temp
			return s.run("debian", cmd)
		})
		if err != nil {
			return err
		}
		debs, err := filepath.Glob(filepath.Join(temp, "*.deb"))
		if err != nil {
			return err
		}
		for _, deb := range debs {
			if err := s.run("debian", command(ctx, "dpkg-deb", "--extract", deb, temp)); err != nil {
				return err
			}
		}
		for _, name := range debianPrograms() {
			if err := os.Rename(filepath.Join(temp, name), filepath.Join(folder, filepath.Base(name))); err != nil {
				return err
			}
		}
		if err := os.Rename(filepath.Join(temp, "usr/lib/cni"), filepath.Join(folder, "cni")); err != nil {
			return err
		}
		return os.RemoveAll(temp)
	})
}

// codename is the release of the machine.
func codename() (string, error) {
	text, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "VERSION_CODENAME="); ok {
			return strings.Trim(value, `"`), nil
		}
	}
	return "", nil
}

// sources are the machine's own for the release, as lines of a sources.list.
func (s *store) sources(ctx context.Context) ([]string, error) {
	if name, err := codename(); err != nil || name != release {
		return nil, errors.Join(err, fmt.Errorf("the images are made from Debian %s and this machine is %q", release, name))
	}
	out, err := s.output("apt", command(ctx, "apt-get", "indextargets",
		"--format", "deb [$(SIGNED_BY)] $(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"))
	if err != nil {
		return nil, err
	}
	return sourceLines(out), nil
}

// sourceLines makes sources.list lines of what apt lists; those of other repositories of the machine are left out.
func sourceLines(targets string) []string {
	var list []string
	for line := range strings.Lines(targets) {
		fields := strings.Fields(line)
		if len(fields) != 5 || !strings.HasPrefix(fields[3], release) || fields[4] != "main" {
			continue
		}
		if key := strings.Trim(fields[1], "[]"); strings.HasPrefix(key, "/") {
			fields[1] = "[signed-by=" + key + "]"
		} else {
			// Signed by a key that apt trusts for all.
			fields = slices.Delete(fields, 1, 2)
		}
		if line := strings.Join(fields, " "); !slices.Contains(list, line) {
			list = append(list, line)
		}
	}
	return list
}

// aptOptions are how the machine's apt reaches the network.
func (s *store) aptOptions(ctx context.Context) (string, error) {
	dump, err := s.output("apt", command(ctx, "apt-config", "dump", "--format", "%F \"%v\";%n", "--no-empty", "Acquire"))
	if err != nil {
		return "", err
	}
	var options strings.Builder
	for line := range strings.Lines(dump) {
		if strings.HasPrefix(line, "Acquire::http") || strings.HasPrefix(line, "Acquire::Retries") {
			options.WriteString(line)
		}
	}
	return options.String(), nil
}
