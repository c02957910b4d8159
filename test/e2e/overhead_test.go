//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"os"
	"strings"
	"testing"
	"time"
)

// podLife is when a pod came to be, and when it had done its part: ready, or, for a migration, succeeded.
type podLife struct{ made, done time.Time }

// watchPods notes the lives of a namespace's pods, as the API server tells of them, until the function that it returns is called.
// The API's own timestamps are whole seconds: three pods' worth of rounding would be as long as what is measured.
func (l *lab) watchPods(t *testing.T, namespace string) func() map[string]*podLife {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cmd := l.command(ctx, nil, l.Kubectl, "-n", namespace, "get", "pods", "--watch", "-o",
		`jsonpath={.metadata.name} {.status.phase} {.status.conditions[?(@.type=="Ready")].status}{"\n"}`)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lives := map[string]*podLife{}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			name, state, _ := strings.Cut(lines.Text(), " ")
			if lives[name] == nil {
				lives[name] = &podLife{made: time.Now()}
			}
			life := lives[name]
			if ends := strings.HasPrefix(state, "Succeeded"); ends || life.done.IsZero() && state == "Running True" {
				life.done = time.Now()
			}
		}
	}()
	return func() map[string]*podLife {
		cancel()
		<-ended
		_ = cmd.Wait() // interrupted by us
		return lives
	}
}

// TestInstallTakesLittleLongerThanThePods holds what install adds to the pods' own time, and how long a rerun takes that has
// nothing to do.
func TestInstallTakesLittleLongerThanThePods(t *testing.T) {
	l := openLab(t)
	const namespace, most, mostAgain = "e2e-overhead", 3 * time.Second, 1500 * time.Millisecond
	away := []string{"delete", "namespace", namespace, "--ignore-not-found"}
	l.kubectl(t, away...)
	t.Cleanup(func() {
		if out, err := l.command(context.WithoutCancel(t.Context()), nil, l.Kubectl, away...).CombinedOutput(); err != nil {
			t.Errorf("removing the namespace: %v\n%s", err, out)
		}
	})
	lives := l.watchPods(t, namespace)
	began := time.Now()
	l.mlflow(t, "install", "-n", namespace)
	whole := time.Since(began)
	rest := whole
	pods := lives()
	if len(pods) != 3 {
		t.Fatalf("%d pods were seen, want those of database, migration and server", len(pods))
	}
	for name, life := range pods {
		if life.done.IsZero() {
			t.Fatalf("pod %s was not seen to be done", name)
		}
		took := life.done.Sub(life.made)
		t.Logf("%s: %.2f s", name, took.Seconds())
		rest -= took
	}
	t.Logf("install: %.2f s, of which not the pods': %.2f s", whole.Seconds(), rest.Seconds())
	if rest > most {
		t.Errorf("install took %s longer than the pods themselves, want at most %s", rest.Round(time.Millisecond), most)
	}

	began = time.Now()
	l.mlflow(t, "install", "-n", namespace)
	again := time.Since(began)
	t.Logf("a rerun with nothing to do: %.2f s", again.Seconds())
	if again > mostAgain {
		t.Errorf("a rerun with nothing to do took %s, want at most %s", again.Round(time.Millisecond), mostAgain)
	}
}
