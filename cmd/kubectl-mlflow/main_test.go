package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"
)

// TestMain lets the test binary be the program when it is called by the program's name: what the stories run is what ships.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"kubectl-mlflow":          main,
		"kubectl_complete-mlflow": main,
		"gcloud":                  gcloudDouble,
	})
}

// TestScript runs the stories: arguments in; standard output, standard error and exit code out. Those with [api] run where
// KUBECTL_MLFLOW_TEST_KUBECONFIG names the kubeconfig of a kube-apiserver that may be written to.
func TestScript(t *testing.T) {
	kubeconfig := os.Getenv("KUBECTL_MLFLOW_TEST_KUBECONFIG")
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "bob" || password != "hunter2" {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	t.Cleanup(registry.Close) // after the stories, which run beside each other
	tracking := httptest.NewServer(http.HandlerFunc(trackingDouble))
	t.Cleanup(tracking.Close)
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE_GOLDEN") == "1",
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", filepath.Join(e.WorkDir, "home"))
			e.Setenv("API_KUBECONFIG", kubeconfig)
			e.Setenv("REGISTRY", strings.TrimPrefix(registry.URL, "http://"))
			e.Setenv("TRACKING", tracking.URL)
			e.Setenv("STORAGE_CLASS", storyClass)
			if err := makeStoryClass(kubeconfig); err != nil {
				return err
			}
			e.Setenv("NAMESPACE", "story-"+strconv.FormatInt(time.Now().UnixNano(), 36))
			return os.Mkdir(filepath.Join(e.WorkDir, "home"), 0o750)
		},
		Condition: func(cond string) (bool, error) {
			if cond == "api" {
				return kubeconfig != "", nil
			}
			return false, errors.New("unknown condition")
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
	})
}

// trackingDouble is a tracking server with two registered models, for those who send the password.
func trackingDouble(w http.ResponseWriter, r *http.Request) {
	answers := map[string]string{
		"/api/2.0/mlflow/registered-models/search": `{"registered_models": [{"name": "iris"}, {"name": "iris-large"}, {"name": "$(rm -rf ~)"},
			{"name": "greeting", "tags": [{"key": "mlflow.prompt.is_prompt", "value": "true"}]}]}`,
		"/api/2.0/mlflow/registered-models/get": `{"registered_model": {"name": "iris", "aliases": [{"alias": "champion", "version": "2"}]}}`,
		"/api/2.0/mlflow/model-versions/search": `{"model_versions": [{"name": "iris", "version": "2"}, {"name": "iris", "version": "11"}]}`,
	}
	if _, password, _ := r.BasicAuth(); password != "hunter2" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	answer, ok := answers[r.URL.Path]
	if !ok {
		w.WriteHeader(http.StatusNotFound)
	}
	_, _ = w.Write([]byte(answer))
}

// storyClass is a storage class that gives no volumes, and not the default: other tests are about a cluster that has none.
const storyClass = "kubectl-mlflow-test"

func makeStoryClass(kubeconfig string) error {
	if kubeconfig == "" {
		return nil
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	class := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": map[string]any{"name": storyClass}, "provisioner": "kubernetes.io/no-provisioner",
	}}
	_, err = client.Resource(schema.GroupVersionResource{Group: "storage.k8s.io", Version: "v1", Resource: "storageclasses"}).
		Create(context.Background(), class, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// exits is `exits CODE PROGRAM ARGUMENT...`: exec, but with a certain exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGUMENT...")
	}
	want, err := strconv.Atoi(args[0])
	if err != nil {
		ts.Fatalf("exits: %v", err)
	}
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%s: %v", args[1], err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// TestInterrupt stops the program in the middle of a request that is never answered.
func TestInterrupt(t *testing.T) {
	var config net.ListenConfig
	silent, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			server := "http://" + silent.Addr().String()
			cmd := exec.CommandContext(ctx, "kubectl-mlflow", "install", "--server", server, "--token", "s3cret")
			cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool { return len(kv) > 4 && kv[:4] == "KUBE" })
			cmd.Env = append(cmd.Env, "HOME="+t.TempDir())
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			connection, err := silent.Accept() // by now it waits for the answer
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = connection.Close() })
			began := time.Now()
			if err := cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait() // the exit code is looked at below
			if took := time.Since(began); took > time.Second {
				t.Errorf("it took %s to end", took)
			}
			if code := cmd.ProcessState.ExitCode(); code != 130 {
				t.Errorf("exit code %d, want 130", code)
			}
			want := "interrupted: what was applied stays on the cluster; to go on: kubectl mlflow install --server " + server + " --token ...\n"
			if stderr.String() != want {
				t.Errorf("stderr %q, want %q", stderr.String(), want)
			}
			if stdout.Len() > 0 {
				t.Errorf("stdout %q, want nothing", stdout.String())
			}
		})
	}
}

func TestArguments(t *testing.T) {
	for _, c := range []struct{ argv, want []string }{
		{[]string{"/usr/bin/kubectl-mlflow", "install"}, []string{"install"}},
		{[]string{"kubectl_complete-mlflow", "install", ""}, []string{"__complete", "install", ""}},
		{[]string{"./kubectl_complete-mlflow.exe"}, []string{"__complete"}},
		{[]string{"kubectl-mlflow"}, []string{}},
	} {
		if got := arguments(c.argv); !slices.Equal(got, c.want) {
			t.Errorf("arguments(%q) = %q, want %q", c.argv, got, c.want)
		}
	}
}
