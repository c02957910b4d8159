package uv

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/model"
)

// CheckSources refuses, in builder's name, requirements that cannot be installed on another machine than the one that logged the model.
// Source code on the network is allowed: a builder that uses this has somewhere to let it run.
func CheckSources(builder string, e image.Environment) error { return checkLines(builder, e, true) }

func checkLines(builder string, e image.Environment, sources bool) error {
	for _, line := range slices.Concat(e.Requirements, e.Constraints) {
		if err := checkLine(builder, line, sources); err != nil {
			return err
		}
	}
	return nil
}

// checkLine refuses requirements that are no wheels, neither of an index nor of the model: what lies beside the requirements on this
// machine is not the model's. Source code is refused unless sources are allowed: it runs to be built, and may build differently each time.
func checkLine(builder, line string, sources bool) error {
	line = strings.TrimSpace(line)
	if _, _, ok := model.LocalWheel(line); ok {
		return nil
	}
	shown := redact(line)
	for _, found := range variableNames.FindAllStringSubmatch(line, -1) {
		if name := found[1]; !ofIndexes.MatchString(name) {
			return cannot(builder, fmt.Sprintf("the requirement %q asks for your variable %s, and would send it to a host that the model names", shown, name),
				"a model's requirements get variables whose names begin with PIP_, UV_ or INDEX_, and no others")
		}
	}
	const build = "build a wheel of it, put it into the model (code_paths=[\"NAME.whl\"], pip_requirements=[\"code/NAME.whl\"]), and log it again"
	const docker = "; or build with Docker"
	switch option, _, _ := strings.Cut(strings.ReplaceAll(line, "=", " "), " "); {
	case slices.Contains([]string{"-r", "--requirement", "-c", "--constraint", "-e", "--editable"}, option):
		return cannot(builder, fmt.Sprintf("the requirement %q names a file or a directory of the machine that logged the model", shown),
			"log the model again with the requirements themselves")
	case vcs.MatchString(line) && sources:
	case vcs.MatchString(line):
		return cannot(builder, fmt.Sprintf("the requirement %q is source code that would have to be built", shown), build+docker)
	case strings.Contains(line, "file:"), strings.HasPrefix(line, "."), strings.HasPrefix(line, "/"),
		strings.HasPrefix(line, "code/"), strings.HasPrefix(line, "wheels/"):
		return cannot(builder, fmt.Sprintf("the requirement %q is a path on the machine that logged the model", shown), build)
	case links.MatchString(line) && !strings.Contains(line, "://"):
		if _, ok := model.LocalLinks(line); !ok {
			return cannot(builder, fmt.Sprintf("the requirement %q names a directory of the machine that logged the model", shown), build)
		}
	case strings.HasPrefix(line, "-"):
	case isURL.MatchString(line) && !urlOfWheel.MatchString(line) && !sources:
		return cannot(builder, fmt.Sprintf("the requirement %q is source code that would have to be built", shown), build+docker)
	}
	return nil
}

var (
	// variableNames is a variable of the environment as pip and uv put it into a requirement. Who logs models is not to read all of them.
	variableNames = regexp.MustCompile(`\$\{([^}]*)\}`)
	ofIndexes     = regexp.MustCompile(`^(?:PIP|UV|INDEX)_`)

	links = regexp.MustCompile(`^(?:-f|--find-links)\b`)
	vcs   = regexp.MustCompile(`(?i)\b(?:git|hg|svn|bzr)\+`)
	// isURL tells a requirement that is a URL, and urlOfWheel one whose URL is a wheel's.
	isURL      = regexp.MustCompile(`^(?:[A-Za-z0-9][^\s@]*\s*@\s*)?[a-z]+://`)
	urlOfWheel = regexp.MustCompile(`\.whl(?:$|[?#\s;])`)
)

func cannot(builder, why, hint string) error {
	return &failure.Error{Class: failure.Diagnosed, Reason: "BuilderCannot", Message: builder + " cannot build the environment: " + why, Hint: hint}
}
