package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// suite runs testsum over the real output of go test for the files of one package, and returns its output and exit code.
func suite(t *testing.T, files map[string]string, args ...string) (string, int) {
	t.Helper()
	dir := t.TempDir()
	files["go.mod"] = "module example.com/suite\n\ngo 1.26\n"
	for name, content := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-json", "./...")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	stream, _ := cmd.Output() // it fails where its tests do
	var out, errs strings.Builder
	code := run(args, strings.NewReader(string(stream)), &out, &errs)
	if errs.Len() > 0 {
		t.Errorf("stderr: %s", errs.String())
	}
	return out.String(), code
}

func want(t *testing.T, out string, code, wantCode int, last string, texts ...string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if got := lines[len(lines)-1]; got != last {
		t.Errorf("last line is %q, want %q", got, last)
	}
	if code != wantCode {
		t.Errorf("exit code %d, want %d", code, wantCode)
	}
	for _, text := range texts {
		if !strings.Contains(out, text) {
			t.Errorf("output lacks %q:\n%s", text, out)
		}
	}
}

const head = "package suite\n\nimport \"testing\"\n\n"

func TestCountsLeaves(t *testing.T) {
	out, code := suite(t, map[string]string{"a_test.go": head + `
func TestPlain(t *testing.T) {}
func TestParent(t *testing.T) {
	t.Run("one", func(t *testing.T) {})
	t.Run("two", func(t *testing.T) { t.Skip("no lab here") })
}`})
	want(t, out, code, 0, "2 passed, 0 failed, 1 skipped", "no lab here")
}

func TestFailureIsShownAndNamed(t *testing.T) {
	out, code := suite(t, map[string]string{"a_test.go": head + `
func TestGood(t *testing.T) {}
func TestParent(t *testing.T) {
	t.Run("bad", func(t *testing.T) { t.Error("one is not two") })
}`})
	want(t, out, code, 1, "1 passed, 1 failed, 0 skipped", "one is not two", "failed: example.com/suite TestParent/bad")
}

func TestParentThatFailsByItselfCounts(t *testing.T) {
	out, code := suite(t, map[string]string{"a_test.go": head + `
func TestParent(t *testing.T) {
	t.Run("good", func(t *testing.T) {})
	t.Error("afterwards")
}`})
	want(t, out, code, 1, "1 passed, 1 failed, 0 skipped", "afterwards")
}

func TestBuildFailureCounts(t *testing.T) {
	out, code := suite(t, map[string]string{
		"a_test.go":   head + "func TestGood(t *testing.T) {}",
		"b/b_test.go": "package b\n\nvar x int = \"text\"\n",
	})
	want(t, out, code, 1, "1 passed, 1 failed, 0 skipped", "b_test.go:3", "failed: example.com/suite/b")
}

func TestPanicCounts(t *testing.T) {
	out, code := suite(t, map[string]string{"a_test.go": head + `
func TestGood(t *testing.T) {}
func TestBad(t *testing.T) { panic("over and out") }`})
	want(t, out, code, 1, "1 passed, 1 failed, 0 skipped", "over and out")
}

func TestExitOutsideATestCounts(t *testing.T) {
	out, code := suite(t, map[string]string{"a_test.go": `package suite

import (
	"os"
	"testing"
)

func TestGood(t *testing.T) {}
func TestMain(m *testing.M) { m.Run(); os.Exit(3) }`})
	want(t, out, code, 1, "1 passed, 1 failed, 0 skipped", "failed: example.com/suite")
}

func TestMustRun(t *testing.T) {
	skipping := map[string]string{"a_test.go": head + `func TestSkips(t *testing.T) { t.Skip("no root") }`}
	out, code := suite(t, skipping, "-must-run", "example.com/suite")
	want(t, out, code, 1, "0 passed, 1 failed, 0 skipped", "no root")
	out, code = suite(t, skipping, "-must-run", "elsewhere")
	want(t, out, code, 0, "0 passed, 0 failed, 1 skipped", "no root")
}

func TestNothingToReadIsAFailure(t *testing.T) {
	var out, errs strings.Builder
	code := run(nil, strings.NewReader(""), &out, &errs)
	want(t, out.String(), code, 1, "0 passed, 0 failed, 0 skipped")
}

func TestEventsFromOutsideCount(t *testing.T) {
	var events, out, errs strings.Builder
	if code := run([]string{"-event", "fail", "test/e2e", "lab up", "etcd did not start"}, nil, &events, &errs); code != 0 {
		t.Fatalf("exit code %d: %s", code, errs.String())
	}
	file := filepath.Join(t.TempDir(), "events.json")
	if err := os.WriteFile(file, []byte(events.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	code := run([]string{file}, nil, &out, &errs)
	want(t, out.String(), code, 1, "0 passed, 1 failed, 0 skipped", "etcd did not start", "failed: test/e2e lab up")
}

func TestATestInTwoTiersIsCountedOnce(t *testing.T) {
	tier := func(results ...string) string {
		var b strings.Builder
		for _, r := range results {
			action, test, _ := strings.Cut(r, " ")
			if err := writeEvent(&b, action, "p", test, ""); err != nil {
				t.Fatal(err)
			}
		}
		return b.String()
	}
	unit := tier("pass TestA", "skip TestB", "skip TestC", "fail TestD")
	api := tier("pass TestA", "pass TestB", "skip TestC", "pass TestD")
	var out, errs strings.Builder
	code := run(nil, strings.NewReader(unit+api), &out, &errs)
	want(t, out.String(), code, 1, "2 passed, 1 failed, 1 skipped", "failed: p TestD")
}

func TestResultsThatEndInTheMiddleAreAFailure(t *testing.T) {
	var out, errs strings.Builder
	code := run(nil, strings.NewReader(`{"Action":"run","Package":"p","Test":"TestA"}`+"\n"), &out, &errs)
	want(t, out.String(), code, 1, "0 passed, 1 failed, 0 skipped", "failed: p TestA")
}
