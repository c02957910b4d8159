package gcp

import (
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// realGcloud leads to the gcloud that is installed here, without a login and with a configuration of its own.
func realGcloud(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("gcloud"); err != nil {
		t.Skip("no gcloud is installed here")
	}
	t.Setenv("CLOUDSDK_CONFIG", t.TempDir())
	t.Setenv("TERM", "dumb")
}

// The real gcloud sends the password to the API, and it is nowhere else: not in its log, not in its configuration.
func TestTheRealGcloudKeepsThePasswordToItself(t *testing.T) {
	realGcloud(t)
	const password = "S3cretOfTheDatabase"
	var sent string
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method == http.MethodPost {
			sent = r.URL.Path + " " + string(body)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"kind": "sql#operation", "name": "op", "status": "DONE"}`)
	}))
	defer api.Close()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("token"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CLOUDSDK_AUTH_ACCESS_TOKEN_FILE", token)
	t.Setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_SQL", api.URL+"/")

	complete, err := cloudSQL().Complete()
	if err != nil {
		t.Fatal(err)
	}
	step := complete.userStep()
	stdin, err := json.Marshal(map[string]string{"--password": password})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stdout, stderr, err := Gcloud(ctx, step.Do, stdin)
	if err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
	if !strings.Contains(sent, "/projects/my-project/instances/mlops/users ") || !strings.Contains(sent, `"password": "`+password+`"`) || !strings.Contains(sent, `"name": "mlflow"`) {
		t.Errorf("sent: %s", sent)
	}
	if said := string(stdout) + string(stderr); strings.Contains(said, password) {
		t.Errorf("gcloud said: %s", said)
	}
	err = filepath.WalkDir(os.Getenv("CLOUDSDK_CONFIG"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if strings.Contains(string(text), password) {
			t.Errorf("the password is in %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
