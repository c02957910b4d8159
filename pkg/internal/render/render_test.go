package render_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/render"
)

// tree is a small kustomize tree with one of each mechanism: env file, component with parameters, overlay.
func tree() fstest.MapFS {
	file := func(lines ...string) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte(strings.Join(lines, "\n") + "\n")}
	}
	return fstest.MapFS{
		"base/kustomization.yaml": file("resources: [job.yaml]", "configMapGenerator:", "- name: settings", "  envs: [settings.env]"),
		"base/settings.env":       file("# how it behaves", "COLOUR=red", "SIZE=1"),
		"base/job.yaml": file("apiVersion: batch/v1", "kind: Job", "metadata: {name: paint}", "spec: {template: {spec: {restartPolicy: Never, containers: "+
			"[{name: paint, image: 'painter:1', envFrom: [{configMapRef: {name: settings}}]}]}}}"),
		"components/store/kustomization.yaml": file("apiVersion: kustomize.config.k8s.io/v1alpha1", "kind: Component", "resources: [claim.yaml]",
			"configMapGenerator:", "- {name: store-params, envs: [params.env], options: {disableNameSuffixHash: true, annotations: {config.kubernetes.io/local-config: 'true'}}}",
			"replacements:", "- source: {kind: ConfigMap, name: store-params, fieldPath: data.STORE_SIZE}",
			"  targets: [{select: {kind: PersistentVolumeClaim}, fieldPaths: [spec.resources.requests.storage]}]"),
		"components/store/params.env": file("STORE_SIZE=1Gi"),
		"components/store/claim.yaml": file("apiVersion: v1", "kind: PersistentVolumeClaim", "metadata: {name: store}", "spec: {resources: {requests: {storage: STORE_SIZE}}}"),
		"overlays/large/kustomization.yaml": file("apiVersion: kustomize.config.k8s.io/v1beta1", "kind: Kustomization", "namespace: studio",
			"resources: [../../base]", "components: [../../components/store]"),
		"overlays/small/kustomization.yaml": file("namespace: studio", "resources: [../../base]"),
	}
}

func open(t *testing.T, overlay string) *render.Tree {
	t.Helper()
	r, err := render.Open(tree(), overlay)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func build(t *testing.T, r *render.Tree) map[string]*unstructured.Unstructured {
	t.Helper()
	objs, err := r.Build()
	if err != nil {
		t.Fatal(err)
	}
	byKind := map[string]*unstructured.Unstructured{}
	for _, obj := range objs {
		byKind[obj.GetKind()] = obj
	}
	return byKind
}

func field(t *testing.T, obj *unstructured.Unstructured, path ...string) string {
	t.Helper()
	value, found, err := unstructured.NestedString(obj.Object, path...)
	if err != nil || !found {
		t.Fatalf("%s: %s: found %t, %v", obj.GetKind(), strings.Join(path, "."), found, err)
	}
	return value
}

func TestBuildTakesEditsAndValues(t *testing.T) {
	r := open(t, "large")
	for file, values := range map[string]map[string]string{
		"base/settings.env":           {"COLOUR": "blue=green, or #not"},
		"components/store/params.env": {"STORE_SIZE": "50Gi"},
	} {
		if err := r.SetEnv(file, values); err != nil {
			t.Fatal(err)
		}
	}
	r.SetNamespace("elsewhere")
	r.SetImage("painter", "registry.example.com/painter:2")
	if err := r.Add("PersistentVolumeClaim", "/spec/storageClassName", "fast"); err != nil {
		t.Fatal(err)
	}
	objs := build(t, r)
	if len(objs) != 3 {
		t.Errorf("%d kinds of objects, want Job, ConfigMap, PersistentVolumeClaim", len(objs))
	}
	for _, obj := range objs {
		if obj.GetNamespace() != "elsewhere" {
			t.Errorf("%s is in namespace %q", obj.GetKind(), obj.GetNamespace())
		}
	}
	if got := field(t, objs["ConfigMap"], "data", "COLOUR"); got != "blue=green, or #not" {
		t.Errorf("COLOUR is %q", got)
	}
	if got := field(t, objs["ConfigMap"], "data", "SIZE"); got != "1" {
		t.Errorf("SIZE is %q, want it as it was", got)
	}
	if got := field(t, objs["PersistentVolumeClaim"], "spec", "resources", "requests", "storage"); got != "50Gi" {
		t.Errorf("storage is %q", got)
	}
	if got := field(t, objs["PersistentVolumeClaim"], "spec", "storageClassName"); got != "fast" {
		t.Errorf("storage class is %q", got)
	}
	containers, _, err := unstructured.NestedSlice(objs["Job"].Object, "spec", "template", "spec", "containers")
	if err != nil {
		t.Fatal(err)
	}
	if image := containers[0].(map[string]any)["image"]; image != "registry.example.com/painter:2" {
		t.Errorf("image is %v", image)
	}
}

func TestSetImageReplacesWhatTheReferenceNames(t *testing.T) {
	const digest = "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for ref, want := range map[string]string{
		"registry.example.com:5000/painter":               "registry.example.com:5000/painter:1",
		"registry.example.com:5000/painter:2":             "registry.example.com:5000/painter:2",
		"painter:2":                                       "painter:2",
		"registry.example.com/painter" + digest:           "registry.example.com/painter" + digest,
		"registry.example.com:5000/painter:2-rc" + digest: "registry.example.com:5000/painter:2-rc" + digest,
	} {
		r := open(t, "small")
		r.SetImage("painter", ref)
		containers, _, err := unstructured.NestedSlice(build(t, r)["Job"].Object, "spec", "template", "spec", "containers")
		if err != nil {
			t.Fatal(err)
		}
		if image := containers[0].(map[string]any)["image"]; image != want {
			t.Errorf("SetImage(%q): image is %v, want %s", ref, image, want)
		}
	}
}

