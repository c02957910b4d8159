//go:build e2e

package e2e

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestStory runs in order: each chapter stands on what the one before left on the cluster.
func TestStory(t *testing.T) {
	l := openLab(t)
	for _, chapter := range []struct {
		name string
		test func(*testing.T, *lab)
	}{
		{"demo", demo},
		{"the guide's own commands work on the result", guide},
		{"the cluster is found fit for it", fit},
		{"install again changes nothing", installAgain},
		{"deploy again changes nothing", deployAgain},
		{"MLflow's own words say the same", mlflowsWords},
		{"the TAB key knows what is there", tab},
		{"what is deployed can be waited for, and its log read", look},
		{"a command finds MLflow through port-forward", command},
		{"the tracking API answers through port-forward", api},
		{"the web page shows the registered model", webPage},
		{"failures explain themselves and change nothing", failures},
		{"uninstall keeps the data, install finds it", uninstallKeepsData},
		{"uninstall --delete-data deletes it", uninstallDeletesData},
	} {
		if !t.Run(chapter.name, func(t *testing.T) { chapter.test(t, l) }) {
			t.Fatalf("the story ends here: %q failed", chapter.name)
		}
	}
}

func demo(t *testing.T, l *lab) {
	if r := l.run(t, nil, filepath.Join(l.root, "hack/demo.sh")); r.code != 0 {
		t.Fatalf("hack/demo.sh: exit %d", r.code)
	}
}

// tab completes through kubectl, as a shell does.
func tab(t *testing.T, l *lab) {
	bin := t.TempDir()
	l.mlflow(t, "completion", "install", "--directory", bin)
	path := "PATH=" + strings.Join([]string{bin, filepath.Join(l.root, "bin"), l.Bin, os.Getenv("PATH")}, string(filepath.ListSeparator))
	for typed, want := range map[string]string{
		"mlflow deploy iris models:/":      "models:/iris",
		"mlflow deploy iris models:/iris/": "models:/iris/1",
		"mlflow predict ":                  "iris",
		"mlflow status --namespace mlf":    "mlflow",
	} {
		r := l.run(t, []string{path}, l.Kubectl, append([]string{"__complete"}, strings.Split(typed, " ")...)...)
		if !slices.Contains(strings.Split(r.stdout, "\n"), want) {
			t.Errorf("%s<TAB>: %q, want %q among them", typed, r.stdout, want)
		}
	}
}

func guide(t *testing.T, l *lab) {
	for _, app := range []string{"mlflow", "postgres"} {
		l.kubectl(t, "-n", "mlflow", "wait", "--for=condition=ready", "pod", "-l", "app="+app, "--timeout=60s")
		pods := strings.Fields(l.kubectl(t, "-n", "mlflow", "get", "pods", "-l", "app="+app, "-o", "name"))
		if len(pods) != 1 {
			t.Errorf("app=%s selects %d pods, want the one that serves: %v", app, len(pods), pods)
		}
	}
	if logs := l.kubectl(t, "-n", "mlflow", "logs", "-l", "app=mlflow"); logs == "" {
		t.Error("kubectl logs -l app=mlflow is empty")
	}
	l.mlflow(t, "wait")
}

func fit(t *testing.T, l *lab) {
	r := l.mlflow(t, "check", "--pre", "--image-repository", l.Registry+"/models/iris")
	for line := range strings.Lines(r.stdout) {
		if name, state, _ := strings.Cut(strings.TrimSpace(line), " "); state != "ok" && name != "network-policies" {
			t.Errorf("%s %s", name, state)
		}
	}
	for _, text := range []string{"kubernetes: v1.", "knative: v1.", "architectures: ", "image-repository: " + l.Registry} {
		if !strings.Contains(r.stderr, text) {
			t.Errorf("it does not say %q:\n%s", text, r.stderr)
		}
	}
}

