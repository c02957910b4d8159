//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestDocs types what README and the tutorials tell people to type, letter by letter, page by page: each page stands on what those before
// have left. CONTRIBUTING.md says how a block is marked that cannot be run here.
func TestDocs(t *testing.T) {
	t.Parallel()
	l := openLab(t)
	r := l.reader(t)
	for _, p := range l.pages(t) {
		if !t.Run(p.name, func(t *testing.T) { r.follow(t, p) }) {
			t.FailNow()
		}
	}
}

// reader is a person with a home, a folder to work in and a kubeconfig, who types what the pages say.
type reader struct {
	*lab
	elsewhere  map[string]string
	home, work string
	env        []string
	trained    bool
}

func (l *lab) reader(t *testing.T) *reader {
	t.Helper()
	r := &reader{lab: l, elsewhere: l.elsewhere(t), home: t.TempDir(), work: t.TempDir()}
	uninstall := func() result { return l.run(t, nil, l.Kubectl, "mlflow", "uninstall", "--delete-data") }
	uninstall() // what an earlier run left
	t.Cleanup(func() {
		if uninstall().code != 0 {
			t.Error("what the pages have installed is not uninstalled")
		}
	})
	l.namespace(t, "models") // which a page makes
	contexts := map[string]string{"my-cluster": "lab-docs", "staging": "lab-docs-staging", "production": "lab-docs-production"}
	for _, namespace := range contexts {
		n := l.namespace(t, namespace)
		n.create(t)
	}
	cache := l.run(t, nil, filepath.Join(l.Bin, "uv"), "cache", "dir")
	kubeconfig := filepath.Join(r.home, ".kube/config")
	venv := filepath.Join(r.home, "venv")
	r.env = append(l.registries(t).known(t, l, r.home),
		"HOME="+r.home, "KUBECONFIG="+kubeconfig, "UV_CACHE_DIR="+strings.TrimSpace(cache.stdout), "XDG_CONFIG_HOME=", "DOCKER_CONFIG=",
		"PATH="+strings.Join([]string{filepath.Join(venv, "bin"), filepath.Join(l.root, "bin"), l.Bin, os.Getenv("PATH")}, string(filepath.ListSeparator)))
	r.brings(t, kubeconfig)
	for name, namespace := range contexts {
		r.must(t, `kubectl config set-context `+name+` --namespace `+namespace+` $(kubectl config view --minify -o 'jsonpath=--cluster={..context.cluster} --user={..context.user}')`)
	}
	r.must(t, "kubectl config use-context my-cluster")
	r.must(t, fmt.Sprintf(pythonWithMLflow, venv, l.python(t)))
	return r
}

// pythonWithMLflow makes an environment that may be changed, on top of one that may not.
const pythonWithMLflow = `uv venv --quiet --seed --python 3.11 %[1]s
%[2]s -c 'import sysconfig; print(sysconfig.get_path("purelib"))' >%[1]s/lib/python3.11/site-packages/mlflow.pth
printf '#!/bin/sh\nexec python -m mlflow "$@"\n' >%[1]s/bin/mlflow
chmod +x %[1]s/bin/mlflow`

