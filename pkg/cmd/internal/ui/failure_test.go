package ui

import (
	"strings"
	"testing"
)

func TestPrintFailure(t *testing.T) {
	var b strings.Builder
	PrintFailure(&b, Failure{
		Message:  "pod/mlflow-0: image \x1b[5mcannot\x1b[0m be pulled\nback-off",
		Hint:     "check the name",
		Evidence: []string{"Failed: unauthorized\r", "first\nsecond\n\n"},
		See:      "kubectl mlflow install",
	})
	want := `error: pod/mlflow-0: image \x1b[5mcannot\x1b[0m be pulled
  back-off
hint: check the name
  Failed: unauthorized
  first
  second
See 'kubectl mlflow install -h' for help and examples
`
	if b.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", b.String(), want)
	}
}

func TestPrintFailureOfAnEmptyErrorSaysSo(t *testing.T) {
	var b strings.Builder
	PrintFailure(&b, Failure{})
	if b.String() != "error: (no message)\n" {
		t.Errorf("got %q", b.String())
	}
}
