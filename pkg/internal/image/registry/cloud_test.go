package registry

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
)

func TestHintsOfProviders(t *testing.T) {
	for repository, c := range map[string]struct{ login, create string }{
		"123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/models": {
			"aws ecr get-login-password --region eu-west-1 | kubectl mlflow registry login 123456789012.dkr.ecr.eu-west-1.amazonaws.com --password-stdin --username AWS",
			"aws ecr create-repository --region eu-west-1 --repository-name team/models",
		},
		"123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com/models": {"aws ecr get-login-password --region us-gov-west-1 |", "aws ecr create-repository --region us-gov-west-1"},
		"europe-west4-docker.pkg.dev/my-project/ml/iris": {
			"gcloud auth print-access-token | kubectl mlflow registry login europe-west4-docker.pkg.dev --password-stdin --username oauth2accesstoken",
			"gcloud artifacts repositories create ml --repository-format docker --location europe-west4 --project my-project",
		},
		"eu.gcr.io/my-project/iris":     {"gcloud auth print-access-token |", "create the repository my-project/iris in eu.gcr.io first"},
		"myteam.azurecr.io/models":      {"az acr login --name myteam --expose-token", "create the repository models"},
		"ghcr.io/team/models":           {"gh auth token | kubectl mlflow registry login ghcr.io", "create the repository team/models"},
		"registry.example.com/models":   {"log in: kubectl mlflow registry login registry.example.com --username USER", "create the repository models"},
		"dkr.ecr.amazonaws.com.evil.io": {"kubectl mlflow registry login index.docker.io", "create the repository"},
	} {
		repo := repositoryNamed(t, repository)
		if got := loginHint(repo.RegistryStr()); !strings.Contains(got, c.login) {
			t.Errorf("%s: %q", repository, got)
		}
		if got := createHint(repo); !strings.Contains(got, c.create) {
			t.Errorf("%s: %q", repository, got)
		}
	}
}

// credentialsOf is as whom a registry is asked by those who have stored nothing.
func credentialsOf(t *testing.T, s *stored, repository string) string {
	t.Helper()
	auth, err := authn.Resolve(t.Context(), s, repositoryNamed(t, repository))
	if err != nil {
		t.Fatal(err)
	}
	config, err := authn.Authorization(t.Context(), auth)
	if err != nil {
		t.Fatal(err)
	}
	return config.Username + ":" + config.Password + config.IdentityToken
}

func TestProvidersHelpersAreFound(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the helpers are shell scripts")
	}
	bin := t.TempDir()
	t.Setenv("PATH", bin+string(filepath.ListSeparator)+os.Getenv("PATH"))
	var said []string
	s := &stored{
		getenv: func(name string) string { return map[string]string{"DOCKER_CONFIG": bin}[name] },
		say:    func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) },
	}
	const amazon, azure = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/models", "myteam.azurecr.io/models"
	for _, repository := range []string{amazon, azure, "registry.example.com/models"} {
		if got := credentialsOf(t, s, repository); got != ":" {
			t.Errorf("%s without a helper: %q", repository, got)
		}
	}
	write := func(program, script string) {
		if err := os.WriteFile(filepath.Join(bin, program), []byte("#!/bin/sh\n"+script), 0o700); err != nil { //nolint:gosec // a program
			t.Fatal(err)
		}
	}
	write("docker-credential-ecr-login", `read -r host; echo "{\"Username\": \"AWS\", \"Secret\": \"for $host\"}"`)
	write("docker-credential-acr-env", `cat >/dev/null; echo '{"Username": "<token>", "Secret": "refresh"}'`)
	if got := credentialsOf(t, s, amazon); got != "AWS:for 123456789012.dkr.ecr.eu-west-1.amazonaws.com" {
		t.Errorf("Amazon's: %q", got)
	}
	if got := credentialsOf(t, s, azure); got != ":refresh" {
		t.Errorf("Azure's: %q", got)
	}
	if got := credentialsOf(t, s, "registry.example.com/models"); got != ":" || len(said) > 0 {
		t.Errorf("another's: %q, said %q", got, said)
	}
	write("docker-credential-ecr-login", "cat >/dev/null; echo no AWS credentials; exit 1")
	for range 2 {
		if got := credentialsOf(t, s, amazon); got != ":" || len(said) != 1 || !strings.Contains(said[0], "no AWS credentials") {
			t.Errorf("a helper that has none: %q, said %q", got, said)
		}
	}
}

// Google's own library makes the token; the token service is a double.
func TestGooglesDefaultCredentialsAreFound(t *testing.T) {
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"access_token": "ya29", "token_type": "Bearer", "expires_in": 3600}`))
	}))
	t.Cleanup(tokens.Close)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	account, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": "ci@my-project.iam.gserviceaccount.com", "token_uri": tokens.URL,
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})),
	})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "account.json")
	if err := os.WriteFile(path, account, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", path)
	s := &stored{getenv: func(name string) string { return map[string]string{"DOCKER_CONFIG": dir}[name] }, say: t.Logf}
	const ours = "europe-west4-docker.pkg.dev/my-project/ml/iris"
	for _, repository := range []string{ours, "eu.gcr.io/my-project/iris"} {
		if got := credentialsOf(t, s, repository); got != "_token:ya29" {
			t.Errorf("%s: %q", repository, got)
		}
	}
	if got := credentialsOf(t, s, "registry.example.com/models"); got != ":" {
		t.Errorf("another host gets %q", got)
	}
	// What the user has stored comes first.
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(`{"auths": {"europe-west4-docker.pkg.dev": {"auth": "Ym9iOmh1bnRlcjI="}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := credentialsOf(t, s, ours); got != "bob:hunter2" {
		t.Errorf("with a login: %q", got)
	}
}