// brings puts down what a reader has beside the pages: a kubeconfig, a token for a registry, a checkout. What the pages have of this
// repository at GitHub is taken from the commit that is checked out here.
func (r *reader) brings(t *testing.T, kubeconfig string) {
	t.Helper()
	config, err := os.ReadFile(r.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	git := fmt.Sprintf("[url \"file://%s\"]\n\tinsteadOf = https://github.com/kubectl-mlflow/kubectl-mlflow\n[safe]\n\tdirectory = *\n", r.root)
	for name, text := range map[string]string{kubeconfig: string(config), filepath.Join(r.home, ".gitconfig"): git, filepath.Join(r.work, "token"): "any"} {
		r.write(t, name, text)
	}
	if err := os.CopyFS(filepath.Join(r.work, "python"), os.DirFS(filepath.Join(r.root, "python"))); err != nil {
		t.Fatal(err)
	}
}

func (r *reader) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// must runs a line that no page has.
func (r *reader) must(t *testing.T, line string) {
	t.Helper()
	if done := r.run(t, r.env, "bash", "-euo", "pipefail", "-c", line); done.code != 0 {
		t.Fatalf("%s: exit %d", line, done.code)
	}
}

// follow types the blocks of a page, and writes the files that it shows.
func (r *reader) follow(t *testing.T, p page) {
	ran, elsewhere, known, prompt := 0, 0, []string{"sh", "console", "yaml", "toml", "sql", ""}, regexp.MustCompile(`(?m)^(\$|kubectl) `)
	for _, b := range p.blocks {
		instead, isElsewhere := r.elsewhere[b.mark]
		file, isFile := strings.CutPrefix(b.mark, "file: ")
		switch {
		case !slices.Contains(known, b.language), b.language == "" && prompt.MatchString(strings.Join(b.lines, "\n")):
			t.Errorf("line %d: a block of %q: is that to be typed?", b.line, b.language)
		case isFile && !b.isShell():
			r.write(t, filepath.Join(r.work, filepath.Base(file)), strings.Join(b.lines, "\n")+"\n")
		case !b.isShell() && b.mark != "":
			t.Errorf("line %d: the mark %q is not one of what nobody types", b.line, b.mark)
		case !b.isShell():
		case isElsewhere:
			elsewhere++
			t.Logf("line %d is not run here: %s, shown by %s", b.line, b.mark, instead)
		default:
			ran++
			if !t.Run(fmt.Sprintf("line %d", b.line), func(t *testing.T) { r.types(t, b) }) {
				t.FailNow()
			}
		}
	}
	t.Logf("%s: %d blocks were run, %d are marked", p.name, ran, elsewhere)
	if ran+elsewhere != p.shell {
		t.Errorf("there are %d blocks to be typed: are fences written in another way?", p.shell)
	}
}

// types runs a block as it stands, to its end, or to a Ctrl-C where it has none, and holds it against what the page shows of it.
func (r *reader) types(t *testing.T, b block) {
	typed, printed := b.typed()
	code, err := 0, error(nil)
	if exits, marked := strings.CutPrefix(b.mark, "exits: "); marked {
		code, err = strconv.Atoi(exits)
	} else if b.mark != "" {
		t.Fatalf("the mark %q is none of CONTRIBUTING.md's", b.mark)
	}
	if text := strings.TrimSpace(strings.Join(typed, "\n")); text == "" || err != nil {
		t.Fatalf("nothing is typed, or the mark %q says no exit code (%v)", b.mark, err)
	}
	got := r.session(t, strings.Join(typed, "\n"))
	if got.code != code {
		t.Errorf("exit code %d, want %d", got.code, code)
	}
	lines := strings.Split(got.stdout+"\n"+got.stderr, "\n")
	for _, line := range printed {
		// The others name hosts, ages and numbers, which are another cluster's.
		if regexp.MustCompile(`^(\{|error:|hint:)`).MatchString(line) && !slices.Contains(lines, line) {
			t.Errorf("it does not say %q", line)
		}
	}
}

// session runs some lines. An exit by Ctrl-C is none: its code is 0.
func (r *reader) session(t *testing.T, text string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := r.command(ctx, r.env, "bash", "-euo", "pipefail", "-c", text)
	stdout, stderr := &screen{awaited: endless(text), seen: make(chan string, 1)}, &bytes.Buffer{}
	cmd.Dir, cmd.Stdout, cmd.Stderr = r.work, stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C goes to all that a shell has started
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // its exit code is looked at
	}()
	interrupted := false
	select {
	case line := <-stdout.seen:
		r.meanwhile(t, line)
		interrupted = syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) == nil
		<-ended
	case <-ended:
	}
	code := cmd.ProcessState.ExitCode()
	t.Logf("$ %s\n(exit %d, %.1f s)\n%s%s", text, code, time.Since(began).Seconds(), shown(stdout.String()), stderr)
	switch {
	case interrupted && (code == 130 || code == -1):
		code = 0
	case stdout.awaited != nil:
		t.Errorf("it ended with exit code %d, and should have gone on until Ctrl-C", code)
	}
	return result{code, stdout.String(), stderr.String()}
}

// shown is what the log of the test has of an output: no tokens, and of manifests the beginning.
func shown(text string) string {
	text = regexp.MustCompile(`eyJ[\w-]+\.[\w.-]+`).ReplaceAllLiteralString(text, "TOKEN")
	const most = 4000
	if len(text) > most {
		return text[:most] + "…\n"
	}
	return text
}

// endless is a line that a block prints which then goes on until somebody presses Ctrl-C; nil for others.
func endless(text string) *regexp.Regexp {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	last, _, _ := strings.Cut(lines[len(lines)-1], " #")
	switch strings.TrimSpace(last) {
	case "kubectl mlflow port-forward":
		return regexp.MustCompile(`(?m)^http://127\.0\.0\.1:\d+$`)
	case "kubectl mlflow logs -f":
		return regexp.MustCompile(`(?m)^\[(server|database|migration)-`)
	}
	return nil
}

// meanwhile is what a reader does in another terminal: with the first MLflow that answers, log the models of which the pages speak.
func (r *reader) meanwhile(t *testing.T, line string) {
	t.Helper()
	if r.trained || !strings.HasPrefix(line, "http://") {
		return
	}
	r.trained = true
	r.must(t, "MLFLOW_TRACKING_URI="+line+" python "+filepath.Join(r.root, "test/e2e/testdata/examples.py"))
}

// screen keeps what is printed, and tells when the line that is awaited is seen.
type screen struct {
	mu      sync.Mutex
	text    bytes.Buffer
	awaited *regexp.Regexp
	seen    chan string
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text.Write(p)
	if s.awaited != nil {
		if line := s.awaited.Find(s.text.Bytes()); line != nil {
			select {
			case s.seen <- string(line):
			default:
			}
		}
	}
	return len(p), nil
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}
