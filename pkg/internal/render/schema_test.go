package render

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/kustomize/kyaml/openapi"
)

// kinds are those that the manifests have. A ServiceMonitor has no schema in kustomize either.
func kinds() []string {
	return []string{
		"io.k8s.api.apps.v1.Deployment", "io.k8s.api.apps.v1.StatefulSet", "io.k8s.api.batch.v1.CronJob", "io.k8s.api.batch.v1.Job",
		"io.k8s.api.core.v1.ConfigMap", "io.k8s.api.core.v1.Namespace", "io.k8s.api.core.v1.PersistentVolumeClaim", "io.k8s.api.core.v1.Service",
		"io.k8s.api.core.v1.ServiceAccount", "io.k8s.api.networking.v1.Ingress", "io.k8s.api.networking.v1.NetworkPolicy",
	}
}

// schema.json is the part of kustomize's own schema that is about the kinds of the manifests, without its prose. Write it anew with -update.
func TestSchemaIsAPartOfKustomizes(t *testing.T) {
	openapi.ResetOpenAPI()
	text, err := json.Marshal(openapi.Schema().Definitions)
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]any
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	part := map[string]any{}
	var take func(name string)
	var walk func(value any) any
	walk = func(value any) any {
		switch value := value.(type) {
		case map[string]any:
			if _, prose := value["description"].(string); prose {
				delete(value, "description")
			}
			if ref, ok := value["$ref"].(string); ok {
				take(strings.TrimPrefix(ref, "#/definitions/"))
			}
			for key := range value {
				value[key] = walk(value[key])
			}
		case []any:
			for i := range value {
				value[i] = walk(value[i])
			}
		}
		return value
	}
	take = func(name string) {
		if _, taken := part[name]; !taken {
			part[name] = nil
			part[name] = walk(all[name])
		}
	}
	for _, kind := range kinds() {
		take(kind)
	}
	var want bytes.Buffer
	encoder := json.NewEncoder(&want)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(map[string]any{"definitions": part}); err != nil {
		t.Fatal(err)
	}
	if update := flag.Lookup("update"); update != nil && update.Value.String() == "true" {
		if err := os.WriteFile("schema.json", want.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.String(), string(got)); diff != "" {
		t.Errorf("schema.json is not kustomize's; write it anew with -update:\n%s", diff)
	}
}

func TestMain(m *testing.M) {
	flag.Bool("update", false, "write the schema anew")
	flag.Parse()
	os.Exit(m.Run())
}
