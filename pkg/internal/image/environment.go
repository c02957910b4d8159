// Package image makes a model's image: an environment image by key, the model's layers on it, the launcher last.
// Only the rooms under image/ import go-containerregistry; only image/docker imports docker.
package image

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/image/registry"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/model"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// recipe is the version of how an environment is made of its description: raise it where the same Environment shall give another image.
const recipe = 2

// Where things are in an image.
const (
	EnvironmentDir = "/opt/mlflow/env"
	LauncherDir    = "/opt/mlflow"
	ModelDir       = "/opt/ml/model" // as in MLflow's own images
)

// Environment is all that decides the content of an environment image.
type Environment struct {
	Base         string // by digest
	Platform     string // linux/amd64
	Python       string // 3.11.7; only 3.11 counts, the base has the rest
	Requirements []string
	Constraints  []string
	Apt          []string
	Wheels       []model.Wheel // that the model brings with it: their digests count, their paths do not
	TorchBackend string        // of uv, "cpu" or "cu126"; "none" and "" take PyTorch as any other package
	Image        string        // by digest: an image that is this environment, of which then only the platform counts besides; see Maker.Given
}

// Key is the sha256 of e's description, lower-case hex.
func (e Environment) Key() string {
	sum := sha256.Sum256([]byte(e.Description()))
	return hex.EncodeToString(sum[:])
}

// description is what decides the content of an environment, with no difference that makes none.
type description struct {
	Recipe       int      `json:"recipe"`
	Base         string   `json:"base"`
	Platform     string   `json:"platform"`
	Python       string   `json:"python"`
	Requirements []string `json:"requirements"`
	Constraints  []string `json:"constraints"`
	Apt          []string `json:"apt"`
	Wheels       []string `json:"wheels"`
	TorchBackend string   `json:"torchBackend,omitempty"`
	Image        string   `json:"image,omitempty"` // alone with the platform
}

// Description is the canonical JSON of e and of the recipe's version. No credential goes into it.
func (e Environment) Description() string {
	d := description{
		Recipe:       recipe,
		Base:         e.Base[strings.LastIndex(e.Base, "@")+1:], // the digest: a mirror of the base makes the same environment
		Platform:     e.Platform,
		Python:       MajorMinor(e.Python),
		Requirements: canonicalLines(e.Requirements),
		Constraints:  canonicalLines(e.Constraints),
		Apt:          sorted(e.Apt),
		Wheels:       []string{},
		TorchBackend: strings.TrimPrefix(e.TorchBackend, TorchNone),
	}
	if e.Image != "" {
		d = description{Recipe: recipe, Platform: e.Platform, Image: e.Image[strings.LastIndex(e.Image, "@")+1:]}
	}
	for _, wheel := range e.Wheels {
		d.Wheels = append(d.Wheels, wheel.SHA256)
	}
	d.Wheels = sorted(d.Wheels)
	// Strings, slices of them and an int: Marshal has nothing to refuse.
	text, err := json.Marshal(d)
	if err != nil {
		text = fmt.Appendf(nil, "%+v", d)
	}
	return string(text)
}

// Tag is the tag of the environment's image: its key.
func (e Environment) Tag() string { return "env-" + e.Key() }

// MajorMinor is 3.11 of 3.11.7.
func MajorMinor(python string) string {
	parts := strings.SplitN(python, ".", 3)
	return strings.Join(parts[:min(len(parts), 2)], ".")
}

// canonicalLines are requirements in an order that does not depend on who wrote them. Options may depend on their order,
// so lines with options among them stay as they are. A password in an index's URL is not part of what is installed.
func canonicalLines(lines []string) []string {
	out := make([]string, 0, len(lines))
	options := false
	for _, line := range lines {
		if line = strings.Join(strings.Fields(line), " "); line == "" {
			continue
		}
		options = options || strings.HasPrefix(line, "-")
		if name, rest, ok := model.LocalWheel(line); ok {
			line = path.Base(name) + rest
		}
		out = append(out, userinfo().ReplaceAllString(line, "://"))
	}
	if options {
		return out
	}
	return sorted(out)
}

// userinfo is the part of a URL that holds credentials.
func userinfo() *regexp.Regexp {
	return regexp.MustCompile(`://[^/@\s]*@`)
}

func sorted(list []string) []string {
	out := slices.Clone(list)
	slices.Sort(out)
	if out = slices.Compact(out); out == nil {
		return []string{}
	}
	return out
}

// Builder builds environment images.
type Builder interface {
	Name() string // uv, docker
	// Check is nil where it can build e; else failure.Diagnosed says precisely what is missing.
	Check(ctx context.Context, e Environment) error
	// Build builds e, pushes it to the repository as e.Tag() and returns the digest. Secrets reach the build as mounted files,
	// never as arguments.
	Build(ctx context.Context, e Environment, to *registry.Repository, s progress.Step) (digest string, err error)
}

// The builders, by name. Auto is the first that can build the environment, without Docker where that is possible.
const (
	BuilderAuto   = "auto"
	BuilderUV     = "uv"
	BuilderDocker = "docker"
)

// CheckBuilder is failure.Invalid for what is no builder's name; "" is auto.
func CheckBuilder(name string) error {
	if slices.Contains([]string{"", BuilderAuto, BuilderUV, BuilderDocker}, name) {
		return nil
	}
	return &failure.Error{Class: failure.Invalid, Reason: "BuilderInvalid", Message: fmt.Sprintf("builder %q", name), Hint: "write auto, uv or docker"}
}

// aptPackage is the name of one of Debian's packages, with a version where one is asked for.
func aptPackage() *regexp.Regexp {
	return regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+(?:=[A-Za-z0-9.+:~-]+)?$`)
}

// CheckApt is failure.Invalid for what is no name of one of Debian's packages.
func CheckApt(packages []string) error {
	for _, p := range packages {
		if !aptPackage().MatchString(p) {
			return &failure.Error{
				Class: failure.Invalid, Reason: "SystemPackageInvalid", Message: fmt.Sprintf("system package %q", p),
				Hint: "write it as Debian names it, libgl1, with =VERSION behind it where it has to be one",
			}
		}
	}
	return nil
}

// DefaultBase is the base image for a model's Python: "docker.io/library/python:3.11-slim".
func DefaultBase(python string) (string, error) {
	version := MajorMinor(python)
	if !pythonVersion().MatchString(version) {
		return "", &failure.Error{
			Class:   failure.Invalid,
			Reason:  "PythonUnknown",
			Message: fmt.Sprintf("the model's Python version is %q, so no base image can be chosen for it", cmp.Or(python, "not written down")),
			Hint:    "log the model again with MLflow, which writes python_env.yaml beside it",
		}
	}
	return "docker.io/library/python:" + version + "-slim", nil
}

func pythonVersion() *regexp.Regexp {
	return regexp.MustCompile(`^3\.[0-9]+$`)
}
