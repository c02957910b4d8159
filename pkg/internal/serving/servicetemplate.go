package serving

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	knative "knative.dev/serving/pkg/apis/serving/v1"
	"sigs.k8s.io/yaml"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// Template is a user's manifest of the Service, with $name, $namespace and $image to be filled in. The zero Template says nothing.
type Template struct {
	fields map[string]any
}

// ParseTemplate reads a manifest of one Knative Service; source is what failures call it, and an empty manifest is the zero Template.
// failure.Invalid where it is none, or says what is not its to say.
func ParseTemplate(source string, manifest []byte) (*Template, error) {
	if strings.TrimSpace(string(manifest)) == "" {
		return &Template{}, nil
	}
	bad := func(message, hint string) error {
		return &failure.Error{Class: failure.Invalid, Reason: "ServiceTemplateInvalid", Object: source, Message: message, Hint: hint}
	}
	if documents := regexp.MustCompile(`(?m)^---`).Split(strings.TrimPrefix(strings.TrimSpace(string(manifest)), "---"), -1); len(documents) > 1 {
		return nil, bad(fmt.Sprintf("it has %d documents", len(documents)), "write one Service alone")
	}
	t := &Template{}
	if err := yaml.UnmarshalStrict(manifest, &t.fields); err != nil {
		return nil, bad("it is not YAML: "+err.Error(), "check it: kubectl create --dry-run=client -f FILE")
	}
	if t.fields["apiVersion"] != knative.SchemeGroupVersion.String() || t.fields["kind"] != "Service" {
		return nil, bad(fmt.Sprintf("it is a %v of %v", t.fields["kind"], t.fields["apiVersion"]), "write a Service of "+knative.SchemeGroupVersion.String())
	}
	if why := t.refused(); why != "" {
		return nil, bad(why, "leave it out: https://knative.dev/docs/serving/services/creating-services/ has an example")
	}
	if _, err := t.service(Spec{Namespace: "namespace", Name: "name", Image: placeholder}); err != nil {
		return nil, bad(err.Error(), "compare it with: kubectl explain services.serving.knative.dev.spec.template")
	}
	return t, nil
}

// stored is the Template that a Service was last deployed with.
func stored(service *unstructured.Unstructured) (*Template, error) {
	t := &Template{}
	kept := service.GetAnnotations()[templateKey]
	if kept == "" {
		return t, nil
	}
	if err := json.Unmarshal([]byte(kept), &t.fields); err != nil {
		return nil, fmt.Errorf("annotation %s: %w", templateKey, err)
	}
	return t, nil
}

// refused is what a template may not say; "" where it says nothing of that.
func (t *Template) refused() string {
	for _, place := range []struct {
		path    []string
		allowed []string
	}{
		{nil, []string{"apiVersion", "kind", "metadata", "spec"}},
		{[]string{"metadata"}, []string{"name", "namespace", "labels", "annotations"}},
		{[]string{"spec"}, []string{"template"}},
		{[]string{"spec", "template"}, []string{"metadata", "spec"}},
		{[]string{"spec", "template", "metadata"}, []string{"labels", "annotations"}},
	} {
		for _, field := range slices.Sorted(maps.Keys(mapAt(t.fields, place.path...))) {
			if !slices.Contains(place.allowed, field) {
				return strings.Join(append(place.path, field), ".") + " is not the template's to say"
			}
		}
	}
	for field, variable := range map[string]string{"name": "name", "namespace": "namespace"} {
		if is, ok := mapAt(t.fields, "metadata")[field]; ok && is != "$"+variable && is != "${"+variable+"}" {
			return fmt.Sprintf("metadata.%s is %v, and not $%s", field, is, variable)
		}
	}
	for _, path := range [][]string{{"metadata"}, {"spec", "template", "metadata"}} {
		for _, kind := range []string{"labels", "annotations"} {
			for _, key := range slices.Sorted(maps.Keys(mapAt(mapAt(t.fields, path...), kind))) {
				if reserved(key) {
					return fmt.Sprintf("%s %s says what this plugin knows of the deployment", kind, key)
				}
			}
		}
	}
	return t.podRefused()
}