func installAgain(t *testing.T, l *lab) {
	password := l.kubectl(t, "-n", "mlflow", "get", "secret", "mlflow-secret", "-o", "jsonpath={.metadata.uid} {.metadata.resourceVersion}")
	before, began := l.written(t), time.Now()
	r := l.mlflow(t, "install")
	t.Logf("no-op install: %.1f s", time.Since(began).Seconds())
	for _, line := range strings.Split(strings.TrimSpace(r.stdout), "\n") {
		if !strings.HasSuffix(line, " unchanged") {
			t.Errorf("a second install says %q, want every object unchanged", line)
		}
	}
	if !strings.Contains(r.stderr, "nothing changed") {
		t.Errorf("a second install does not say that nothing changed:\n%s", r.stderr)
	}
	if after := l.written(t); after != before {
		t.Errorf("a second install wrote:\nbefore:\n%s\nafter:\n%s", before, after)
	}
	if now := l.kubectl(t, "-n", "mlflow", "get", "secret", "mlflow-secret", "-o", "jsonpath={.metadata.uid} {.metadata.resourceVersion}"); now != password {
		t.Errorf("the Secret was written again: %s, was %s", now, password)
	}
}

// mlflowsWords are those of `mlflow deployments`, with the target knative.
func mlflowsWords(t *testing.T, l *lab) {
	uri := deployed(t, l)
	config := []string{"-C", "image_repository=" + l.Registry + "/models/iris", "--base-image", l.BaseImage}
	l.refused(t, nil, append([]string{"deployments", "create", "-t", "knative:/", "--name", "iris", "-m", uri}, config...), 5, []string{"iris", uri, "hint:"})
	l.refused(t, nil, append([]string{"deployments", "update", "-t", "knative:/", "--name", "wine", "-m", uri}, config...), 2, []string{"wine", "hint:"})
	if r := l.mlflow(t, append([]string{"deployments", "update", "-t", "knative:/", "--name", "iris", "-m", uri}, config...)...); !strings.Contains(r.stderr, "nothing changed") {
		t.Errorf("an update to what is there changes it:\n%s", r.stderr)
	}
	var got struct{ ModelURI, Image, URL string }
	if err := json.Unmarshal([]byte(l.mlflow(t, "deployments", "get", "--name", "iris", "-o", "json").stdout), &got); err != nil || got.ModelURI != uri || !strings.Contains(got.Image, "@sha256:") {
		t.Errorf("get: %+v, %v", got, err)
	}
	type predictions struct{ Predictions [][]float64 }
	var answer, second predictions
	if err := json.Unmarshal([]byte(l.mlflow(t, "predict", "iris", "--example").stdout), &answer); err != nil || len(answer.Predictions) != 2 {
		t.Errorf("predict --example: %+v, %v", answer, err)
	}
	for request, rows := range map[string]int{
		"--example": 2,
		`--input={"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP64", "data": [5.1, 3.5, 1.4, 0.2]}]}`: 1,
	} {
		if table := l.mlflow(t, "predict", "iris", request, "-o", "table").stdout; strings.Count(table, "\n") != rows+1 {
			t.Errorf("%s: want a header and %d rows:\n%s", request, rows, table)
		}
	}
	// The same bytes under another name, as they would go to another cluster.
	l.mlflow(t, "deploy", "copy", "--image", got.Image)
	if err := json.Unmarshal([]byte(l.mlflow(t, "predict", "copy", "--example").stdout), &second); err != nil || !reflect.DeepEqual(second, answer) {
		t.Errorf("the copy answers %+v, want %+v, %v", second, answer, err)
	}
	l.mlflow(t, "deployments", "delete", "copy")
}

func look(t *testing.T, l *lab) {
	l.mlflow(t, "deployments", "wait", "iris")
	l.mlflow(t, "predict", "iris", "--input", // which brings a pod
		`{"dataframe_split": {"columns": ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"], "data": [[5.1, 3.5, 1.4, 0.2]]}}`)
	if log := l.mlflow(t, "deployments", "logs", "iris").stdout; !strings.Contains(log, "[iris-0000") {
		t.Errorf("its log is\n%s", log)
	}
	if screen := l.mlflow(t, "status").stdout; !strings.Contains(screen, deployed(t, l)) {
		t.Errorf("the screen does not show what is deployed:\n%s", screen)
	}
}

