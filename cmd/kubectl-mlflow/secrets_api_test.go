//go:build api

package main

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRealSecretsAreNotShown looks for passwords, as they are and as Kubernetes writes them, in all that the verbs print, in their
// command lines, and in the files that they leave.
func TestRealSecretsAreNotShown(t *testing.T) {
	s := newStage(t).scene(t)
	const database, admin = "canary-database-4711", "canary-admin-4711-long-enough"
	files := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(files, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	given := []string{"--database-password-file", file("database", database), "--basic-auth", "--admin-password-file", file("admin", admin)}
	s.proxy.Kubelet.Log = func(_, container string) string {
		if container == "restore" {
			return "backup\tmlflow-20260102T000000Z\n"
		}
		return "2026-01-01T00:00:00Z hello\n"
	}
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	for _, c := range []struct {
		code int
		args []string
	}{
		{0, append([]string{"install", "--dry-run=server", "-o", "yaml"}, given...)},
		{0, append([]string{"install", "-o", "json", "--backup-schedule", "manual"}, given...)},
		{0, []string{"install", "-o", "yaml"}},
		{5, []string{"install", "--database-password-file", file("other", "canary-other-4711")}},
		{0, []string{"manifests"}},
		{0, []string{"diff"}},
		{0, []string{"status", "-o", "yaml"}},
		{0, []string{"logs"}},
		{0, []string{"wait"}},
		{0, []string{"backup"}},
		{0, []string{"restore", "latest", "--replace"}},
		{0, []string{"export", filepath.Join(files, "export")}},
		{0, []string{"uninstall"}},
	} {
		call := s.run(c.code, c.args...)
		for _, secret := range []string{"canary", base64.StdEncoding.EncodeToString([]byte(database)), base64.StdEncoding.EncodeToString([]byte(admin))} {
			for where, text := range map[string]string{"stdout": call.stdout.String(), "stderr": call.stderr.String(), "its arguments": strings.Join(call.cmd.Args, " ")} {
				if strings.Contains(text, secret) {
					t.Errorf("%v shows a password in %s:\n%s", c.args, where, text)
				}
			}
		}
	}
	found := s.controller.Portrait(t, s.namespace).Secrets
	if found["mlflow-secret/DB_PASSWORD"] != database {
		t.Errorf("the password that was given is not in use: there are %d secrets", len(found))
	}
	err := filepath.WalkDir(filepath.Join(files, "export"), func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if strings.Contains(string(content), "canary") {
			t.Errorf("the export has a password in %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	left, err := os.ReadDir(temporary)
	if err != nil || len(left) > 0 {
		t.Errorf("temporary files are left: %v, %v", left, err)
	}
}
