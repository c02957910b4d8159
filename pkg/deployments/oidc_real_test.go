//go:build real

package deployments

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/tracking"
	"github.com/kubectl-mlflow/kubectl-mlflow/test/kit"
)

// TestAModelIsFoundInARealServerBehindAProvider resolves a version as deploy does, in an MLflow with the plugin mlflow-oidc-auth, which
// asks a real provider's keys whether a token is good. KUBECTL_MLFLOW_TEST_OIDC_PYTHON is an interpreter with both.
func TestAModelIsFoundInARealServerBehindAProvider(t *testing.T) {
	issuer := kit.Provider(t)
	server := startBehind(t, issuer)
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	env := map[string]string{
		"MLFLOW_TRACKING_OIDC_ISSUER": issuer, "MLFLOW_TRACKING_OIDC_CLIENT_ID": kit.MachineClient, "MLFLOW_TRACKING_OIDC_CLIENT_SECRET": kit.MachineSecret,
	}
	s := newStage()
	client := s.client()
	client.getenv = variables(env)
	client.track = func(at serverAt) source {
		s.at = at
		return tracking.New(at.url, at.transport)
	}
	src, closer, err := client.connect(t.Context(), Request{TrackingURI: server}, step{s})
	if err != nil {
		t.Fatal(err)
	}
	defer closer()

	// What a user who trains a model does, with the same login.
	var run struct {
		Run struct {
			Info struct {
				ID       string `json:"run_id"`
				Artifact string `json:"artifact_uri"`
			} `json:"info"`
		} `json:"run"`
	}
	post(t, s.at, "runs/create", map[string]any{"experiment_id": "0"}, &run)
	post(t, s.at, "registered-models/create", map[string]any{"name": "iris"}, nil)
	post(t, s.at, "model-versions/create", map[string]any{"name": "iris", "run_id": run.Run.Info.ID, "source": run.Run.Info.Artifact + "/model"}, nil)

	uri, err := tracking.ParseURI("models:/iris/1")
	if err != nil {
		t.Fatal(err)
	}
	version, err := src.Resolve(t.Context(), uri)
	if err != nil || version.Source != run.Run.Info.Artifact+"/model" {
		t.Fatalf("%+v, %v; want the source %s", version, err, run.Run.Info.Artifact)
	}
	t.Logf("models:/iris/1 is %+v", version)

	// A kept token that the server does not take is renewed, as where the provider has changed its keys.
	kept, err := filepath.Glob(filepath.Join(os.Getenv("XDG_CACHE_HOME"), "kubectl-mlflow", "oidc", "*.json"))
	if err != nil || len(kept) != 1 {
		t.Fatalf("%q, %v", kept, err)
	}
	if err := os.WriteFile(kept[0], []byte(`{"token_type": "Bearer", "access_token": "of.another.time"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	src, closer, err = client.connect(t.Context(), Request{TrackingURI: server}, step{s})
	if err != nil {
		t.Fatal(err)
	}
	defer closer()
	if _, err := src.Resolve(t.Context(), uri); err != nil {
		t.Errorf("the token is not renewed: %v", err)
	}

	// A token for nobody there is refused, and so is nobody.
	env["MLFLOW_TRACKING_TOKEN"] = "of.another.time"
	src, closer, err = client.connect(t.Context(), Request{TrackingURI: server}, step{s})
	if err != nil {
		t.Fatal(err)
	}
	defer closer()
	if _, err := src.Resolve(t.Context(), uri); failure.ClassOf(err) != failure.Forbidden {
		t.Errorf("%v", err)
	}
}

func post(t *testing.T, at serverAt, path string, in, out any) {
	t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, at.url.JoinPath("api/2.0/mlflow", path).String(), bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := at.transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s, %v", path, resp.Status, text, err)
	}
	if out != nil {
		if err := json.Unmarshal(text, out); err != nil {
			t.Fatal(err)
		}
	}
}

// startBehind runs an MLflow that takes tokens of issuer for its machine client, and returns its URL when it answers.
func startBehind(t *testing.T, issuer string) string {
	t.Helper()
	python := os.Getenv("KUBECTL_MLFLOW_TEST_OIDC_PYTHON")
	if python == "" {
		t.Fatal("KUBECTL_MLFLOW_TEST_OIDC_PYTHON: an interpreter with mlflow and mlflow-oidc-auth")
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // of a TCP listener
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	cmd := exec.Command(python, "-m", "mlflow", "server", "--app-name", "oidc-auth", "--host", "127.0.0.1", "--port", fmt.Sprint(port), "--workers", "1", //nolint:noctx // it is stopped below
		"--backend-store-uri", "sqlite:///"+work+"/mlflow.db", "--artifacts-destination", work+"/artifacts")
	cmd.Env = append(os.Environ(), "MLFLOW_DISABLE_TELEMETRY=true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false", "SECRET_KEY=of-a-test", "OIDC_USERS_DB_URI=sqlite:///"+work+"/users.db",
		"OIDC_DISCOVERY_URL="+issuer+"/.well-known/openid-configuration", "OIDC_ISSUER="+issuer, "OIDC_AUDIENCE="+kit.MachineClient,
		"OIDC_CLIENT_ID="+kit.NativeClient, "OIDC_CLIENT_SECRET=unused", "OIDC_USERNAME_FIELD=sub", "OIDC_DISPLAY_NAME_FIELD=sub",
		"OIDC_PROVISION_ON_BEARER_AUTH=true", "OIDC_TRUST_BEARER_GROUP_CLAIMS=true")
	cmd.Dir = work
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // it starts others
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	var stopped error
	go func() {
		stopped = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // nothing of it is kept
		<-ended
		if t.Failed() {
			t.Logf("%s", &log)
		}
	})
	url := fmt.Sprintf("http://127.0.0.1:%d", port)
	poll := time.NewTicker(200 * time.Millisecond)
	defer poll.Stop()
	for patience := time.After(3 * time.Minute); ; {
		select {
		case <-ended:
			t.Fatalf("the server ended: %v", stopped)
		case <-patience:
			t.Fatal("the server does not answer")
		case <-poll.C:
		}
		resp, err := http.Get(url + "/health") //nolint:noctx,gosec // of this machine
		if err != nil {
			continue
		}
		_ = resp.Body.Close() // its status says it
		if resp.StatusCode == http.StatusOK {
			return url
		}
	}
}
