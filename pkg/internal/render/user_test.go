package render_test

import (
	"errors"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/render"
)

func TestReadUserTakesNothingFromElsewhere(t *testing.T) {
	for name, c := range map[string]struct {
		kustomization string
		says          string
	}{
		"git":                 {"resources: ['git@example.com:team/repo.git']", "not a local path"},
		"short git":           {"resources: [github.com/team/repo]", "not a local path"},
		"https":               {"resources: ['https://example.com/a.yaml']", "not a local path"},
		"query":               {"resources: ['repo?ref=main']", "not a local path"},
		"component":           {"components: ['https://example.com/a']", "not a local path"},
		"base":                {"bases: ['https://example.com/a']", "not a local path"},
		"capitals":            {"Resources: ['https://example.com/a']", "not a local path"},
		"crd":                 {"crds: ['https://example.com/a.yaml']", "not a local path"},
		"configuration":       {"configurations: ['https://example.com/a.yaml']", "not a local path"},
		"patch":               {"patches: [{path: 'https://example.com/a.yaml'}]", "not a local path"},
		"JSON patch":          {"patchesJson6902: [{path: 'https://example.com/a.yaml', target: {kind: Service, name: a}}]", "not a local path"},
		"merge patch":         {"patchesStrategicMerge: ['https://example.com/a.yaml']", "not a local path"},
		"replacement":         {"replacements: [{path: 'https://example.com/a.yaml'}]", "not a local path"},
		"file of a ConfigMap": {"configMapGenerator: [{name: a, files: ['a=https://example.com/a.yaml']}]", "not a local path"},
		"env of a ConfigMap":  {"configMapGenerator: [{name: a, env: 'https://example.com/a.env'}]", "not a local path"},
		"envs of a ConfigMap": {"configMapGenerator: [{name: a, envs: ['https://example.com/a.env']}]", "not a local path"},
		"file of a Secret":    {"secretGenerator: [{name: a, files: ['https://example.com/a.yaml']}]", "not a local path"},
		"nested":              {"resources: [nested]", "not a local path"},
		"above":               {"resources: [../base]", "leads out"},
		"above later":         {"resources: [nested/../../base]", "leads out"},
		"absolute":            {"resources: [/etc/passwd]", "leads out"},
		"missing":             {"resources: [missing.yaml]", "there is no missing.yaml"},
		"generators":          {"generators: [exec.yaml]", "generators is not taken"},
		"transformers":        {"transformers: [exec.yaml]", "transformers is not taken"},
		"validators":          {"validators: [exec.yaml]", "validators is not taken"},
		"charts":              {"helmCharts: [{name: a, repo: 'https://example.com'}]", "helmCharts is not taken"},
		"old charts":          {"helmChartInflationGenerator: [{chartName: a}]", "helmCharts is not taken"},
		"schema":              {"openapi: {path: schema.json}", "openapi is not taken"},
		"namespace":           {"namespace: other", "namespace does not go"},
		"prefix":              {"namePrefix: my-", "namePrefix does not go"},
		"unknown field":       {"resource: [a.yaml]", "resource"},
		"no YAML":             {"a: b: c", "kustomization.yaml"},
		"no text":             {"resources: [binary]", "no text"},
		"large":               {"resources: [large.yaml]", "256 KiB"},
		"a folder as a file":  {"patches: [{path: nested}]", "no file"},
		"without any":         {"resources: [empty]", "0 kustomization files"},
	} {
		t.Run(name, func(t *testing.T) {
			src := fstest.MapFS{
				"kustomization.yaml":        {Data: []byte(c.kustomization + "\n")},
				"nested/kustomization.yaml": {Data: []byte("resources: ['https://example.com/a']\n")},
				"empty/a.yaml":              {Data: []byte("a: b\n")},
				"exec.yaml":                 {Data: []byte("a: b\n")},
				"schema.json":               {Data: []byte("{}")},
				"binary":                    {Data: []byte{0xff, 0xfe}},
				"large.yaml":                {Data: []byte(strings.Repeat("#", 256<<10+1))},
			}
			_, err := render.ReadUser(src)
			if failed, ok := errors.AsType[*failure.Error](err); !ok || failed.Class != failure.Invalid || failed.Hint == "" || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want Invalid and %q", err, c.says)
			}
			files := map[string]string{}
			for name, file := range src {
				files[name] = string(file.Data)
			}
			if failure.ClassOf(open(t, "large").Mount(files)) != failure.Invalid {
				t.Error("from a record it is taken")
			}
		})
	}
}

func TestMountGoesOnTop(t *testing.T) {
	for _, kind := range []string{"", "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n", "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\n"} {
		r := open(t, "large")
		files := map[string]string{
			"kustomization.yaml": kind + "patches:\n- path: patch.yaml\nreplacements:\n- path: replace.yaml\nconfigMapGenerator:\n- {name: settings, behavior: merge, literals: [COLOUR=green]}\n",
			"patch.yaml":         "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: store, annotations: {a: b}}\n",
			"replace.yaml":       "source: {kind: ConfigMap, name: settings, fieldPath: data.COLOUR}\ntargets: [{select: {kind: PersistentVolumeClaim}, fieldPaths: [metadata.annotations.a]}]\n",
		}
		if err := r.Mount(files); err != nil {
			t.Fatal(err)
		}
		objs := build(t, r)
		if got := objs["PersistentVolumeClaim"].GetAnnotations()["a"]; got != "green" {
			t.Errorf("%q: the annotation is %q", kind, got)
		}
		if got := field(t, objs["ConfigMap"], "data", "COLOUR"); got != "green" {
			t.Errorf("%q: COLOUR is %q", kind, got)
		}
	}
}
