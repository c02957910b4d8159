package artifacts

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

const (
	modulePath = "github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/components"
	googlePath = "github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/addons/google"
	// kubernetesVersion is also in components/go.mod; a test compares them.
	kubernetesVersion = "v1.34.4"
)

// program is a Go program: the package and the name that its binary gets.
type program struct {
	name, pkg string
	// alone keeps it out of the call that compiles the others.
	alone bool
}

func apiPrograms() []program {
	return []program{
		{name: "etcd", pkg: "go.etcd.io/etcd/server/v3"},
		{name: "kube-apiserver", pkg: "k8s.io/kubernetes/cmd/kube-apiserver"},
		{name: "kubectl", pkg: "k8s.io/kubernetes/cmd/kubectl"},
	}
}

func nodePrograms() []program {
	return []program{
		{name: "kube-controller-manager", pkg: "k8s.io/kubernetes/cmd/kube-controller-manager"},
		{name: "kube-scheduler", pkg: "k8s.io/kubernetes/cmd/kube-scheduler"},
		{name: "kubelet", pkg: "k8s.io/kubernetes/cmd/kubelet"},
		{name: "kube-proxy", pkg: "k8s.io/kubernetes/cmd/kube-proxy"},
	}
}

// podPrograms go into images.
func podPrograms() []program {
	return []program{
		{name: "coredns", pkg: modulePath + "/cmd/coredns"},
		// It imports github.com/Sirupsen/logrus, with a capital: one call may not see both spellings.
		{name: "local-path-provisioner", pkg: "github.com/rancher/local-path-provisioner", alone: true},
		{name: "activator", pkg: "knative.dev/serving/cmd/activator"},
		{name: "autoscaler", pkg: "knative.dev/serving/cmd/autoscaler"},
		{name: "controller", pkg: "knative.dev/serving/cmd/controller"},
		{name: "queue", pkg: "knative.dev/serving/cmd/queue"},
		{name: "webhook", pkg: "knative.dev/serving/cmd/webhook"},
		{name: "kourier", pkg: "knative.dev/net-kourier/cmd/kourier"},
		{name: "pause", pkg: modulePath + "/cmd/pause"},
	}
}

// googlePrograms go into the images of addon google.
func googlePrograms() []program {
	return []program{
		{name: "cloud-sql-proxy", pkg: "github.com/GoogleCloudPlatform/cloud-sql-proxy/v2"},
		{name: "fake-gcs-server", pkg: "github.com/fsouza/fake-gcs-server"},
		{name: "cloudsql", pkg: googlePath + "/cmd/cloudsql"},
	}
}

// checkout is where the lab's sources are. It reads them: recipes of another module cannot be compiled in.
type checkout struct {
	// folder is hack/lab.
	folder string
	// components is the module of what every cluster runs.
	components module
}

func (c checkout) images() string { return filepath.Join(c.folder, "images.yaml") }

// module is one that pins what the lab compiles.
type module struct {
	folder string
	// text is that of all files that decide what is compiled.
	text    string
	ldflags string
}

// findCheckout looks for hack/lab above the lab's binary and above the working folder.
func findCheckout() (checkout, error) {
	var from []string
	if exe, err := os.Executable(); err == nil {
		from = append(from, filepath.Dir(exe))
	}
	if wd, err := os.Getwd(); err == nil {
		from = append(from, wd)
	}
	for _, start := range from {
		for dir := start; ; dir = filepath.Dir(dir) {
			c := checkout{folder: filepath.Join(dir, "hack", "lab")}
			text, err := os.ReadFile(filepath.Join(c.folder, "components", "go.mod"))
			if err == nil && strings.Contains(string(text), "module "+modulePath+"\n") {
				c.components, err = readModule(filepath.Join(c.folder, "components"), ldflags())
				return c, err
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return checkout{}, fmt.Errorf("hack/lab/components is not above %s: run the lab from its checkout", strings.Join(from, " nor above "))
}

func readModule(folder, ldflags string) (module, error) {
	var recipe strings.Builder
	files := os.DirFS(folder)
	err := fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.HasSuffix(name, "_test.go") {
			return err
		}
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(&recipe, "%s %d\n%s", name, len(text), text)
		return err
	})
	if err != nil {
		return module{}, fmt.Errorf("read the list of what is compiled: %w", err)
	}
	return module{folder: folder, text: recipe.String(), ldflags: ldflags}, nil
}

// ldflags stamps Kubernetes' version, which its build scripts would do.
func ldflags() string {
	major, minor, _ := strings.Cut(strings.TrimPrefix(kubernetesVersion, "v"), ".")
	minor, _, _ = strings.Cut(minor, ".")
	flags := []string{"-s", "-w"}
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		flags = append(flags,
			"-X", pkg+".gitVersion="+kubernetesVersion, "-X", pkg+".gitMajor="+major, "-X", pkg+".gitMinor="+minor,
			"-X", pkg+".gitTreeState=clean")
	}
	return strings.Join(flags, " ")
}

