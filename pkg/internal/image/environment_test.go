package image_test

import (
	"testing"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/model"
)

func TestKey(t *testing.T) {
	of := func(change func(*image.Environment)) string {
		e := image.Environment{
			Base: "docker.io/library/python@sha256:aa", Platform: "linux/amd64", Python: "3.11.7",
			Requirements: []string{"mlflow==3.17.2", "numpy==2.4.6"}, Constraints: []string{"pandas<4"},
		}
		change(&e)
		return e.Key()
	}
	key := of(func(*image.Environment) {})
	for name, change := range map[string]func(*image.Environment){
		"order of requirements": func(e *image.Environment) { e.Requirements = []string{"numpy==2.4.6", " mlflow==3.17.2", ""} },
		"patch of Python":       func(e *image.Environment) { e.Python = "3.11.9" },
		"mirror of the base":    func(e *image.Environment) { e.Base = "mirror.example.com/python@sha256:aa" },
		"no backend":            func(e *image.Environment) { e.TorchBackend = image.TorchNone },
		"no apt":                func(e *image.Environment) { e.Apt = []string{} },
	} {
		if of(change) != key {
			t.Errorf("%s must not change the key", name)
		}
	}
	for name, change := range map[string]func(*image.Environment){
		"base":        func(e *image.Environment) { e.Base = "docker.io/library/python@sha256:bb" },
		"platform":    func(e *image.Environment) { e.Platform = "linux/arm64" },
		"Python":      func(e *image.Environment) { e.Python = "3.12.7" },
		"requirement": func(e *image.Environment) { e.Requirements[1] = "numpy==2.4.7" },
		"constraint":  func(e *image.Environment) { e.Constraints = nil },
		"apt":         func(e *image.Environment) { e.Apt = []string{"libgomp1"} },
		"wheel":       func(e *image.Environment) { e.Wheels = []model.Wheel{{SHA256: "aa"}} },
		"PyTorch":     func(e *image.Environment) { e.TorchBackend = "cpu" },
		"moved":       func(e *image.Environment) { e.Constraints, e.Apt = nil, []string{"pandas<4"} },
	} {
		if of(change) == key {
			t.Errorf("%s must change the key", name)
		}
	}
}

func TestKeyOfWheels(t *testing.T) {
	of := func(path, sha256 string) string {
		return image.Environment{
			Requirements: []string{path + "[fast]", "mlflow==3.17.2"}, Wheels: []model.Wheel{{Path: path, SHA256: sha256}},
		}.Key()
	}
	key := of("wheels/mine-1.0-py3-none-any.whl", "aa")
	if of("code/mine-1.0-py3-none-any.whl", "aa") != key {
		t.Error("where in the model a wheel is must not change the key")
	}
	if of("wheels/mine-1.0-py3-none-any.whl", "bb") == key || of("wheels/mine-1.1-py3-none-any.whl", "aa") == key {
		t.Error("another wheel must change the key")
	}
}

func TestKeyOfIndexes(t *testing.T) {
	of := func(lines ...string) string { return image.Environment{Requirements: lines}.Key() }
	if of("--extra-index-url https://bob:secret@index.example.com/", "a") != of("--extra-index-url https://index.example.com/", "a") {
		t.Error("a password must not change the key")
	}
	if of("--index-url https://one.example.com/", "a") == of("--index-url https://two.example.com/", "a") {
		t.Error("another index must change the key")
	}
}

func TestDefaultBase(t *testing.T) {
	if base, err := image.DefaultBase("3.11.7"); err != nil || base != "docker.io/library/python:3.11-slim" {
		t.Errorf("got %s, %v", base, err)
	}
	for _, python := range []string{"", "2.7.18", "three"} {
		if _, err := image.DefaultBase(python); failure.ClassOf(err) != failure.Invalid {
			t.Errorf("%q: %v, want failure.Invalid", python, err)
		}
	}
}
