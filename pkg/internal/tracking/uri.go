package tracking

import (
	"fmt"
	"io/fs"
	"strings"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// The schemes that a tracking server resolves.
const (
	schemeModels    = "models"
	schemeRuns      = "runs"
	schemeArtifacts = "mlflow-artifacts"
)

// URI is a parsed model URI. Of Version, Alias and Stage at most one is set; a registered model with none of them is the latest.
type URI struct {
	Scheme  string // models, runs, mlflow-artifacts
	Name    string // of a registered model
	Version string // "3"
	Alias   string
	Stage   string
	ModelID string // "m-…", of a logged model
	RunID   string
	Host    string // of mlflow-artifacts://host/…, else ""
	Path    string // below the run, or below the artifact root
}

// ParseURI follows mlflow.store.artifact.utils.models and runs_artifact_repo. failure.Invalid shows the forms.
func ParseURI(s string) (URI, error) {
	scheme, rest, ok := strings.Cut(s, ":")
	if !ok || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return URI{}, notAURI(s, "it is not a model URI")
	}
	switch strings.ToLower(scheme) {
	case schemeModels:
		return parseModels(s, rest)
	case schemeRuns:
		return parseRuns(s, rest)
	case schemeArtifacts:
		return parseArtifacts(s, rest)
	}
	return URI{}, notAURI(s, fmt.Sprintf("models are found through the tracking server, and not read from %s", scheme))
}

func notAURI(s, why string) error {
	return &failure.Error{
		Class:   failure.Invalid,
		Reason:  "InvalidModelURI",
		Message: fmt.Sprintf("%q: %s", s, why),
		Hint: "the forms are models:/NAME/VERSION, models:/NAME@ALIAS, models:/NAME/latest, models:/m-ID, runs:/RUN_ID/PATH, " +
			"mlflow-artifacts:/PATH and, for a directory here, ./PATH",
	}
}

func parseModels(s, rest string) (URI, error) {
	path, ok := strings.CutPrefix(rest, "/")
	if !ok || strings.HasPrefix(path, "/") {
		return URI{}, notAURI(s, "models:/ is followed by a name")
	}
	name, suffix, two := strings.Cut(path, "/")
	switch {
	case strings.TrimSpace(name) == "" || strings.Contains(suffix, "/") || two && strings.TrimSpace(suffix) == "":
		return URI{}, notAURI(s, "a registered model's URI has a name and a version")
	case two && isNumber(suffix):
		return URI{Scheme: schemeModels, Name: name, Version: suffix}, nil
	case two && strings.EqualFold(suffix, "latest"):
		return URI{Scheme: schemeModels, Name: name}, nil
	case two:
		return URI{Scheme: schemeModels, Name: name, Stage: suffix}, nil
	}
	if i := strings.LastIndex(name, "@"); i >= 0 {
		alias := name[i+1:]
		if i == 0 || strings.TrimSpace(alias) == "" {
			return URI{}, notAURI(s, "a name stands before the @ and an alias after it")
		}
		return URI{Scheme: schemeModels, Name: name[:i], Alias: alias}, nil
	}
	if !strings.HasPrefix(name, "m-") {
		return URI{}, notAURI(s, fmt.Sprintf("it says no version; models:/%s/latest is the newest", name))
	}
	return URI{Scheme: schemeModels, ModelID: name}, nil
}

func isNumber(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}

func parseRuns(s, rest string) (URI, error) {
	id, path, _ := strings.Cut(strings.TrimLeft(rest, "/"), "/")
	if id == "" || !fs.ValidPath(path) || path == "." {
		return URI{}, notAURI(s, "runs:/ is followed by the run's id and the model's path in it")
	}
	return URI{Scheme: schemeRuns, RunID: id, Path: path}, nil
}

func parseArtifacts(s, rest string) (URI, error) {
	u := URI{Scheme: schemeArtifacts}
	if after, ok := strings.CutPrefix(rest, "//"); ok {
		u.Host, rest, _ = strings.Cut(after, "/")
	}
	u.Path = strings.Trim(rest, "/")
	if strings.Contains(u.Host, "@") || checkPath(u.Path) != nil || u.Path == "." {
		return URI{}, notAURI(s, "mlflow-artifacts:/ is followed by a path below the server's artifacts")
	}
	return u, nil
}

// String is the URI as MLflow writes it.
func (u URI) String() string {
	switch {
	case u.Scheme == schemeRuns:
		return "runs:/" + u.RunID + "/" + u.Path
	case u.Scheme == schemeArtifacts && u.Host != "":
		return "mlflow-artifacts://" + u.Host + "/" + u.Path
	case u.Scheme == schemeArtifacts:
		return "mlflow-artifacts:/" + u.Path
	case u.ModelID != "":
		return "models:/" + u.ModelID
	case u.Version != "":
		return "models:/" + u.Name + "/" + u.Version
	case u.Alias != "":
		return "models:/" + u.Name + "@" + u.Alias
	case u.Stage != "":
		return "models:/" + u.Name + "/" + u.Stage
	}
	return "models:/" + u.Name + "/latest"
}

// checkPath refuses names that could lead out of a directory, here or on the server.
func checkPath(p string) error {
	if !fs.ValidPath(p) || strings.ContainsAny(p, "\\\x00#") {
		return fmt.Errorf("%q is not a file name that is safe to use", p)
	}
	return nil
}
