package oidc

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

func TestSettingsAreThoseOfThePythonPackage(t *testing.T) {
	const uri = "https://mlflow.example.com"
	const project = `
[project]
name = "iris"
[[tool.mlflow-oidc-client.tracking-servers]]
uri = "https://mlflow.example.com"
issuer = "https://first.example.com"
client-id = "first"
[[tool.mlflow-oidc-client.tracking-servers]]
issuer = "https://nobody.example.com"
[[tool.mlflow-oidc-client.tracking-servers]]
uri = "https://mlflow.example.com"
issuer = "https://login.example.com/"
client-id = "mlflow"
use-id-token = false
[[tool.mlflow-oidc-client.tracking-servers]]
uri = "https://mlflow.example.com/"
issuer = "https://slash.example.com"
client-id = "slash"
client-secret = "f1le"
interactive = 1
audience = "api"
`
	fromFile := Settings{Issuer: "https://login.example.com/", ClientID: "mlflow", RedirectURI: defaultRedirect, Scope: defaultScope, Audience: "mlflow",
		Interactive: true, From: "issuer of pyproject.toml"}
	both := map[string]string{issuerVariable: "https://login.example.com", clientVariable: "m"}
	public := Settings{Issuer: "https://login.example.com", ClientID: "m", RedirectURI: defaultRedirect, Scope: defaultScope, Audience: "m",
		Interactive: true, UseIDToken: true, From: issuerVariable}
	with := func(s Settings, change func(*Settings)) *Settings { change(&s); return &s }
	and := func(more ...string) map[string]string {
		env := map[string]string{issuerVariable: both[issuerVariable], clientVariable: both[clientVariable]}
		for i := 0; i < len(more); i += 2 {
			env[more[i]] = more[i+1]
		}
		return env
	}
	for name, c := range map[string]struct {
		project, uri string
		env          map[string]string
		want         *Settings
		fails        string
	}{
		"nothing":           {uri: uri},
		"of somebody else":  {uri: uri, env: map[string]string{redirectVariable: "http://127.0.0.1:1/", audienceVariable: "x"}},
		"another server":    {project: project, uri: "https://elsewhere.example.com"},
		"another project":   {project: "[tool.ruff]\nnot = toml = at all", uri: uri},
		"variables":         {uri: uri, env: both, want: &public},
		"the last block":    {project: project, uri: uri, want: &fromFile},
		"to the last slash": {project: project, uri: uri + "/", want: &Settings{Issuer: "https://slash.example.com", ClientID: "slash", ClientSecret: "f1le", RedirectURI: defaultRedirect, Scope: defaultScope, Audience: "api", Interactive: true, From: "issuer of pyproject.toml"}},
		"variables win": {project: project, uri: uri, env: map[string]string{clientVariable: "env", idTokenVariable: "YES", scopeVariable: "openid"},
			want: with(fromFile, func(s *Settings) { s.ClientID, s.Audience, s.UseIDToken, s.Scope = "env", "env", true, "openid" })},
		"secret":                  {uri: uri, env: and(secretVariable, "s3cret"), want: with(public, func(s *Settings) { s.ClientSecret, s.Interactive, s.UseIDToken = "s3cret", false, false })},
		"secret of file's":        {project: project, uri: uri, env: map[string]string{secretVariable: "s3cret"}, want: with(fromFile, func(s *Settings) { s.ClientSecret, s.Interactive = "s3cret", false })},
		"secret, and a browser":   {uri: uri, env: and(secretVariable, "s3cret", interactiveVariable, "1"), want: with(public, func(s *Settings) { s.ClientSecret, s.UseIDToken = "s3cret", false })},
		"not true":                {uri: uri, env: and(idTokenVariable, "on"), want: with(public, func(s *Settings) { s.UseIDToken = false })},
		"loopback":                {uri: uri, env: and(issuerVariable, "http://127.0.0.1:8080/realm"), want: with(public, func(s *Settings) { s.Issuer = "http://127.0.0.1:8080/realm" })},
		"no client":               {uri: uri, env: map[string]string{issuerVariable: "https://login.example.com"}, fails: "MLFLOW_TRACKING_OIDC_CLIENT_ID: it is not set"},
		"no issuer":               {uri: uri, env: map[string]string{clientVariable: "m"}, fails: "MLFLOW_TRACKING_OIDC_ISSUER: it is not set"},
		"secret alone":            {uri: uri, env: map[string]string{secretVariable: "s3cret", clientVariable: "m"}, fails: "MLFLOW_TRACKING_OIDC_ISSUER: it is not set"},
		"no secret, no browser":   {uri: uri, env: and(interactiveVariable, "false"), fails: "MLFLOW_TRACKING_OIDC_CLIENT_SECRET: it is not set"},
		"in the clear":            {uri: uri, env: and(issuerVariable, "http://login.example.com"), fails: "MLFLOW_TRACKING_OIDC_ISSUER: it is not the URL of a provider"},
		"with a password":         {uri: uri, env: and(issuerVariable, "https://u:s3cret@login.example.com"), fails: "MLFLOW_TRACKING_OIDC_ISSUER: it is not the URL of a provider"},
		"redirect elsewhere":      {uri: uri, env: and(redirectVariable, "http://example.com:80/"), fails: "MLFLOW_TRACKING_OIDC_REDIRECT_URI: it is not a place on this machine"},
		"redirect without a port": {uri: uri, env: and(redirectVariable, "http://localhost/"), fails: "MLFLOW_TRACKING_OIDC_REDIRECT_URI: it is not a place on this machine"},
		"redirect of machines": {uri: uri, env: and(redirectVariable, "none", secretVariable, "s3cret"), want: with(public, func(s *Settings) {
			s.RedirectURI, s.ClientSecret, s.Interactive, s.UseIDToken = "none", "s3cret", false, false
		})},
		"broken file":           {project: "[tool.mlflow-oidc-client]\nclient-secret = s3cret", uri: uri, fails: "pyproject.toml: it is not TOML: line 2"},
		"file of another shape": {project: "[tool]\nmlflow-oidc-client = 3", uri: uri},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if c.project != "" {
				if err := os.WriteFile(filepath.Join(dir, projectFile), []byte(c.project), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := SettingsFrom(func(name string) string { return c.env[name] }, dir, c.uri)
			if c.fails != "" {
				if failure.ClassOf(err) != failure.Invalid || !strings.Contains(err.Error(), c.fails) || strings.Contains(err.Error(), "s3cret") {
					t.Errorf("%v; want %s", err, c.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
