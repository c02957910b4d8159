//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// installed is an MLflow in a namespace of its own, beside the story's. The namespace and all in it go after the test, which does not
// wait for it: pods take their time.
type installed struct {
	*lab
	namespace string
	url       string // where clients find it; "" is by kubectl mlflow port-forward
}

func (l *lab) namespace(t *testing.T, name string) *installed {
	t.Helper()
	n := &installed{lab: l, namespace: name}
	n.remove(t) // what an earlier run left
	t.Cleanup(func() {
		if t.Failed() {
			n.look(t)
		}
		if os.Getenv("KUBECTL_MLFLOW_TEST_KEEP") == "" {
			n.abandon(t)
		}
	})
	return n
}

// remove comes back when the namespace is gone.
func (n *installed) remove(t *testing.T) {
	t.Helper()
	n.lab.kubectl(t, "delete", "namespace", n.namespace, "--ignore-not-found", "--timeout=6m")
}

// abandon lets the namespace go in its own time: nobody installs into it again.
func (n *installed) abandon(t *testing.T) {
	t.Helper()
	n.lab.kubectl(t, "delete", "namespace", n.namespace, "--ignore-not-found", "--wait=false")
}

// create makes the namespace beforehand, as an administrator does who enforces the strictest Pod Security.
func (n *installed) create(t *testing.T) {
	t.Helper()
	n.lab.kubectl(t, "create", "namespace", n.namespace)
	n.lab.kubectl(t, "label", "namespace", n.namespace, "pod-security.kubernetes.io/enforce=restricted", "pod-security.kubernetes.io/warn=restricted")
}

// look shows what a person would look at after a failure.
func (n *installed) look(t *testing.T) {
	t.Helper()
	for _, args := range [][]string{
		{"get", "all,pvc", "-o", "wide"},
		{"get", "events", "--sort-by=.lastTimestamp"},
		{"logs", "-l", "app.kubernetes.io/part-of=mlflow", "--all-containers", "--prefix", "--tail=20"},
	} {
		n.run(t, nil, n.Kubectl, append([]string{"-n", n.namespace}, args...)...)
	}
}

// addon brings one of the lab's addons into the cluster.
func (l *lab) addon(t *testing.T, name string) {
	t.Helper()
	if r := l.run(t, nil, filepath.Join(l.root, "bin/lab"), "addon", name); r.code != 0 {
		t.Fatalf("bin/lab addon %s: exit %d", name, r.code)
	}
}

// mlflow runs `kubectl mlflow VERB -n NAMESPACE ARGS` and expects success.
func (n *installed) mlflow(t *testing.T, verb string, args ...string) result {
	t.Helper()
	r := n.lab.mlflow(t, slices.Concat([]string{verb, "-n", n.namespace}, args)...)
	if strings.Contains(strings.ToLower(r.stderr), "warning: would violate") {
		t.Errorf("Pod Security has something to say about it:\n%s", r.stderr)
	}
	return r
}

// refused runs the same and expects a failure with a code, that explains itself on stderr.
func (n *installed) refused(t *testing.T, code int, want []string, verb string, args ...string) {
	t.Helper()
	r := n.run(t, nil, n.Kubectl, slices.Concat([]string{"mlflow", verb, "-n", n.namespace}, args)...)
	if r.code != code {
		t.Errorf("exit code %d, want %d", r.code, code)
	}
	for _, text := range append([]string{"error:"}, want...) {
		if !strings.Contains(r.stderr, text) {
			t.Errorf("stderr lacks %q:\n%s", text, r.stderr)
		}
	}
}

// kubectl runs kubectl in the namespace and expects success.
func (n *installed) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	return strings.TrimSpace(n.lab.kubectl(t, append([]string{"-n", n.namespace}, args...)...))
}

// sql asks the database, as its owner, in the pod of a workload.
func (n *installed) sql(t *testing.T, query string) string {
	t.Helper()
	return n.sqlOn(t, "mlflowdb", query)
}

func (n *installed) sqlOn(t *testing.T, database, query string) string {
	t.Helper()
	return n.kubectl(t, "exec", "statefulset/postgres", "--", "psql", "--username=mlflow", "--dbname="+database, "--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1", "--command="+query)
}

func (n *installed) head(t *testing.T) string {
	t.Helper()
	return n.sql(t, "SELECT version_num FROM alembic_version")
}

