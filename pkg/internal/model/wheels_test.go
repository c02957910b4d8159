package model

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

func TestWheels(t *testing.T) {
	files := dir{fstest.MapFS{
		"wheels/mine-1.0-py3-none-any.whl":  {Data: []byte("mine")},
		"wheels/other-1.0-py3-none-any.whl": {Data: []byte("other")},
		"code/yours-2.0-py3-none-any.whl":   {Data: []byte("yours")},
		"wheels/readme.txt":                 {Data: []byte("text")},
	}}
	sum := func(text string) string {
		sum := sha256.Sum256([]byte(text))
		return hex.EncodeToString(sum[:])
	}
	for name, c := range map[string]struct {
		lines []string
		want  []string // path and digest
	}{
		"none":         {[]string{"mlflow==3.17.2", "mine @ https://example.com/wheels/mine-1.0-py3-none-any.whl"}, nil},
		"by path":      {[]string{"./code/yours-2.0-py3-none-any.whl[fast] ; python_version > '3'", "mlflow"}, []string{"code/yours-2.0-py3-none-any.whl " + sum("yours")}},
		"twice":        {[]string{"wheels/mine-1.0-py3-none-any.whl", "wheels/mine-1.0-py3-none-any.whl"}, []string{"wheels/mine-1.0-py3-none-any.whl " + sum("mine")}},
		"in a folder":  {[]string{"--find-links=./wheels", "mine"}, []string{"wheels/mine-1.0-py3-none-any.whl " + sum("mine"), "wheels/other-1.0-py3-none-any.whl " + sum("other")}},
		"of no folder": {[]string{"--find-links https://example.com/wheels", "-f /home/bob/wheels", "-f ../wheels"}, nil},
	} {
		wheels, err := Wheels(t.Context(), files, &Model{Requirements: c.lines})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var got []string
		for _, w := range wheels {
			got = append(got, w.Path+" "+w.SHA256)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
	_, err := Wheels(t.Context(), files, &Model{Requirements: []string{"dist/mine-1.0-py3-none-any.whl"}})
	if failure.ClassOf(err) != failure.Invalid || !strings.Contains(err.Error(), "dist/mine-1.0-py3-none-any.whl") {
		t.Errorf("a wheel that is not there: %v", err)
	}
}

func TestPlain(t *testing.T) {
	for line, want := range map[string]string{
		"mlflow==3.17.2": "mlflow==3.17.2",
		"wheels/scikit_learn-1.7.2-cp311-cp311-manylinux_2_28_x86_64.whl":     "scikit-learn==1.7.2",
		"./code/mine-1.0+cpu-1-py3-none-any.whl[fast] ; python_version > '3'": "mine[fast]==1.0+cpu ; python_version > '3'",
		"https://example.com/mine-1.0-py3-none-any.whl":                       "https://example.com/mine-1.0-py3-none-any.whl",
		"../mine-1.0-py3-none-any.whl":                                        "../mine-1.0-py3-none-any.whl",
		"mine.whl":                                                            "mine.whl",
		"mine @ file:///home/bob/mine-1.0-py3-none-any.whl":                   "mine @ file:///home/bob/mine-1.0-py3-none-any.whl",
	} {
		if got := Plain(line); got != want {
			t.Errorf("Plain(%q) = %q, want %q", line, got, want)
		}
	}
}
