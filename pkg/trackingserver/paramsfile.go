package trackingserver

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// EnvFile is the text of a file of KEY=VALUE lines, as the guide's config.env and params.env are.
type EnvFile struct {
	Name string // for people to find it by
	Text string
}

// The guide's names that are no keys of the table.
const (
	overlayKey       = "OVERLAY"
	bucketKey        = "BUCKET_NAME_MLFLOW"
	projectKey       = "PROJECT_ID"
	accountKey       = "MLFLOW_SERVICE_ACCOUNT_ID"
	proxyAccountKey  = "MLFLOW_CLOUDSQL_SERVICE_ACCOUNT_ID"
	passwordKey      = "DB_PASSWORD"
	artifactsKey     = "DEFAULT_ARTIFACT_ROOT"
	serviceAccountAt = ".iam.gserviceaccount.com"
)

// settled are keys of the guide's config.env whose values the overlays settle, with those that they may have here.
func settled() map[string][]string {
	return map[string][]string{
		"DB_DIALECT": {"postgresql", "postgresql+psycopg2"},
		"DB_HOST":    {"postgres", "mlflow-cloudsql-proxy", "127.0.0.1", "localhost"},
		"DB_PORT":    {"5432"},
	}
}

// setting is one line of an env file.
type setting struct {
	key, value, file string
	line             int
}

func (s setting) where() string { return fmt.Sprintf("%s, line %d", s.file, s.line) }

func (s setting) wrong(hint, format string, a ...any) error {
	return &failure.Error{Class: failure.Invalid, Reason: "ParamsFile", Object: s.where(), Message: fmt.Sprintf(format, a...), Hint: hint}
}

// WithFiles returns p, with the files' values where p says nothing; a later file wins over an earlier one. The notes tell where a key
// becomes something else than its name says. failure.Invalid names file and line.
func (p Parameters) WithFiles(files ...EnvFile) (with Parameters, notes []string, err error) {
	said := map[string]setting{}
	for _, file := range files {
		settings, err := parseEnv(file)
		if err != nil {
			return p, nil, err
		}
		maps.Copy(said, settings)
	}
	if s, ok := said[overlayKey]; ok {
		if !slices.Contains(Overlays(), s.value) {
			return p, nil, s.wrong("choose one of: "+strings.Join(Overlays(), ", "), "there is no overlay %q", s.value)
		}
		if p.Overlay == "" {
			p.Overlay = s.value
		}
		delete(said, overlayKey)
	}
	if notes, err = fromShell(said); err != nil {
		return p, nil, err
	}
	more, err := p.take(said)
	if err != nil {
		return p, nil, err
	}
	return p, append(notes, more...), nil
}

