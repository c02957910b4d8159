package image_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image"
)

func TestTorchBackend(t *testing.T) {
	for _, c := range []struct {
		asked string
		lines []string
		want  string
	}{
		{"", []string{"mlflow==3.17.2"}, "cpu"},
		{"", []string{"torch==2.9.1", "sentence-transformers"}, "cpu"},
		{"", []string{"torch==2.9.1+cu126"}, "cu126"},
		{"", []string{"mlflow", "torchvision == 0.24.1+CPU"}, "cpu"},
		{"", []string{"wheels/torch-2.9.1+cu126-cp311-cp311-manylinux_2_28_x86_64.whl"}, "cu126"},
		{"", []string{"torch==2.9.1+mine"}, "none"},
		{"", []string{"numpy==2.0+cu126"}, "cpu"},
		{"", []string{"--extra-index-url https://download.pytorch.org/whl/cu126", "torch==2.9.1"}, "none"},
		{"cu130", []string{"torch==2.9.1+cu126", "--index-url=https://download.pytorch.org/whl/cu126"}, "cu130"},
		{"none", []string{"torch==2.9.1"}, "none"},
	} {
		if got := image.TorchBackend(c.asked, c.lines); got != c.want {
			t.Errorf("TorchBackend(%q, %q) = %q, want %q", c.asked, c.lines, got, c.want)
		}
	}
}

func TestCheckTorchBackend(t *testing.T) {
	for _, good := range []string{"", "none", "cpu", "xpu", "cu126", "rocm6.2.4"} {
		if err := image.CheckTorchBackend(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"auto", "cuda", "cu", "cpu --index-url x", "-h", "CPU"} {
		err := image.CheckTorchBackend(bad)
		if failure.ClassOf(err) != failure.Invalid {
			t.Errorf("%q: %v, want failure.Invalid", bad, err)
		}
		if e, ok := errors.AsType[*failure.Error](err); bad == "auto" && (!ok || !strings.Contains(e.Hint, "this machine")) {
			t.Errorf("auto: %+v", err)
		}
	}
}