// compileStep is what is said of compiling missing programs of components.
func compileStep(missing int) step {
	if missing > len(apiPrograms()) {
		return step{name: fmt.Sprintf("compile %d programs (Kubernetes %s, etcd, CoreDNS, Knative)", missing, kubernetesVersion), usual: 8 * time.Minute}
	}
	return step{name: fmt.Sprintf("compile %d programs (Kubernetes %s, etcd)", missing, kubernetesVersion), usual: 4 * time.Minute}
}

// build returns the binaries of programs. Those that are missing are compiled by one call, which knows best how to use the processors.
func (m module) build(ctx context.Context, s *store, programs []program, st func(missing int) step) ([]string, error) {
	if err := s.newLog("go-version"); err != nil {
		return nil, err
	}
	goVersion, err := s.output("go-version", command(ctx, "go", "version"))
	if err != nil {
		return nil, fmt.Errorf("the lab compiles its parts, so it needs Go in PATH: %w", err)
	}
	// One folder for all, filled file by file: another set of programs does not compile the common ones again.
	folder := s.path("programs", keyOf(m.text, m.ldflags, goVersion))
	var binaries []string
	var missing []program
	for _, p := range programs {
		binary := filepath.Join(folder, p.name)
		binaries = append(binaries, binary)
		if !exists(binary) {
			missing = append(missing, p)
		}
	}
	if len(missing) == 0 || s.plan {
		return binaries, nil
	}
	return binaries, s.do(ctx, st(len(missing)), func(ctx context.Context) error {
		if err := s.newLog("programs"); err != nil {
			return err
		}
		var together []program
		for _, p := range missing {
			if !p.alone {
				together = append(together, p)
				continue
			}
			if err := m.compile(ctx, s, folder, []program{p}); err != nil {
				return err
			}
		}
		return m.compile(ctx, s, folder, together)
	})
}

func (m module) compile(ctx context.Context, s *store, folder string, programs []program) error {
	if len(programs) == 0 {
		return nil
	}
	temp, err := s.temp("go")
	if err != nil {
		return err
	}
	out := filepath.Join(temp, "bin")
	if err := errors.Join(os.Mkdir(out, 0o755), os.MkdirAll(folder, 0o755)); err != nil { //nolint:gosec // see open
		return err
	}
	args := []string{"build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", m.ldflags, "-o", out + string(filepath.Separator)}
	for _, p := range programs {
		args = append(args, p.pkg)
	}
	cmd := command(ctx, "go", args...)
	cmd.Dir = m.folder
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off", "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+runtime.GOARCH, "GOTMPDIR="+temp)
	if err := s.run("programs", cmd); err != nil {
		return err
	}
	for _, p := range programs {
		if err := os.Rename(filepath.Join(out, defaultName(p.pkg)), filepath.Join(folder, p.name)); err != nil {
			return err
		}
	}
	return os.RemoveAll(temp)
}

// defaultName is what go build calls a binary: the last element of the package's path that is not a major version.
func defaultName(pkg string) string {
	elements := strings.Split(pkg, "/")
	last := elements[len(elements)-1]
	if len(last) > 1 && last[0] == 'v' && strings.Trim(last[1:], "0123456789") == "" {
		last = elements[len(elements)-2]
	}
	return last
}
