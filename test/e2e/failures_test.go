//go:build e2e

package e2e

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// failures are the ways in which the main job goes wrong most often. Each has its exit code, names its object and
// what to do next, and leaves the cluster as it was.
func failures(t *testing.T, l *lab) {
	uri := deployed(t, l)
	readOnly := readOnlyRegistry(t)
	nowhere := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(nowhere, []byte(`{"apiVersion": "v1", "kind": "Config", "current-context": "gone",
"clusters": [{"name": "gone", "cluster": {"server": "https://127.0.0.1:1"}}],
"contexts": [{"name": "gone", "context": {"cluster": "gone"}}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	writable := l.deployFlags(l.Registry + "/models/iris")
	for _, c := range []struct {
		name string
		env  []string
		args []string
		code int
		want []string // in stderr
	}{
		{"no cluster", []string{"KUBECONFIG=" + nowhere}, []string{"install"}, 4, []string{"127.0.0.1:1", "hint:"}},
		{"wrong context", nil, []string{"install", "--context", "nope"}, 2, []string{"nope", "hint:"}},
		{"deploy: no cluster", []string{"KUBECONFIG=" + nowhere}, append([]string{"deploy", "iris", uri}, writable...), 4, []string{"127.0.0.1:1", "hint:"}},
		{"deploy: wrong context", nil, append([]string{"deploy", "iris", uri, "--context", "nope"}, writable...), 2, []string{"nope", "hint:"}},
		{"deploy: repository not writable", nil, append([]string{"deploy", "iris", uri}, l.deployFlags(readOnly+"/models/iris")...), 6, []string{readOnly + "/models/iris", "hint:"}},
		{"deploy: no such version", nil, append([]string{"deploy", "iris", "models:/iris/999"}, writable...), 2, []string{"models:/iris/999", "hint:"}},
		{"deploy: no such model", nil, append([]string{"deploy", "iris", "models:/irsi/1"}, writable...), 2, []string{"models:/irsi/1", "iris", "hint:"}},
		{"deploy: not a model URI", nil, append([]string{"deploy", "iris", "iris"}, writable...), 2, []string{"models:/", "hint:"}},
		// Where no other deployment is, whose repository it would share.
		{"deploy: no repository", nil, []string{"deploy", "fresh", uri, "--namespace", "kube-public"}, 2, []string{"--image-repository", "hint:"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := l.written(t)
			l.refused(t, c.env, c.args, c.code, c.want)
			if after := l.written(t); after != before {
				t.Errorf("the cluster was changed:\nbefore:\n%s\nafter:\n%s", before, after)
			}
		})
	}
	t.Run("deploy: no Knative", func(t *testing.T) { noKnative(t, l, uri) })
}

// refused runs the plugin and expects a failure that explains itself on stderr and prints nothing on stdout.
func (l *lab) refused(t *testing.T, env, args []string, code int, want []string) {
	t.Helper()
	r := l.run(t, env, filepath.Join(l.root, "bin/kubectl-mlflow"), args...)
	if r.code != code {
		t.Errorf("exit code %d, want %d", r.code, code)
	}
	if r.stdout != "" {
		t.Errorf("stdout is %q, want nothing: it is for data", r.stdout)
	}
	for _, text := range append([]string{"error:"}, want...) {
		if !strings.Contains(r.stderr, text) {
			t.Errorf("stderr lacks %q:\n%s", text, r.stderr)
		}
	}
}

// readOnlyRegistry is a registry whose every upload is denied, as for a user with pull rights only.
func readOnlyRegistry(t *testing.T) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/v2/":
		case r.Method == http.MethodGet, r.Method == http.MethodHead:
			http.NotFound(w, r)
		default:
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(`{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}`))
		}
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// noKnative deploys to a cluster that has no Knative: the lab's small profile, an API server alone.
func noKnative(t *testing.T, l *lab, uri string) {
	program := filepath.Join(l.root, "bin/lab")
	name := "e2e-no-knative"
	up := exec.CommandContext(t.Context(), program, "up", "--profile", "api", "--name", name)
	if out, err := up.CombinedOutput(); err != nil {
		t.Fatalf("lab up --profile api: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command(program, "down", "--profile", "api", "--name", name).CombinedOutput(); err != nil {
			t.Errorf("lab down --profile api: %v\n%s", err, out)
		}
	})
	kubeconfig, err := exec.CommandContext(t.Context(), program, "kubeconfig", "--profile", "api", "--name", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"KUBECONFIG=" + strings.TrimSpace(string(kubeconfig)), "MLFLOW_TRACKING_URI=" + l.forward(t)}
	l.refused(t, env, append([]string{"deploy", "iris", uri}, l.deployFlags(l.Registry+"/models/iris")...), 4, []string{"Knative", "hint:"})
}
