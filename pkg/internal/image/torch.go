package image

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/model"
)

const (
	// TorchCPU is PyTorch without CUDA, which is several gigabytes: a service that was given no GPU cannot use it.
	TorchCPU = "cpu"
	// TorchNone takes PyTorch from the package index as any other package. Of PyPI that is the one with CUDA, on linux/amd64.
	TorchNone = "none"
)

func torchBackend() *regexp.Regexp {
	return regexp.MustCompile(`^(?:none|cpu|xpu|cu[0-9]{2,3}|rocm[0-9]+(?:\.[0-9]+){1,2})$`)
}

// torchBuild is a requirement of one of PyTorch's packages in a build for something: torch==2.9.1+cu126.
func torchBuild() *regexp.Regexp {
	return regexp.MustCompile(`(?i)^torch[a-z-]*\s*(?:\[[^\]]*\])?\s*===?\s*[0-9][0-9a-z.]*\+([a-z0-9.]+)`)
}

// torchIndex is an option that names PyTorch's own index.
func torchIndex() *regexp.Regexp {
	return regexp.MustCompile(`(?i)^-.*\bpytorch\.org/`)
}

// CheckTorchBackend is failure.Invalid for what is none of uv's backends.
func CheckTorchBackend(asked string) error {
	if asked == "" || torchBackend().MatchString(asked) {
		return nil
	}
	hint := "write cpu, cu126 or another of uv's, or none to take the package index's"
	if asked == "auto" {
		hint = "auto is this machine's, and the image runs on another: " + hint
	}
	return &failure.Error{Class: failure.Invalid, Reason: "TorchBackendInvalid", Message: fmt.Sprintf("PyTorch backend %q", asked), Hint: hint}
}

// TorchBackend is the build of PyTorch for an environment with these requirements: what is asked for, else what they say themselves,
// else cpu. It counts also where they do not name PyTorch, as what they name may need it.
func TorchBackend(asked string, requirements []string) string {
	own := ""
	for _, line := range requirements {
		line = strings.TrimSpace(model.Plain(line))
		if torchIndex().MatchString(line) {
			return cmp.Or(asked, TorchNone)
		}
		if build := torchBuild().FindStringSubmatch(line); build != nil && own == "" {
			own = TorchNone
			if torchBackend().MatchString(strings.ToLower(build[1])) {
				own = strings.ToLower(build[1])
			}
		}
	}
	return cmp.Or(asked, own, TorchCPU)
}