func command(t *testing.T, l *lab) {
	client := `import os, urllib.request as u; print(u.urlopen(os.environ["MLFLOW_TRACKING_URI"] + "/health").read().decode())`
	if said := l.mlflow(t, "port-forward", "--", "python3", "-c", client).stdout; said != "OK\n" {
		t.Errorf("it prints %q", said)
	}
	if r := l.run(t, nil, l.Kubectl, "mlflow", "port-forward", "--", "sh", "-c", "exit 7"); r.code != 7 {
		t.Errorf("exit code %d, want that of the command, 7", r.code)
	}
}

// deployed returns the URI of the model that the demo left deployed.
func deployed(t *testing.T, l *lab) string {
	t.Helper()
	uri := l.kubectl(t, "get", "services.serving.knative.dev", "iris", "-o", `jsonpath={.metadata.annotations.mlflow\.kubectl/model-uri}`)
	if !strings.HasPrefix(uri, "models:/iris/") {
		t.Fatalf("Knative Service iris carries model URI %q", uri)
	}
	return uri
}

func (l *lab) deployFlags(repository string) []string {
	return []string{"--image-repository", repository, "--base-image", l.BaseImage}
}

func deployAgain(t *testing.T, l *lab) {
	before := l.written(t)
	l.mlflow(t, append([]string{"deploy", "iris", deployed(t, l)}, l.deployFlags(l.Registry+"/models/iris")...)...)
	if after := l.written(t); after != before {
		t.Errorf("deploying the same version again wrote:\nbefore:\n%s\nafter:\n%s", before, after)
	}
}

// experiments asks MLflow's REST API at base for the names of its experiments.
func experiments(t *testing.T, base string) []string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/api/2.0/mlflow/experiments/search", strings.NewReader(`{"max_results": 100}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }() // read to its end below, or the test fails
	var body struct {
		Experiments []struct{ Name string }
	}
	if err := json.NewDecoder(response.Body).Decode(&body); err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("experiments/search: %s: %v", response.Status, err)
	}
	names := make([]string, 0, len(body.Experiments))
	for _, e := range body.Experiments {
		names = append(names, e.Name)
	}
	return names
}

func wantIris(t *testing.T, names []string) {
	t.Helper()
	if !strings.Contains(" "+strings.Join(names, " ")+" ", " iris ") {
		t.Errorf("experiments are %v, want iris among them", names)
	}
}

func api(t *testing.T, l *lab) {
	wantIris(t, experiments(t, l.forward(t)))
}

func uninstallKeepsData(t *testing.T, l *lab) {
	kept := func() string {
		return l.kubectl(t, "-n", "mlflow", "get", "secret/mlflow-secret", "pvc/postgres-data", "pvc/mlflow-artifacts", "-o", `jsonpath={range .items[*]}{.metadata.name} {.metadata.uid}{"\n"}{end}`)
	}
	before := kept()
	l.mlflow(t, "uninstall")
	if after := kept(); after != before {
		t.Errorf("uninstall did not keep Secret and claims:\nbefore:\n%s\nafter:\n%s", before, after)
	}
	if left := l.kubectl(t, "-n", "mlflow", "get", "deployments,statefulsets,jobs", "-o", "name"); left != "" {
		t.Errorf("uninstall left %s", left)
	}
	l.refused(t, nil, append([]string{"deploy", "iris", "models:/iris/1"}, l.deployFlags(l.Registry+"/models/iris")...), 2, []string{"was uninstalled", "hint: bring it back"})
	l.mlflow(t, "install")
	wantIris(t, experiments(t, l.forward(t)))
}

func uninstallDeletesData(t *testing.T, l *lab) {
	l.mlflow(t, "uninstall", "--delete-data")
	if left := l.managed(t, "persistentvolumeclaims,secrets,deployments,statefulsets,jobs,configmaps"); left != "" {
		t.Errorf("uninstall --delete-data left:\n%s", left)
	}
}
