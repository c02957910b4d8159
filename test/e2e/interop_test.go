//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// beside is a namespace in which mlflow-knative is at work, too.
type beside struct {
	*models
	peer   string // a Python with it
	docker string // what its client wants to see, and does not use
}

// TestInterop runs in order: each chapter stands on what the one before left.
func TestInterop(t *testing.T) {
	t.Parallel()
	l := openLab(t)
	b := &beside{models: &models{installed: l.namespace(t, "e2e-interop"), directory: t.TempDir()}, peer: l.tested(t, "peer")}
	engine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprint(w, `{"ApiVersion": "1.41", "Version": "20.10.0"}`)
	}))
	t.Cleanup(engine.Close)
	b.docker = strings.Replace(engine.URL, "http://", "tcp://", 1)
	l.kubectl(t, "create", "namespace", b.namespace)
	b.train(t)
	b.deploy(t, "1", "--image-tag", "v1")
	for _, chapter := range []struct {
		name string
		test func(*testing.T)
	}{
		{"mlflow-knative leaves ours alone", b.ours},
		{"and we its until they are adopted", b.theirs},
		{"an adopted one serves under the name that its clients know", b.adopted},
		{"mlflow deployments by our plugin in Python", b.plugin},
	} {
		if !t.Run(chapter.name, chapter.test) {
			t.FailNow()
		}
	}
}

// tested is a Python of hack/modelservers/python.sh.
func (l *lab) tested(t *testing.T, what string) string {
	t.Helper()
	r := l.run(t, nil, filepath.Join(l.root, "hack/modelservers/python.sh"), l.Cache, what)
	if r.code != 0 {
		t.Fatalf("hack/modelservers/python.sh %s: exit %d", what, r.code)
	}
	return strings.TrimSpace(r.stdout)
}

// knative lets mlflow-knative do something. failed is the text of its exception.
func (b *beside) knative(t *testing.T, verb string, words ...string) (returned, failed string) {
	t.Helper()
	args := append([]string{filepath.Join(b.root, "test/e2e/testdata/peer.py"), verb, b.namespace}, words...)
	r := b.run(t, []string{"DOCKER_HOST=" + b.docker}, b.peer, args...)
	var said struct {
		Returned json.RawMessage
		Failed   string
	}
	if err := json.Unmarshal([]byte(r.stdout), &said); err != nil || r.code != 0 {
		t.Fatalf("mlflow-knative: exit %d, %v", r.code, err)
	}
	return string(said.Returned), said.Failed
}

// image is one that mlflow-knative would have pushed: by its tag.
func (b *beside) image() string { return b.Registry + "/models/iris:v1" }

// ours are not labelled as its: what it would write over them is another Service.
func (b *beside) ours(t *testing.T) {
	model := filepath.Join(b.directory, "1")
	if list, failed := b.knative(t, "list_deployments"); failed != "" || strings.Contains(list, b.namespace) {
		t.Errorf("it lists %s, %s", list, failed)
	}
	for verb, words := range map[string][]string{"update_deployment": {"iris", model, b.image()}, "delete_deployment": {"iris"}} {
		if _, failed := b.knative(t, verb, words...); !strings.Contains(failed, "not managed by mlflow-knative") {
			t.Errorf("%s: %q", verb, failed)
		}
	}
	if _, failed := b.knative(t, "create_deployment", "iris", model, b.image()); !strings.Contains(failed, "already exists") {
		t.Errorf("create_deployment: %q", failed)
	}
	b.serves(t, "1")
	b.lab.mlflow(t, "deployments", "delete", "iris", "-n", b.namespace)
}

func (b *beside) theirs(t *testing.T) {
	b.kubectl(t, "wait", "--for=delete", "services.serving.knative.dev/iris", "--timeout=60s")
	if _, failed := b.knative(t, "create_deployment", "iris", filepath.Join(b.directory, "1"), b.image()); failed != "" {
		t.Fatal(failed)
	}
	if list := b.lab.mlflow(t, "deployments", "list", "-n", b.namespace).stdout; !strings.Contains(list, "iris") {
		t.Errorf("it is not listed:\n%s", list)
	}
	var got struct{ ModelName, Image string }
	if err := json.Unmarshal([]byte(b.mlflow(t, "deployments", "get", "iris", "-o", "json").stdout), &got); err != nil || got.Image != b.image() || got.ModelName != "mlflow-model" {
		t.Errorf("get: %+v, %v", got, err)
	}
	b.refused(t, 5, []string{"managed by mlflow-knative", "--adopt"}, "deploy", b.deployment("2")[1:]...)
	b.refused(t, 5, []string{"managed by mlflow-knative", "--adopt"}, "traffic", "iris", "new=100")
	b.serves(t, "1")
}