// python is the demo's: a virtual environment with MLflow's client and scikit-learn.
func (l *lab) python(t *testing.T) string {
	t.Helper()
	r := l.run(t, nil, filepath.Join(l.root, "hack/demo/python.sh"), l.Cache)
	if r.code != 0 {
		t.Fatalf("hack/demo/python.sh: exit %d", r.code)
	}
	return strings.TrimSpace(r.stdout)
}

// logged is the directory of a scikit-learn model as MLflow saves it, with an example.
func (l *lab) logged(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "iris")
	r := l.run(t, nil, l.python(t), "-c", `import sys, mlflow.sklearn, numpy, sklearn.linear_model
mlflow.sklearn.save_model(sklearn.linear_model.LogisticRegression().fit([[0.0], [1.0]], [0, 1]), sys.argv[1], input_example=numpy.array([[0.0], [1.0]]))`, dir)
	if r.code != 0 {
		t.Fatalf("save a model: exit %d", r.code)
	}
	return dir
}

// logged is what client.py has logged.
type logged struct{ Run, Artifacts, Version string }

// client runs testdata/client.py against the server, with no credentials but those in env.
func (n *installed) client(t *testing.T, env []string, args ...string) result {
	t.Helper()
	python := n.python(t)
	url := n.url
	if url == "" {
		url = n.forward(t, "-n", n.namespace)
	}
	env = append([]string{"MLFLOW_TRACKING_URI=" + url, "MLFLOW_HTTP_REQUEST_MAX_RETRIES=2"}, env...)
	return n.run(t, env, python, append([]string{filepath.Join(n.root, "test/e2e/testdata/client.py")}, args...)...)
}

func (n *installed) log(t *testing.T, env ...string) logged {
	t.Helper()
	r := n.client(t, env, "log")
	if r.code != 0 {
		t.Fatalf("a client could not log: exit %d\n%s", r.code, r.stderr)
	}
	var l logged
	lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &l); err != nil {
		t.Fatalf("the client printed %q: %v", r.stdout, err)
	}
	return l
}

func (n *installed) check(t *testing.T, l logged, env ...string) {
	t.Helper()
	if r := n.client(t, env, "check", l.Run); r.code != 0 {
		t.Errorf("a client did not read what was logged: exit %d\n%s", r.code, r.stderr)
	}
}

// guide runs the lines of the guide that follow an install.
func (n *installed) guide(t *testing.T, apps ...string) {
	t.Helper()
	for _, app := range apps {
		n.kubectl(t, "wait", "--for=condition=ready", "pod", "-l", "app="+app, "--timeout=60s")
	}
	if pods := n.kubectl(t, "get", "pods"); !strings.Contains(pods, "mlflow-") {
		t.Errorf("kubectl get pods does not show MLflow:\n%s", pods)
	}
	if logs := n.kubectl(t, "logs", "-l", "app=mlflow"); logs == "" {
		t.Error("kubectl logs -l app=mlflow is empty")
	}
	if names := experiments(t, n.portForward(t)); len(names) == 0 {
		t.Error("no experiment through kubectl port-forward")
	}
}

// portForward is the guide's `kubectl port-forward svc/mlflow 5000:5000`, on a port that is free, until the test ends.
func (n *installed) portForward(t *testing.T) string {
	t.Helper()
	url, _ := n.start(t, nil, n.Kubectl, "-n", n.namespace, "port-forward", "svc/mlflow", ":5000")
	return url
}

// credentials are those of basic-auth's user admin, as environment; none where there is no basic-auth.
func (n *installed) credentials(t *testing.T) []string {
	t.Helper()
	password := n.kubectl(t, "get", "secret", "mlflow-auth", "--ignore-not-found", "-o", "go-template={{.data.MLFLOW_AUTH_ADMIN_PASSWORD | base64decode}}")
	if password == "" {
		return nil
	}
	return []string{"MLFLOW_TRACKING_USERNAME=admin", "MLFLOW_TRACKING_PASSWORD=" + password}
}

// kustomization is a folder with a kustomization of the user's.
func kustomization(t *testing.T, text string) string {
	t.Helper()
	return filepath.Dir(write(t, "kustomization.yaml", text))
}

// write puts a file into a folder that ends with the test, readable by its owner alone, and returns its name.
func write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// timed says how long something took, in the log of the test.
func timed(t *testing.T, what string, do func()) {
	t.Helper()
	began := time.Now()
	do()
	t.Logf("%s: %.1f s", what, time.Since(began).Seconds())
}
