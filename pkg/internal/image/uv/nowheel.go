package uv

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image"
)

// noWheel is a requirement that has no wheel for the image's platform and Python.
type noWheel struct {
	requirement string   // fire==0.4.0, or fire
	neededBy    string   // the package that requires it, mine==1.0; "" where the model does so itself
	others      []string // Pythons or platforms that it has wheels for, as uv names them: cp310, macosx_11_0_arm64
	local       string   // path or URL of a wheel that the model names, where that is the one that does not fit
}

// How uv 0.13 and those before it tell of a package without a wheel that fits, and what else they know.
func localUnfit() *regexp.Regexp {
	return regexp.MustCompile(`A \w+ \((\S+)\) dependency is incompatible with the current platform`)
}

func noneUsable() *regexp.Regexp {
	return regexp.MustCompile(`(\S+) has no (?:usable )?wheels`)
}

func required() *regexp.Regexp {
	return regexp.MustCompile("(?i)wheels are required for `([\\w.-]+)`")
}

func neededBy() *regexp.Regexp {
	return regexp.MustCompile(`(?:and|because) (\S+) depends on (\S+?)[,\s]`)
}

func otherTags() *regexp.Regexp {
	return regexp.MustCompile(`(?s)(?:Python ABI tags?|Python implementations?|Python implementation tags?|platforms?):((?:\s*.[\w.]+.,?)+)`)
}

func compatible() *regexp.Regexp {
	return regexp.MustCompile("compatible with [^\n]*?\\(`([\\w.]+)`\\)")
}

func nameOfOther() *regexp.Regexp {
	return regexp.MustCompile("`([\\w.]+)`")
}

func findNoWheel(out string) (noWheel, bool) {
	if found := localUnfit().FindStringSubmatch(out); found != nil {
		n := noWheel{local: found[1]}
		if tag := compatible().FindStringSubmatch(out); tag != nil {
			n.others = tag[1:]
		}
		return n, true
	}
	found := noneUsable().FindStringSubmatch(out)
	if found == nil {
		if found = required().FindStringSubmatch(out); found == nil {
			return noWheel{}, false
		}
	}
	n := noWheel{requirement: found[1]}
	for _, by := range neededBy().FindAllStringSubmatch(out, -1) {
		if packageOf(by[2]) == packageOf(n.requirement) {
			n.neededBy = by[1]
			break
		}
	}
	if tags := otherTags().FindStringSubmatch(out); tags != nil {
		for _, tag := range nameOfOther().FindAllStringSubmatch(tags[1], -1) {
			n.others = append(n.others, tag[1])
		}
		n.others = slices.Compact(n.others)
	}
	return n, true
}

// packageOf is fire of fire==0.4.0.
func packageOf(requirement string) string {
	return requirement[:strings.IndexFunc(requirement+"=", func(r rune) bool { return strings.ContainsRune("=<>!~[;", r) })]
}

func (n noWheel) message(e image.Environment) string {
	at := fmt.Sprintf("Python %s on %s", image.MajorMinor(e.Python), e.Platform)
	what := n.requirement + " has no wheel for " + at
	if n.local != "" {
		what = fmt.Sprintf("the wheel %s is not for %s", n.local, at)
	}
	if n.neededBy != "" {
		what = fmt.Sprintf("%s, and %s needs it", what, n.neededBy)
	}
	if len(n.others) > 0 {
		what += "; there is one for " + strings.Join(n.others, ", ")
	}
	return what
}

// hint is the next thing to do. A requirement with wheels for other Pythons needs another version; one with source code alone needs a build.
func (n noWheel) hint(e image.Environment) string {
	switch {
	case n.local != "":
		return fmt.Sprintf("log the model again with a %s that is for Python %s on %s", path.Base(n.local), image.MajorMinor(e.Python), e.Platform)
	case len(n.others) > 0:
		return "log the model again with a version of it that has one for this Python and platform"
	}
	return fmt.Sprintf("log the model again with a version that has one; or build one (pip wheel %q) and log the model with it "+
		"(code_paths, pip_requirements); or build with Docker", n.requirement)
}
