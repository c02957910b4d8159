//go:build real

package oidc

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// readSettings prints what mlflow-oidc-client makes of its environment and of pyproject.toml beside it, case by case.
const readSettings = `
import dataclasses, json, os, sys
from pathlib import Path
from mlflow_oidc_client.config import TrackingServerOIDCConfigError, read_settings
for line in sys.stdin:
    case = json.loads(line)
    for name in [n for n in os.environ if n.startswith("MLFLOW_TRACKING_OIDC_")]:
        del os.environ[name]
    os.environ.update(case["env"])
    try:
        print(json.dumps(dataclasses.asdict(read_settings(case["uri"], Path(case["file"])))))
    except TrackingServerOIDCConfigError:
        print("null")
`

// TestSettingsAreWhatThePythonPackageReads compares with mlflow-oidc-client itself, which KUBECTL_MLFLOW_TEST_OIDC_PYTHON has.
func TestSettingsAreWhatThePythonPackageReads(t *testing.T) {
	python := os.Getenv("KUBECTL_MLFLOW_TEST_OIDC_PYTHON")
	if python == "" {
		t.Fatal("KUBECTL_MLFLOW_TEST_OIDC_PYTHON: an interpreter with mlflow-oidc-client")
	}
	const uri = "https://mlflow.example.com"
	block := func(lines string) string {
		return "[[tool.mlflow-oidc-client.tracking-servers]]\nuri = \"" + uri + "\"\n" + lines + "\n"
	}
	both := "issuer = \"https://login.example.com\"\nclient-id = \"m\"\n"
	type question struct {
		Env  map[string]string `json:"env"`
		URI  string            `json:"uri"`
		File string            `json:"file"`
	}
	var questions []question
	ask := func(project string, env map[string]string) {
		file := filepath.Join(t.TempDir(), projectFile)
		if err := os.WriteFile(file, []byte(project), 0o600); err != nil {
			t.Fatal(err)
		}
		if env == nil {
			env = map[string]string{}
		}
		questions = append(questions, question{env, uri, file})
	}
	ask(block(both), nil)
	ask(block(both)+block("issuer = \"https://last.example.com\"\nclient-id = \"last\""), nil)
	ask(strings.Replace(block(both), uri, uri+"/", 1), nil)
	ask(block(both+"client-secret = \"f1le\"\naudience = \"api\"\nscope = \"openid\"\nredirect-uri = \"http://localhost:1/x\""), nil)
	ask(block("issuer = \"https://login.example.com\""), nil)
	ask(block("client-id = \"m\""), map[string]string{issuerVariable: "https://env.example.com"})
	ask("", map[string]string{issuerVariable: "https://env.example.com", clientVariable: "m", secretVariable: "s3cret"})
	ask(block(both), map[string]string{
		issuerVariable: "https://env.example.com", clientVariable: "env", secretVariable: "s3cret", redirectVariable: "http://127.0.0.1:2/", scopeVariable: "a b",
		audienceVariable: "aud",
	})
	for _, value := range []string{"true", "True", "YES", "1", "false", "no", "0", "on", "2"} {
		ask(block(both), map[string]string{secretVariable: "s3cret", interactiveVariable: value, idTokenVariable: value})
		ask(block(both+"client-secret = \"f1le\"\ninteractive = \""+value+"\"\nuse-id-token = \""+value+"\""), nil)
	}
	for _, value := range []string{"true", "false", "1", "0", "\"\""} {
		ask(block(both+"client-secret = \"f1le\"\ninteractive = "+value+"\nuse-id-token = "+value), nil)
	}

	var in strings.Builder
	for _, q := range questions {
		line, err := json.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		in.Write(append(line, '\n'))
	}
	cmd := exec.CommandContext(t.Context(), python, "-c", readSettings)
	cmd.Stdin, cmd.Stderr = strings.NewReader(in.String()), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != len(questions) {
		t.Fatalf("%d answers to %d questions: %s", len(lines), len(questions), out)
	}
	for i, q := range questions {
		var want *struct {
			Issuer       string  `json:"issuer"`
			ClientID     string  `json:"client_id"`
			ClientSecret *string `json:"client_secret"`
			RedirectURI  string  `json:"redirect_uri"`
			Scope        string  `json:"scope"`
			Audience     string  `json:"audience"`
			Interactive  bool    `json:"interactive"`
			UseIDToken   bool    `json:"use_id_token"`
		}
		if err := json.Unmarshal([]byte(lines[i]), &want); err != nil {
			t.Fatal(err)
		}
		got, err := SettingsFrom(func(name string) string { return q.Env[name] }, filepath.Dir(q.File), q.URI)
		if want == nil {
			if got != nil {
				t.Errorf("%+v: %+v, and Python fails", q, got)
			}
			continue
		}
		if err != nil {
			t.Errorf("%+v: %v", q, err)
			continue
		}
		wanted := Settings{
			Issuer: want.Issuer, ClientID: want.ClientID, RedirectURI: want.RedirectURI, Scope: want.Scope, Audience: want.Audience,
			Interactive: want.Interactive, UseIDToken: want.UseIDToken, From: got.From,
		}
		if want.ClientSecret != nil {
			wanted.ClientSecret = *want.ClientSecret
		}
		if *got != wanted {
			t.Errorf("%+v:\n%+v, in Python\n%+v", q, *got, wanted)
		}
	}
	t.Logf("%d settings are the same", len(questions))
}