// take sets what p leaves open.
func (p *Parameters) take(said map[string]setting) (notes []string, err error) {
	for _, row := range p.table() {
		s, ok := said[row.key]
		if !ok {
			continue
		}
		delete(said, row.key)
		if err := row.valid(s.value); err != nil {
			return nil, s.wrong(err.Error(), "%s %q is not valid", s.key, s.value)
		}
		if *row.value != "" {
			continue
		}
		if p.asItIs(row, s) {
			notes = append(notes, fmt.Sprintf("%s of %s is left out: overlay %s has just that", s.key, s.file, p.Overlay))
			continue
		}
		*row.value = s.value
		if s.key == artifactsKey {
			notes = append(notes, fmt.Sprintf("%s of %s becomes %s", s.key, s.file, row.flag))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(said)) {
		s := said[key]
		allowed, ok := settled()[key]
		switch {
		case key == projectKey:
		case !ok:
			return nil, s.wrong("its keys may be: "+strings.Join(fileKeys(), ", "), "there is no key %s", key)
		case !slices.Contains(allowed, s.value):
			return nil, s.wrong("leave it out, or write "+strings.Join(allowed, " or "), "%s is settled by the overlay, and %q is not what MLflow gets", key, s.value)
		default:
			notes = append(notes, fmt.Sprintf("%s of %s is left out: the overlay settles it", key, s.file))
		}
	}
	return notes, nil
}

// asItIs tells of a value that is no parameter of the overlay, but what the guide's config.env says there as much as ours.
func (p *Parameters) asItIs(row parameter, s setting) bool {
	inManifests := map[string]string{"DB_NAME": "mlflowdb", "DB_USER": "mlflow"}
	return p.Overlay != "" && row.overlays != nil && !slices.Contains(row.overlays, p.Overlay) && inManifests[s.key] == s.value
}

// fromShell turns the guide's shell variables into the table's keys, where those are not said.
func fromShell(said map[string]setting) (notes []string, err error) {
	for _, shell := range []struct{ key, becomes string }{
		{bucketKey, artifactsKey}, {accountKey, "MLFLOW_SERVICE_ACCOUNT"}, {proxyAccountKey, "MLFLOW_CLOUDSQL_SERVICE_ACCOUNT"},
	} {
		s, ok := said[shell.key]
		delete(said, shell.key)
		if _, known := said[shell.becomes]; !ok || known {
			continue
		}
		value := "gs://" + strings.TrimPrefix(s.value, "gs://")
		if shell.key != bucketKey {
			project := said[projectKey].value
			if project == "" && !strings.Contains(s.value, "@") {
				return nil, s.wrong("add "+projectKey+"=…, or write "+shell.becomes+"=NAME@PROJECT"+serviceAccountAt, "%s says no project", s.key)
			}
			if value = s.value; !strings.Contains(value, "@") {
				value += "@" + project + serviceAccountAt
			}
		}
		notes = append(notes, fmt.Sprintf("%s of %s becomes %s=%s", s.key, s.file, shell.becomes, value))
		s.value = value
		said[shell.becomes] = s
	}
	return notes, nil
}

// fileKeys are those that a file may have.
func fileKeys() []string {
	keys := []string{overlayKey, bucketKey, projectKey, accountKey, proxyAccountKey}
	var p Parameters
	for _, row := range p.table() {
		keys = append(keys, row.key)
	}
	slices.Sort(keys)
	return keys
}

// parseEnv reads lines of KEY=VALUE, as kustomize, shells and editors of other systems write them. A key without a value says nothing.
func parseEnv(file EnvFile) (map[string]setting, error) {
	said, seen := map[string]setting{}, map[string]setting{}
	name := filepath.Base(file.Name)
	for i, line := range strings.Split(strings.TrimPrefix(file.Text, "\ufeff"), "\n") {
		s := setting{file: name, line: i + 1}
		line = strings.TrimSpace(line) // of a carriage return too
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if rest, exported := strings.CutPrefix(key, "export "); exported {
			key = rest
		}
		s.key = strings.TrimSpace(key)
		if !ok || s.key == "" || strings.ContainsAny(s.key, " \t") {
			return nil, s.wrong("write KEY=VALUE, one a line; # in front of a comment", "it is no KEY=VALUE")
		}
		if s.value, ok = unquote(strings.TrimSpace(value)); !ok {
			return nil, s.wrong("write the value on one line, without quotes or with the same quote on both sides", "the quotes around the value of %s do not match", s.key)
		}
		if s.key == passwordKey && s.value != "" {
			return nil, s.wrong("remove the line; give the password in a file of its own with --database-password-file, or in a Secret with --database-secret",
				"%s is a secret, and what this file says is recorded for all to read", s.key)
		}
		if first, twice := seen[s.key]; twice && first.value != s.value {
			return nil, s.wrong("keep one of the two lines", "%s has another value in line %d", s.key, first.line)
		}
		if seen[s.key] = s; s.value != "" {
			said[s.key] = s
		}
	}
	return said, nil
}

// unquote takes away a pair of quotes around value. It is false where one stands alone.
func unquote(value string) (string, bool) {
	for _, quote := range []string{`"`, `'`} {
		rest, opened := strings.CutPrefix(value, quote)
		if !opened {
			continue
		}
		rest, closed := strings.CutSuffix(rest, quote)
		return rest, closed && !strings.Contains(rest, quote)
	}
	return value, !strings.HasSuffix(value, `"`) && !strings.HasSuffix(value, `'`)
}