func TestOpenLeavesTheSourceAlone(t *testing.T) {
	src := tree()
	r, err := render.Open(src, "large")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.SetEnv("base/settings.env", map[string]string{"COLOUR": "blue"}); err != nil {
		t.Fatal(err)
	}
	if got := string(src["base/settings.env"].Data); !strings.Contains(got, "COLOUR=red") {
		t.Errorf("the source was changed: %q", got)
	}
}

func TestBadInputIsInvalidAndSaysWhatThereIs(t *testing.T) {
	setEnv := func(values map[string]string) error { return open(t, "large").SetEnv("base/settings.env", values) }
	for _, c := range []struct {
		name   string
		err    func() error
		reason string
		hint   string
	}{
		{"overlay", func() error { _, err := render.Open(tree(), "medium"); return err }, "UnknownOverlay", "large, small"},
		{"no overlay", func() error { _, err := render.Open(tree(), ""); return err }, "UnknownOverlay", "large, small"},
		{"path as overlay", func() error { _, err := render.Open(tree(), "../base"); return err }, "UnknownOverlay", "large, small"},
		{"key", func() error { return setEnv(map[string]string{"COLOR": "blue"}) }, "UnknownKey", "COLOUR, SIZE"},
		{"beginning of a key", func() error { return setEnv(map[string]string{"COL": "blue"}) }, "UnknownKey", "COLOUR, SIZE"},
		{"line break", func() error { return setEnv(map[string]string{"COLOUR": "blue\nSIZE=9"}) }, "LineBreak", "one line"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var failed *failure.Error
			if err := c.err(); !errors.As(err, &failed) {
				t.Fatalf("got %v, want a failure", err)
			}
			if failed.Class != failure.Invalid || failed.Reason != c.reason || !strings.Contains(failed.Hint, c.hint) {
				t.Errorf("got %+v, want Invalid, %s, hint with %q", failed, c.reason, c.hint)
			}
		})
	}
}

func TestHashNameFollowsTheFinalSpec(t *testing.T) {
	name := func(colour string) string {
		r := open(t, "small")
		if err := r.SetEnv("base/settings.env", map[string]string{"COLOUR": colour}); err != nil {
			t.Fatal(err)
		}
		job := build(t, r)["Job"]
		if err := render.HashName(job); err != nil {
			t.Fatal(err)
		}
		return job.GetName()
	}
	red, again, blue := name("red"), name("red"), name("blue")
	if red != again {
		t.Errorf("one spec, two names: %s, %s", red, again)
	}
	if red == blue {
		t.Errorf("a changed ConfigMap leaves the name %s", red)
	}
	if !strings.HasPrefix(red, "paint-") || len(red) != len("paint-")+10 {
		t.Errorf("name is %q", red)
	}
}

func TestBuildFromManyGoroutines(t *testing.T) {
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			r, err := render.Open(tree(), "large")
			if err != nil {
				t.Error(err)
				return
			}
			if objs, err := r.Build(); err != nil || len(objs) != 3 {
				t.Errorf("%d objects, %v", len(objs), err)
			}
		})
	}
	all.Wait()
}