func (b *beside) adopted(t *testing.T) {
	load := b.load(t)
	load.during(t, 20)
	b.deploy(t, "2", "--adopt")
	load.during(t, 20) // Envoy follows Knative's word within a second, on a machine that has much to do
	if counts := load.during(t, 100); counts["2"] < 95 {
		t.Errorf("after version 2 was deployed, %v answered", counts)
	}
	b.known(t)
	if container := b.kubectl(t, "get", "services.serving.knative.dev", "iris", "-o", "jsonpath={.spec.template.spec.containers[0]}"); strings.Contains(container, "MLSERVER_") || strings.Contains(container, "/version") {
		t.Errorf("what was of mlflow-knative is left: %s", container)
	}
	b.deploy(t, "3")
	b.serves(t, "3")
	b.known(t)
	b.lab.mlflow(t, "rollback", "iris", "-n", b.namespace)
	b.serves(t, "2")
	load.end()
	if len(load.lost) > 0 {
		t.Errorf("%d requests were lost, the first: %s", len(load.lost), load.lost[0])
	}
	if list, failed := b.knative(t, "list_deployments"); failed != "" || strings.Contains(list, b.namespace) {
		t.Errorf("mlflow-knative lists it still: %s, %s", list, failed)
	}
}

// known expects an answer to the Open Inference Protocol under the name that MLflow's images give a model.
func (b *beside) known(t *testing.T) {
	t.Helper()
	body := `{"inputs": [`
	for i, column := range []string{"sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"} {
		body += strings.Repeat(", ", min(i, 1)) + fmt.Sprintf(`{"name": %q, "shape": [1], "datatype": "FP64", "data": [%d]}`, column, i+1)
	}
	body += "]}"
	if answer := b.mlflow(t, "predict", "iris", "--input", body).stdout; !strings.Contains(answer, `"mlflow-model"`) {
		t.Errorf("predict: %s", answer)
	}
	for path, body := range map[string]string{"ready": "", "infer": body} {
		method := http.MethodGet
		if body != "" {
			method = http.MethodPost
		}
		request, err := http.NewRequestWithContext(t.Context(), method, "http://"+b.gateway+"/v2/models/mlflow-model/"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Host = "iris." + b.namespace + ".lab.example.com"
		request.Header.Set("Content-Type", "application/json")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if err := response.Body.Close(); err != nil || response.StatusCode != http.StatusOK {
			t.Errorf("%s: %s, %v", path, response.Status, err)
		}
	}
}

// plugin goes through the lines of mlflow-knative's README and its Python API, against a tracking server beside the cluster.
func (b *beside) plugin(t *testing.T) {
	// Docker Hub, where bases are without a word, is not in reach of the lab.
	program := filepath.Join(t.TempDir(), "kubectl-mlflow")
	script := fmt.Sprintf("#!/bin/sh\ncase $2 in create|update) set -- \"$@\" --base-image %s ;; esac\nexec %s \"$@\"\n", b.BaseImage, filepath.Join(b.root, "bin/kubectl-mlflow"))
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	b.kubectl(t, "create", "-f", write(t, "left.yaml", fmt.Sprintf(`{"apiVersion": "serving.knative.dev/v1", "kind": "Service",
"metadata": {"name": "left", "labels": {"app.kubernetes.io/managed-by": "mlflow-knative"}}, "spec": {"template": {"spec": {"containers": [{"image": %q}]}}}}`, b.image())))
	target := "knative:/" + strings.TrimSpace(b.lab.kubectl(t, "config", "current-context"))
	r := b.run(t, []string{"KUBECTL_MLFLOW=" + program}, b.python(t), filepath.Join(b.root, "hack/with-mlflow.py"), b.tested(t, "deployments"),
		filepath.Join(b.root, "test/e2e/testdata/deployments.py"), target, b.namespace, b.Registry+"/models/iris")
	if r.code != 0 {
		t.Errorf("deployments.py: exit %d", r.code)
	}
}
