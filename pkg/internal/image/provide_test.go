package image_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gofrs/flock"
	"golang.org/x/sync/errgroup"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// listener is a Reporter that keeps what it is told, and says so.
type listener struct {
	mu    sync.Mutex
	told  []string
	heard chan string // may be nil
}

func (l *listener) Start(name string) progress.Step {
	l.Say("%s", name)
	return progress.Discard{}.Start(name)
}

func (l *listener) Say(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	l.mu.Lock()
	l.told = append(l.told, text)
	l.mu.Unlock()
	if l.heard != nil {
		l.heard <- text
	}
}

const waiting = "Waiting for another build of the same environment"

func TestOfManyWhoWantAnEnvironmentOneBuildsIt(t *testing.T) {
	f := setUp(t, 0)
	const many = 4
	f.build.begun, f.build.goOn = make(chan struct{}, many), make(chan struct{})
	heard := make(chan string, 100)
	makers := make([]*image.Maker, many)
	for i := range makers {
		f.open(t)
		makers[i] = f.maker
		makers[i].Progress = &listener{heard: heard}
	}
	refs := make([]string, many)
	var g errgroup.Group
	for i, m := range makers {
		g.Go(func() error {
			made, err := m.Make(t.Context(), f.environment(), f.content("1"))
			refs[i] = made.Ref
			return err
		})
	}
	for waits := 0; waits < many-1; {
		if <-heard == waiting {
			waits++
		}
	}
	<-f.build.begun
	close(f.build.goOn)
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if n := f.build.built.Load(); n != 1 {
		t.Errorf("built %d times", n)
	}
	if slices.Sort(refs); refs[0] == "" || refs[0] != refs[many-1] {
		t.Errorf("images %q", refs)
	}
}

func TestTheWaitForAnotherBuildEndsWithItsContext(t *testing.T) {
	f := setUp(t, 0)
	dir := t.TempDir()
	f.build.begun, f.build.goOn = make(chan struct{}, 1), make(chan struct{})
	f.maker.Cache = dir
	first := make(chan error, 1)
	go func() {
		_, err := f.maker.Make(t.Context(), f.environment(), f.content("1"))
		first <- err
	}()
	<-f.build.begun
	f.open(t)
	ctx, cancel := context.WithCancel(t.Context())
	heard := make(chan string, 100)
	f.maker.Cache, f.maker.Progress = dir, &listener{heard: heard}
	go func() {
		for text := range heard {
			if text == waiting {
				cancel()
				return
			}
		}
	}()
	if _, err := f.maker.Make(ctx, f.environment(), f.content("1")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	close(f.build.goOn)
	if err := <-first; err != nil {
		t.Error(err)
	}
}

// lockFile tells this test's program, run once more, which file to lock until it is killed.
const lockFile = "KUBECTL_MLFLOW_TEST_LOCK"

func TestAKilledBuildHoldsNobodyUp(t *testing.T) {
	if name := os.Getenv(lockFile); name != "" {
		ok, err := flock.New(name).TryLock()
		fmt.Println("locked", ok, err)
		<-t.Context().Done()
		return
	}
	f := setUp(t, 0)
	f.make(t, f.content("1"))
	locks, err := filepath.Glob(filepath.Join(f.cache, "env-*.lock"))
	if err != nil || len(locks) != 1 {
		t.Fatalf("locks %q, %v", locks, err)
	}
	holder := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v") // #nosec G204 -- this test
	holder.Env = append(os.Environ(), lockFile+"="+locks[0])
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "locked ") {
			if lines.Text() != "locked true <nil>" {
				t.Fatal(lines.Text())
			}
			break
		}
	}
	if ok, err := flock.New(locks[0]).TryLock(); ok || err != nil {
		t.Fatalf("the other process does not hold the lock: %v, %v", ok, err)
	}
	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := holder.Wait(); err == nil {
		t.Fatal("the other process ended well")
	}
	if ok, err := flock.New(locks[0]).TryLock(); !ok || err != nil {
		t.Errorf("the lock outlives its process: %v, %v", ok, err)
	}
}

func TestANewEnvironmentIsToldByWhatIsNew(t *testing.T) {
	f := setUp(t, 0)
	said := func(present string, requirements ...string) string {
		f.open(t)
		told := &listener{}
		f.maker.Progress = told
		e, c := f.environment(), f.content("")
		e.Requirements = requirements
		c.Present = func(context.Context) (string, error) { return present, nil }
		made, err := f.maker.Make(t.Context(), e, c)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range told.told {
			if line, ok := strings.CutPrefix(text, "environment: "); ok {
				return line
			}
		}
		return made.Ref
	}
	if got := said("", "mlflow==3.17.2", "scikit-learn==1.5.0"); got != "new" {
		t.Errorf("the first one is %q", got)
	}
	// Known: nothing is said, and what came of it is the deployment's image.
	present := said("", "scikit-learn==1.5.0", "mlflow==3.17.2")
	if !strings.Contains(present, "@sha256:") {
		t.Fatalf("got %q", present)
	}
	for want, requirements := range map[string][]string{
		"new (scikit-learn 1.5.0 -> 1.5.2; + xgboost 2.1.0)":       {"mlflow==3.17.2", "Scikit_Learn == 1.5.2", "xgboost==2.1.0"},
		"new (scikit-learn 1.5.0 -> >=1.5,<2; + pandas; - mlflow)": {"scikit-learn>=1.5,<2", "pandas"},
		"new (+ --extra-index-url https://example.com/simple)":     {"--extra-index-url https://bob:hunter2@example.com/simple", "mlflow==3.17.2", "scikit-learn==1.5.0"},
		"new (mlflow 3.17.2 -> 3.17.3; scikit-learn 1.5.0 -> any)": {"mlflow==3.17.3", "scikit-learn"},
	} {
		if got := said(present, requirements...); got != want {
			t.Errorf("%q is told as %q, want %q", requirements, got, want)
		}
	}
	for _, nobodys := range []string{f.base, f.host + "/gone@sha256:" + strings.Repeat("0", 64), "::"} {
		if got := said(nobodys, "mlflow==3.17.2", "pandas=="+fmt.Sprint(len(nobodys))); got != "new" {
			t.Errorf("after %s it is %q", nobodys, got)
		}
	}
}
