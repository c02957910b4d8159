package image

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// Given makes an image that somebody has built the environment e: nothing is built then. doubts are sentences on what the image does
// not tell of itself. failure.Invalid where it tells that it is not what e asks for.
func (m *Maker) Given(ctx context.Context, image string, e Environment) (given Environment, doubts []string, err error) {
	fast, err := m.Repository.Resolve(ctx, image)
	if err != nil {
		return Environment{}, nil, err
	}
	config, err := m.Repository.Config(ctx, fast, e.Platform)
	if err != nil {
		return Environment{}, nil, err
	}
	var has description
	// Of an image that others have built there is no description.
	if json.Unmarshal([]byte(config.Config.Labels[DescriptionLabel]), &has) != nil {
		has = description{}
	}
	python := has.Python
	if python == "" {
		python = MajorMinor(variable(config, "PYTHON_VERSION"))
	}
	switch want := MajorMinor(e.Python); {
	case python == "":
		doubts = append(doubts, fmt.Sprintf("%s does not say which Python it has; the model needs %s", image, want))
	case python != want:
		return Environment{}, nil, unfit(fmt.Sprintf("the environment image %s has Python %s, and the model needs %s", image, python, want))
	}
	if has.Python == "" {
		doubts = append(doubts, image+" does not say which packages it has; the model needs "+strings.Join(names(e.Requirements), ", "))
	} else {
		missing, other := has.lacks(e)
		if len(other) > 0 {
			return Environment{}, nil, unfit(fmt.Sprintf("the environment image %s has %s", image, strings.Join(other, ", ")))
		}
		if len(missing) > 0 {
			doubts = append(doubts, fmt.Sprintf("%s does not say whether it has %s, which the model needs", image, strings.Join(missing, ", ")))
		}
	}
	return Environment{Image: fast, Platform: e.Platform, Python: e.Python}, doubts, nil
}

func unfit(message string) error {
	return &failure.Error{
		Class: failure.Invalid, Reason: "EnvironmentImageUnfit", Message: message,
		Hint: "name an image that was built for this model, or leave out --env-image",
	}
}

// exactly is a requirement of one version.
func exactly() *regexp.Regexp {
	return regexp.MustCompile(`^[0-9][A-Za-z0-9.+!]*$`)
}

// lacks names the packages of e that d does not name, and those that it has in another version than the only one that e takes.
func (d description) lacks(e Environment) (missing, other []string) {
	has := packages(d.Requirements)
	for name, want := range packages(canonicalLines(e.Requirements)) {
		switch version, ok := has[name]; {
		case strings.HasPrefix(name, "-"):
		case !ok:
			missing = append(missing, name)
		case version == want:
		case exactly().MatchString(version) && exactly().MatchString(want):
			other = append(other, fmt.Sprintf("%s %s instead of %s", name, version, want))
		default:
			missing = append(missing, strings.TrimSpace(name+" "+want))
		}
	}
	for _, wheel := range e.Wheels {
		if !slices.Contains(d.Wheels, wheel.SHA256) {
			missing = append(missing, "the model's "+wheel.Path)
		}
	}
	slices.Sort(missing)
	slices.Sort(other)
	return missing, other
}

func names(requirements []string) []string {
	found := packages(canonicalLines(requirements))
	maps.DeleteFunc(found, func(name, _ string) bool { return strings.HasPrefix(name, "-") })
	return slices.Sorted(maps.Keys(found))
}

func variable(config *v1.ConfigFile, name string) string {
	for _, v := range config.Config.Env {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}