func (t *Template) podRefused() string {
	pod := mapAt(t.fields, "spec", "template", "spec")
	for _, field := range []string{"hostNetwork", "hostPID", "hostIPC"} {
		if pod[field] == true {
			return field + " opens the node to the model"
		}
	}
	volumes, _ := pod["volumes"].([]any)
	for _, volume := range volumes {
		if mapAt(map[string]any{"volume": volume}, "volume", "hostPath") != nil {
			return "a volume of hostPath opens the node to the model"
		}
	}
	containers, _ := pod["containers"].([]any)
	models := 0
	for _, item := range containers {
		container, _ := item.(map[string]any)
		if mapAt(container, "securityContext")["privileged"] == true {
			return "a privileged container opens the node to the model"
		}
		if isModel(container) {
			models++
		}
	}
	if len(containers) > 0 && models != 1 {
		return fmt.Sprintf("%d containers have the image $image, and one is the model's", models)
	}
	return ""
}

// isModel tells the container that serves the model: its image is the one that is to be filled in.
func isModel(container map[string]any) bool {
	image, ok := container["image"]
	return !ok || image == "$image" || image == "${image}"
}

// service is the Service that the template says, with s filled in, as a server writes it.
func (t *Template) service(s Spec) (*knative.Service, error) {
	filled, _ := fill(t.fields, map[string]string{"name": s.Name, "namespace": s.Namespace, "image": s.Image}).(map[string]any)
	content, err := json.Marshal(filled)
	if err != nil {
		return nil, err
	}
	service := &knative.Service{}
	if err := yaml.UnmarshalStrict(content, service); err != nil {
		return nil, err
	}
	containers := service.Spec.Template.Spec.Containers
	if len(containers) == 0 {
		service.Spec.Template.Spec.Containers = []corev1.Container{{}}
	}
	// The model's is first for those who lay it over another; what the others are, Knative's admission says.
	for i := range containers {
		if containers[i].Image == s.Image || containers[i].Image == "" {
			containers[0], containers[i] = containers[i], containers[0]
			containers[0].Image = ""
			return service, t.conflict(s, containers[0])
		}
	}
	return service, nil
}

// conflict is failure.Invalid where the template says what the model server needs to be otherwise.
func (t *Template) conflict(s Spec, model corev1.Container) error {
	for _, port := range model.Ports {
		if s.Port != 0 && port.ContainerPort != s.Port {
			return settingInvalid("service template", fmt.Sprintf("the model server listens at port %d, not at %d", s.Port, port.ContainerPort), "leave ports out")
		}
	}
	return s.envConflict("service template", model.Env)
}

// envConflict is failure.Invalid where one of env is of the model server.
func (s Spec) envConflict(where string, env []corev1.EnvVar) error {
	for _, v := range env {
		if value, ours := s.Env[v.Name]; ours && value != v.Value {
			return settingInvalid(where, fmt.Sprintf("the variable %s is the model server's own", v.Name), "leave it out")
		}
	}
	return nil
}

// variables matches those that are filled in, as Python's string.Template writes them. All other dollars stay as they are, $(POD_IP) among them.
func variables() *regexp.Regexp {
	return regexp.MustCompile(`\$(\$|\{(?:name|namespace|image)\}|(?:name|namespace|image)\b)`)
}

// fill replaces the variables in all strings below v, after YAML was read: no value can become anything else than a string.
func fill(v any, values map[string]string) any {
	switch v := v.(type) {
	case map[string]any:
		filled := make(map[string]any, len(v))
		for key, value := range v {
			filled[key] = fill(value, values)
		}
		return filled
	case []any:
		filled := make([]any, len(v))
		for i, value := range v {
			filled[i] = fill(value, values)
		}
		return filled
	case string:
		return variables().ReplaceAllStringFunc(v, func(found string) string {
			if found == "$$" {
				return "$"
			}
			return values[strings.Trim(found, "${}")]
		})
	}
	return v
}
