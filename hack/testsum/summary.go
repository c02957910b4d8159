package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// event is a line of `go test -json`; see `go doc test2json` and, for builds, `go help buildjson`.
type event struct {
	Action      string
	Package     string  `json:",omitempty"`
	Test        string  `json:",omitempty"`
	Output      string  `json:",omitempty"`
	Elapsed     float64 `json:",omitempty"` // seconds
	ImportPath  string  `json:",omitempty"`
	FailedBuild string  `json:",omitempty"`
}

func writeEvent(w io.Writer, action, pkg, test, reason string) error {
	lines := []event{
		{Action: "run", Package: pkg, Test: test},
		{Action: "output", Package: pkg, Test: test, Output: reason + "\n"},
		{Action: action, Package: pkg, Test: test},
	}
	encoder := json.NewEncoder(w)
	for _, e := range lines {
		if err := encoder.Encode(e); err != nil {
			return err
		}
	}
	return nil
}

// key names a test, or a package where test is "".
type key struct{ pkg, test string }

func (k key) String() string {
	if k.test == "" {
		return k.pkg
	}
	return k.pkg + " " + k.test
}

// summary adds up the tests of any number of streams. A test that is in several is counted once: failed if it ever failed,
// skipped only if it never ran.
type summary struct {
	out     io.Writer
	mustRun string
	quiet   bool

	running map[key]bool
	tests   map[key]string           // what became of each: pass, fail, skip
	output  map[key]*strings.Builder // of tests and packages under way
	builds  map[string]*strings.Builder
	broken  map[string]bool // packages under way in which a test has failed
	failed  []key           // in the order in which they failed
}

func (s *summary) read(r io.Reader) error {
	if s.tests == nil {
		s.running, s.tests, s.broken = map[key]bool{}, map[key]string{}, map[string]bool{}
		s.output, s.builds = map[key]*strings.Builder{}, map[string]*strings.Builder{}
	}
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			var e event
			if strings.HasPrefix(line, "{") && json.Unmarshal([]byte(line), &e) == nil && e.Action != "" {
				s.add(e)
			} else {
				s.say("%s", line) // not from go test, but somebody said it
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (s *summary) add(e event) {
	k := key{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		text(s.builds, e.ImportPath).WriteString(e.Output)
	case "output":
		text(s.output, k).WriteString(e.Output)
	case "run":
		s.running[k] = true
	case "pass", "skip", "fail":
		if k.test != "" {
			s.test(k, e)
		} else {
			s.pkg(k, e)
		}
	}
}

// test notes how a test ended.
func (s *summary) test(k key, e event) {
	if e.Action == "skip" && s.mustRun != "" && strings.Contains(k.pkg, s.mustRun) {
		e.Action = "fail"
		text(s.output, k).WriteString("skipped, and here it must run\n")
	}
	delete(s.running, k)
	switch e.Action {
	case "fail":
		s.fail(k, text(s.output, k).String())
	case "pass":
		if s.tests[k] != "fail" {
			s.tests[k] = "pass"
		}
	case "skip":
		if s.tests[k] == "" {
			s.tests[k] = "skip"
		}
	}
	if e.Action == "skip" && !s.quiet {
		s.say("skip %s\n%s", k, indent(text(s.output, k).String()))
	}
	delete(s.output, k)
}

// pkg notes how a package ended. A package that failed with no failed test in it has failed by itself.
func (s *summary) pkg(k key, e event) {
	if e.Action == "fail" {
		s.unfinished(k.pkg)
		if !s.broken[k.pkg] {
			said := text(s.output, k).String()
			if b, ok := s.builds[e.FailedBuild]; ok {
				said = b.String() + said
			}
			s.fail(k, said)
		}
	} else if !s.quiet && s.has(k.pkg) {
		s.say("ok   %s (%.1fs)\n", k.pkg, e.Elapsed)
	}
	delete(s.output, k)
	delete(s.broken, k.pkg)
}

// unfinished fails the tests that a dying package took along.
func (s *summary) unfinished(pkg string) {
	var lost []key
	for k := range s.running {
		if k.pkg == pkg {
			lost = append(lost, k)
		}
	}
	slices.SortFunc(lost, func(a, b key) int { return cmp.Compare(a.test, b.test) })
	said := text(s.output, key{pkg: pkg}).String()
	for _, k := range lost {
		delete(s.running, k)
		s.fail(k, text(s.output, k).String()+said)
		said = ""
	}
}

func (s *summary) has(pkg string) bool {
	for k := range s.tests {
		if k.pkg == pkg {
			return true
		}
	}
	return false
}

func (s *summary) fail(k key, said string) {
	s.tests[k] = "fail"
	s.broken[k.pkg] = true
	if !slices.Contains(s.failed, k) {
		s.failed = append(s.failed, k)
	}
	if !s.quiet {
		s.say("FAIL %s\n%s", k, indent(said))
	}
}

// finish prints the last lines. It is false when anything failed, or when there was nothing to read.
func (s *summary) finish() bool {
	// A stream that ends in the middle was cut off: what was under way has not passed.
	for k := range s.running {
		s.fail(k, text(s.output, k).String()+"the results end in the middle of this test\n")
	}
	parents := map[key]bool{}       // tests that have subtests
	failedParents := map[key]bool{} // and of them those with a failed one
	for k, state := range s.tests {
		for i, r := range k.test {
			if r == '/' {
				parent := key{k.pkg, k.test[:i]}
				parents[parent] = true
				failedParents[parent] = failedParents[parent] || state == "fail"
			}
		}
	}
	count := map[string]int{}
	for k, state := range s.tests {
		if !parents[k] || state == "fail" && !failedParents[k] {
			count[state]++
		}
	}
	for _, k := range s.failed {
		if !failedParents[k] {
			s.say("failed: %s\n", k)
		}
	}
	s.say("%d passed, %d failed, %d skipped\n", count["pass"], count["fail"], count["skip"])
	return count["fail"] == 0 && len(s.tests) > 0
}

// say prints. Where nobody listens, the exit code has to do.
func (s *summary) say(format string, args ...any) {
	_, _ = fmt.Fprintf(s.out, format, args...)
}

func text[K comparable](m map[K]*strings.Builder, k K) *strings.Builder {
	if m[k] == nil {
		m[k] = &strings.Builder{}
	}
	return m[k]
}

// indent drops go test's own framing and moves the rest to the right.
func indent(said string) string {
	var b strings.Builder
	for line := range strings.Lines(said) {
		switch frame := strings.TrimLeft(line, " "); {
		case strings.HasPrefix(frame, "=== "), strings.HasPrefix(frame, "--- "), frame == "FAIL\n", strings.TrimSpace(line) == "":
		default:
			b.WriteString("    " + strings.TrimRight(line, "\n") + "\n")
		}
	}
	return b.String()
}
