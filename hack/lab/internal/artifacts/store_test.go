package artifacts

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// steps notes what it is told.
type steps struct{ names []string }

func (s *steps) Step(name string, _ time.Duration) func(error) {
	s.names = append(s.names, name)
	return func(error) {}
}

func opened(t *testing.T) *store {
	t.Helper()
	s, unlock, err := open(t.Context(), t.TempDir(), &steps{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(unlock)
	return s
}

func TestKeyTellsRecipesApart(t *testing.T) {
	recipes := [][]string{{}, {""}, {"a", "bc"}, {"ab", "c"}, {"abc"}, {"a", "b", "c"}, {"c", "b", "a"}}
	seen := map[string][]string{}
	for _, recipe := range recipes {
		key := keyOf(recipe...)
		if other, ok := seen[key]; ok {
			t.Errorf("%q and %q have one key", recipe, other)
		}
		seen[key] = recipe
		if again := keyOf(recipe...); again != key {
			t.Errorf("%q has the keys %s and %s", recipe, key, again)
		}
	}
}

func TestEnsureBuildsOncePerRecipe(t *testing.T) {
	s := opened(t)
	builds := 0
	build := func(_ context.Context, folder string) error {
		builds++
		return os.WriteFile(filepath.Join(folder, "file"), []byte("built"), 0o600)
	}
	var folders []string
	for _, key := range []string{"1", "1", "2"} {
		folder, err := s.ensure(t.Context(), step{name: "build"}, "thing", key, build)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(filepath.Join(folder, "file")); err != nil || string(text) != "built" {
			t.Errorf("key %s: %q, %v", key, text, err)
		}
		folders = append(folders, folder)
	}
	if builds != 2 || folders[0] != folders[1] || folders[1] == folders[2] {
		t.Errorf("%d builds in %q, want one for each of two recipes", builds, folders)
	}
}

func TestFailedBuildLeavesNothing(t *testing.T) {
	s := opened(t)
	failure := errors.New("disk full")
	_, err := s.ensure(t.Context(), step{name: "make thing"}, "thing", "1", func(_ context.Context, folder string) error {
		return errors.Join(os.WriteFile(filepath.Join(folder, "half"), nil, 0o600), failure)
	})
	if !errors.Is(err, failure) || !strings.Contains(err.Error(), "make thing") {
		t.Errorf("error %v, want the step and its cause", err)
	}
	for _, folder := range []string{s.path("thing", "1"), s.scratch()} {
		if entries, _ := os.ReadDir(folder); len(entries) > 0 {
			t.Errorf("%s holds %v", folder, entries)
		}
	}
}

func TestOpenRemovesWhatAKilledRunLeft(t *testing.T) {
	cache := t.TempDir()
	left := filepath.Join(cache, "artifacts", ".scratch", "thing-123", "half")
	if err := os.MkdirAll(left, 0o755); err != nil {
		t.Fatal(err)
	}
	_, unlock, err := open(t.Context(), cache, &steps{})
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if exists(left) {
		t.Errorf("%s is still there", left)
	}
}

func TestSecondRunWaitsForTheFirst(t *testing.T) {
	cache := t.TempDir()
	_, unlock, err := open(t.Context(), cache, &steps{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	told := &steps{}
	if _, _, err := open(ctx, cache, told); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v while another run holds the lock", err)
	}
	if len(told.names) != 1 || !strings.Contains(told.names[0], "another run") {
		t.Errorf("steps %q, want the wait", told.names)
	}
	unlock()
	_, unlock, err = open(t.Context(), cache, &steps{})
	if err != nil {
		t.Fatalf("after the first run: %v", err)
	}
	unlock()
}

func TestStaleIsWhatNobodyAskedFor(t *testing.T) {
	s := opened(t)
	s.plan = true
	for _, name := range []string{"thing-1", "thing-2", "other-1"} {
		if err := os.Mkdir(filepath.Join(s.artifacts(), name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	never := func(context.Context, string) error { return errors.New("a plan builds nothing") }
	for _, key := range []string{"2", "3"} {
		if _, err := s.ensure(t.Context(), step{}, "thing", key, never); err != nil {
			t.Fatal(err)
		}
	}
	stale, err := s.stale()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(stale, " "); got != s.path("other", "1")+" "+s.path("thing", "1") {
		t.Errorf("stale: %s", got)
	}
}

func TestFailedCommandShowsTheEndOfItsLog(t *testing.T) {
	s := opened(t)
	cmd := command(t.Context(), "sh", "-c", `i=1; while [ $i -le 100 ]; do echo "line $i"; i=$((i+1)); done; echo "no space" >&2; exit 3`)
	err := s.run("thing", cmd)
	var failed *StepError
	if !errors.As(err, &failed) {
		t.Fatalf("error %v, want a StepError", err)
	}
	lines := strings.Split(failed.Tail, "\n")
	if len(lines) != logTail || lines[len(lines)-1] != "no space" || lines[0] != "line 72" {
		t.Errorf("tail of %d lines from %q to %q", len(lines), lines[0], lines[len(lines)-1])
	}
	if text := err.Error(); !strings.Contains(text, filepath.Join(s.logs(), "thing.log")) || !strings.Contains(text, "exit status 3") {
		t.Errorf("error %q names neither log nor cause", text)
	}
}

func TestCommandEndsWithItsContext(t *testing.T) {
	s := opened(t)
	ctx, cancel := context.WithCancel(t.Context())
	started := filepath.Join(t.TempDir(), "started")
	go func() {
		defer cancel()
		for !exists(started) {
			select {
			case <-time.After(5 * time.Millisecond):
			case <-t.Context().Done():
				return
			}
		}
	}()
	// The child's child holds the log open: it must end, too.
	begin := time.Now()
	err := s.run("thing", command(ctx, "sh", "-c", `sleep 60 & touch "$0"; wait`, started))
	if err == nil || time.Since(begin) > 4*time.Second {
		t.Errorf("ended after %s with %v", time.Since(begin), err)
	}
}
