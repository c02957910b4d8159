//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

// TestNewcomer is docs/newcomer.md: on a machine that has a kubeconfig, kubectl with krew, uv and Debian's Python, and nothing else, a
// newcomer gets from the archive of a release to a model that answers. What is typed is what the step before has said on its line
// "Next:", with the newcomer's names put in, and the same, letter by letter, as on the page.
func TestNewcomer(t *testing.T) {
	t.Parallel()
	n := openLab(t).namespace(t, "newcomer")
	m := n.newMachine(t)
	page := n.page(t, "docs/newcomer.md").typed()
	typed := func(line string) string {
		t.Helper()
		if len(page) == 0 || page[0] != line {
			t.Fatalf("what is typed is %q, on the page there is now %q", line, page)
		}
		page = page[1:]
		return line
	}
	said := m.run(t, typed("kubectl krew install --manifest=mlflow.yaml --archive=mlflow.tar.gz")).stderr

	// The one thing that the newcomer says of himself: which namespace. The lines that follow keep to it.
	said = m.run(t, typed(next(t, said)+" -n "+n.namespace)).stderr

	url, _ := n.start(t, nil, m.enter, append(m.args, "exec "+typed(next(t, said))+" 2>/root/said")...)
	said = m.read(t, "root/said")
	export := "export MLFLOW_TRACKING_URI=" + url
	if !strings.Contains(said, export+"\n") {
		t.Fatalf("port-forward does not say %q:\n%s", export, said)
	}
	m.run(t, typed(export)+"\n"+typed("uv run --with mlflow==3.17.2 --with scikit-learn==1.7.2 train.py"))

	deployed := m.run(t, typed(strings.NewReplacer("NAME", "iris", "VERSION", "1", "REGISTRY/PATH", "registry.example.com/newcomer/iris").Replace(next(t, said))))
	if !strings.HasPrefix(deployed.stdout, "http://iris.") {
		t.Errorf("deploy prints %q, want the model's URL", deployed.stdout)
	}

	answer := m.run(t, typed(next(t, deployed.stderr))).stdout
	if want := `{"predictions": [0, 0]}`; strings.TrimSpace(answer) != want {
		t.Errorf("the model answers %q, want %q", answer, want)
	}
	if len(page) > 0 {
		t.Errorf("the page goes on with %q", page)
	}
}

// next is the command of the last line "Next:".
func next(t *testing.T, said string) string {
	t.Helper()
	lines := regexp.MustCompile(`(?m)Next: (kubectl mlflow .*)$`).FindAllStringSubmatch(said, -1)
	if len(lines) == 0 {
		t.Fatalf("it does not say what comes next:\n%s", said)
	}
	return lines[len(lines)-1][1]
}

// machine is a root file system of its own.
type machine struct {
	*installed
	root  string
	enter string   // the program that runs a line of shell in it,
	args  []string // and what it gets before that line
}

// newMachine is Debian with Python as the lab's images have it, and what a newcomer brings.
func (n *installed) newMachine(t *testing.T) machine {
	t.Helper()
	m := machine{installed: n, root: filepath.Join(t.TempDir(), "root")}
	trees, err := filepath.Glob(filepath.Join(filepath.Dir(n.Bin), "tree-python-*"))
	if err != nil || len(trees) == 0 {
		t.Fatalf("the lab has no root file system with Python beside %s: %v", n.Bin, err)
	}
	m.must(t, "cp", "-a", trees[0], m.root)
	// The network is this machine's, with what it takes to reach the package index.
	for _, file := range []string{"/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt"} {
		m.bring(t, file, file)
	}
	m.bring(t, n.Kubectl, "usr/local/bin/kubectl")
	m.bring(t, filepath.Join(n.Bin, "uv"), "usr/local/bin/uv")
	m.bring(t, n.Kubeconfig, "root/.kube/config")
	m.bring(t, filepath.Join(n.root, "test/e2e/testdata/train.py"), "root/train.py")
	m.bringRelease(t)
	m.enter = "unshare"
	m.args = []string{"--mount", "sh", "-c", `mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && exec chroot "$0" /usr/bin/env -i "$@"`, m.root,
		"HOME=/root", "PATH=/root/.krew/bin:/usr/local/bin:/usr/bin:/bin", "KREW_NO_UPGRADE_CHECK=1", "MLFLOW_DISABLE_TELEMETRY=true", "GIT_PYTHON_REFRESH=quiet",
		"SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"}
	m.args = append(m.args, n.registries(t).known(t, n.lab, filepath.Join(m.root, "root"))...)
	toTheIndex := regexp.MustCompile(`^(?i:uv_(default_)?index\w*|pip_(extra_)?index_url)=`)
	for _, kv := range os.Environ() {
		if toTheIndex.MatchString(kv) {
			m.args = append(m.args, kv)
		}
	}
	m.args = append(m.args, "sh", "-c", `cd && eval "$0"`)
	return m
}

// bringRelease makes this platform's archive as a release does, and krew.
func (m machine) bringRelease(t *testing.T) {
	t.Helper()
	const version = "v0.0.0-newcomer"
	out := t.TempDir()
	m.must(t, "make", "dist", "VERSION="+version, "PLATFORMS="+runtime.GOOS+"/"+runtime.GOARCH, "DIST="+out)
	m.bring(t, filepath.Join(out, fmt.Sprintf("kubectl-mlflow_%s_%s_%s.tar.gz", version, runtime.GOOS, runtime.GOARCH)), "root/mlflow.tar.gz")
	m.bring(t, filepath.Join(out, "krew/mlflow.yaml"), "root/mlflow.yaml")
	m.must(t, "env", "CGO_ENABLED=0", "go", "build", "-C", "hack/krew", "-trimpath", "-o", out+"/kubectl-krew", "sigs.k8s.io/krew/cmd/krew")
	m.bring(t, filepath.Join(out, "kubectl-krew"), "usr/local/bin/kubectl-krew")
}

func (m machine) must(t *testing.T, name string, args ...string) {
	t.Helper()
	if r := m.lab.run(t, nil, name, args...); r.code != 0 {
		t.Fatalf("%s: exit %d", name, r.code)
	}
}

// bring copies a file into the machine, where this machine has it.
func (m machine) bring(t *testing.T, from, to string) {
	t.Helper()
	to = filepath.Join(m.root, to)
	content, err := os.ReadFile(from)
	if errors.Is(err, os.ErrNotExist) && strings.HasPrefix(from, "/etc/") {
		return
	}
	if err := errors.Join(err, os.MkdirAll(filepath.Dir(to), 0o755), os.RemoveAll(to), os.WriteFile(to, content, 0o755)); err != nil { //nolint:gosec // programs
		t.Fatal(err)
	}
}

func (m machine) read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(m.root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// run types a line on the machine and expects success.
func (m machine) run(t *testing.T, line string) result {
	t.Helper()
	r := m.lab.run(t, nil, m.enter, append(m.args, line)...)
	if r.code != 0 {
		t.Fatalf("%s: exit %d\n%s", line, r.code, r.stderr)
	}
	return r
}
