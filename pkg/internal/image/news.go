package image

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/model"
)

// DescriptionLabel of an image is the description of its environment, which its key is the sha256 of.
const DescriptionLabel = "mlflow.kubectl/environment"

// looking is how long it may take to find out what the environment was before.
const looking = 5 * time.Second

// news says in one line in what e differs from the environment of the image that the deployment has now. What that was is good to
// know, but no reason to fail: the image may be anybody's, or gone.
func (m *Maker) news(ctx context.Context, e Environment, present func(context.Context) (string, error)) string {
	if present == nil {
		return "new"
	}
	ctx, cancel := context.WithTimeout(ctx, looking)
	defer cancel()
	image, err := present(ctx)
	if err != nil || image == "" {
		return "new"
	}
	config, err := m.Repository.Config(ctx, image, e.Platform)
	if err != nil {
		return "new"
	}
	var before, after description
	if json.Unmarshal([]byte(config.Config.Labels[DescriptionLabel]), &before) != nil || json.Unmarshal([]byte(e.Description()), &after) != nil || before.Python == "" {
		return "new"
	}
	changes := before.changes(after)
	if len(changes) == 0 {
		return "known, but no longer in " + m.Repository.Name()
	}
	return "new (" + strings.Join(changes, "; ") + ")"
}

// changes names what is different in after: the base and what else decides, then packages that are changed, added and gone.
func (d description) changes(after description) []string {
	var out []string
	one := func(what, was, is string) {
		if was != is {
			out = append(out, fmt.Sprintf("%s %s -> %s", what, none(was), none(is)))
		}
	}
	one("Python", d.Python, after.Python)
	one("platform", d.Platform, after.Platform)
	if d.Base != after.Base {
		out = append(out, "another base image")
	}
	if d.Recipe != after.Recipe {
		out = append(out, "another way of building")
	}
	one("system packages", strings.Join(d.Apt, " "), strings.Join(after.Apt, " "))
	one("PyTorch's backend", d.TorchBackend, after.TorchBackend)
	was, is := packages(d.Requirements), packages(after.Requirements)
	var added, gone []string
	for _, name := range slices.Sorted(maps.Keys(is)) {
		switch before, ok := was[name]; {
		case !ok:
			added = append(added, "+ "+strings.TrimSpace(name+" "+is[name]))
		case before != is[name]:
			out = append(out, fmt.Sprintf("%s %s -> %s", name, none(before), none(is[name])))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(was)) {
		if _, ok := is[name]; !ok {
			gone = append(gone, "- "+name)
		}
	}
	out = slices.Concat(out, added, gone)
	if !slices.Equal(d.Constraints, after.Constraints) {
		out = append(out, "other constraints")
	}
	if len(out) == 0 && !slices.Equal(d.Wheels, after.Wheels) {
		out = append(out, "other wheels in the model")
	}
	if len(out) == 0 && !slices.Equal(d.Requirements, after.Requirements) {
		out = append(out, "the order of requirements")
	}
	return out
}

func none(value string) string {
	if value == "" {
		return "any"
	}
	return value
}

// requirement is name[extras] and what stands behind it.
func requirement() *regexp.Regexp {
	return regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9._-]*)\s*(\[[^\]]*\])?\s*(.*)$`)
}

func separators() *regexp.Regexp {
	return regexp.MustCompile(`[-_.]+`)
}

// packages maps what requirements name, in the index's spelling, to the versions asked for: "1.5.2" where it is exactly one. An option
// line stands for itself.
func packages(lines []string) map[string]string {
	out := map[string]string{}
	for _, line := range lines {
		found := requirement().FindStringSubmatch(model.Plain(line))
		if found == nil {
			out[line] = ""
			continue
		}
		name := separators().ReplaceAllString(strings.ToLower(found[1]), "-") + found[2]
		version := strings.TrimSpace(found[3])
		if exact, ok := strings.CutPrefix(version, "=="); ok && !strings.ContainsAny(exact, "=,") {
			version = strings.TrimSpace(exact)
		}
		if out[name] != "" {
			version = out[name] + ", " + version
		}
		out[name] = version
	}
	return out
}
