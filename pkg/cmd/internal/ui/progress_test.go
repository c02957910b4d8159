package ui

import (
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// clock is a time that tests move.
type clock struct{ now time.Time }

func (c *clock) pass(d time.Duration) { c.now = c.now.Add(d) }

func scripted(t terminal) (*Progress, *strings.Builder, *clock) {
	var b strings.Builder
	c := &clock{now: time.Unix(0, 0)}
	p := &Progress{out: &b, term: t, now: func() time.Time { return c.now }}
	return p, &b, c
}

func TestALogHasOneLineAStep(t *testing.T) {
	p, out, clock := scripted(terminal{})
	defer p.Close()
	one := p.Start("Waiting for database")
	one.Note("pod/postgres-0: ContainerCreating")
	clock.pass(3200 * time.Millisecond)
	p.tick()
	one.End(nil)
	two := p.Start("Pushing")
	clock.pass(65 * time.Second)
	two.End(errors.New("denied"))
	two.End(nil) // a step ends once
	want := "Waiting for database ... done (3.2s)\nPushing ... failed (1m05s)\n"
	if out.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", out.String(), want)
	}
}

func TestALogHearsOfALongStepAndOfItsNews(t *testing.T) {
	p, out, clock := scripted(terminal{})
	defer p.Close()
	s := p.Start("Waiting")
	for range 50 {
		clock.pass(time.Second)
		if clock.now.Unix() == 20 {
			s.Note("pod/a: \x1b[2JPulling")
		}
		p.tick()
	}
	s.End(nil)
	want := `Waiting ... (5.0s)
Waiting ... (20.0s) pod/a: \x1b[2JPulling
Waiting ... (50.0s) pod/a: \x1b[2JPulling
Waiting ... done (50.0s)
`
	if out.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", out.String(), want)
	}
}

func TestALogHearsLessAndLessOfAStepWithoutNews(t *testing.T) {
	p, out, clock := scripted(terminal{})
	defer p.Close()
	p.Start("Forwarding")
	for range 4 * 60 {
		clock.pass(time.Second)
		p.tick()
	}
	want := "Forwarding ... (5.0s)\nForwarding ... (35.0s)\nForwarding ... (1m35s)\nForwarding ... (3m35s)\n"
	if out.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", out.String(), want)
	}
}

func TestBytesHaveARate(t *testing.T) {
	p, out, clock := scripted(terminal{})
	defer p.Close()
	s := p.Start("Pushing")
	s.Bytes(0, 100<<20)
	clock.pass(5 * time.Second)
	s.Bytes(10<<20, 100<<20)
	p.tick()
	s.End(nil)
	if want := "Pushing ... (5.0s) 10.0 MiB of 100.0 MiB, 2.0 MiB/s, 45s left\n"; !strings.HasPrefix(out.String(), want) {
		t.Errorf("got %q, want %q first", out.String(), want)
	}
}

// screen shows what a terminal shows after text: it knows the two movements that we use.
func screen(t *testing.T, text string) []string {
	t.Helper()
	var lines []string
	for text != "" {
		if rest, ok := strings.CutPrefix(text, "\x1b["); ok {
			count, rest, ok := strings.Cut(rest, "A\r\x1b[J")
			up := 0
			for _, digit := range count {
				up = up*10 + int(digit-'0')
			}
			if !ok || up > len(lines) {
				t.Fatalf("cannot move up by %q from line %d", count, len(lines))
			}
			lines, text = lines[:len(lines)-up], rest
			continue
		}
		line, rest, _ := strings.Cut(text, "\n")
		lines, text = append(lines, line), rest
	}
	return lines
}

func TestATerminalShowsRunningStepsBelowWhatIsDone(t *testing.T) {
	p, out, clock := scripted(terminal{live: true, width: func() int { return 40 }})
	one, two := p.Start("Building"), p.Start("Pushing")
	two.Note("a very long note that will not fit in the line")
	clock.pass(1500 * time.Millisecond)
	p.tick()
	p.Say("warning: %s", "old API")
	one.End(nil)
	got := strings.Join(screen(t, out.String()), "\n")
	want := "warning: old API\n✓ Building (1.5s)\n• Pushing (1.5s) a very long note that…"
	if got != want {
		t.Errorf("the screen shows:\n%s\nwant:\n%s", got, want)
	}
	p.Close()
	two.End(errors.New("late"))
	got = strings.Join(screen(t, out.String()), "\n")
	if want := "warning: old API\n✓ Building (1.5s)\n✗ Pushing (1.5s)"; got != want {
		t.Errorf("after Close the screen shows:\n%s\nwant:\n%s", got, want)
	}
}

func TestColoursOnlyWhereWanted(t *testing.T) {
	p, out, _ := scripted(terminal{live: true, color: true, width: func() int { return 80 }})
	defer p.Close()
	p.Start("Building").End(nil)
	if !strings.Contains(out.String(), "\x1b[32m✓\x1b[0m") {
		t.Errorf("no green in %q", out.String())
	}
}

func TestConcurrentStepsAndClose(*testing.T) {
	p := NewProgress(io.Discard)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			s := p.Start("working")
			for n := range int64(100) {
				s.Bytes(n, 100)
				s.Note("n")
			}
			s.End(nil)
		})
	}
	all.Wait()
	p.Close()
	p.Close()
}

func TestCapabilities(t *testing.T) {
	type env map[string]string
	for name, c := range map[string]struct {
		goos        string
		env         env
		live, color bool
	}{
		"a terminal":       {"linux", env{"TERM": "xterm"}, true, true},
		"dumb":             {"linux", env{"TERM": "dumb"}, false, false},
		"no colour":        {"linux", env{"TERM": "xterm", "NO_COLOR": ""}, true, false},
		"old Windows":      {"windows", env{}, false, false},
		"Windows Terminal": {"windows", env{"WT_SESSION": "1"}, true, true},
	} {
		got := capabilities(c.goos, func(k string) (string, bool) { v, ok := c.env[k]; return v, ok }, nil)
		if got.live != c.live || got.color != c.color {
			t.Errorf("%s: live %v, colour %v", name, got.live, got.color)
		}
	}
}

func TestAFileIsNoTerminal(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if got := inspect(f, "linux", os.LookupEnv); got.live || got.color {
		t.Errorf("a file is taken for a terminal: %+v", got)
	}
}

func TestWarningsAreSaidOnce(t *testing.T) {
	p, out, _ := scripted(terminal{})
	w := NewWarnings(p)
	for range 3 {
		w.HandleWarningHeaderWithContext(t.Context(), 299, "", "v1 is old\x1b[2J")
	}
	w.HandleWarningHeaderWithContext(t.Context(), 199, "", "somebody else")
	if want := "warning: v1 is old\\x1b[2J\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}
