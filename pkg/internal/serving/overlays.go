package serving

import (
	"encoding/json"
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	knative "knative.dev/serving/pkg/apis/serving/v1"
)

// overlays are what a user says of a Service, as the fields of one: the manifest that it stands on, and the settings.
type overlays struct {
	template, settings       map[string]any
	oldTemplate, oldSettings map[string]any    // of the deployment before, where they are to go
	kept                     map[string]string // annotations of the Service that keep all this; "" for none
	set                      *string
	without                  Settings
}

// overlays reads what s, and what on, the Service that it will be laid over, say.
func (s Spec) overlays(on *unstructured.Unstructured) (overlays, error) {
	before, err := stored(on)
	if err != nil {
		return overlays{}, err
	}
	template := s.Template
	if template == nil {
		template = before
	}
	o := overlays{without: s.Settings, set: s.Set, kept: map[string]string{}}
	if o.kept[templateKey], err = keeping(template.fields, template.fields == nil); err != nil {
		return overlays{}, err
	}
	if o.template, err = s.fields(template); err != nil {
		return overlays{}, err
	}
	if o.oldTemplate, err = s.fields(before); err != nil {
		return overlays{}, err
	}
	settings, err := s.Settings.service()
	if err != nil {
		return overlays{}, err
	}
	if err := s.envConflict("env", settings.Spec.Template.Spec.Containers[0].Env); err != nil {
		return overlays{}, err
	}
	if o.settings, err = partial(settings); err != nil || s.Set == nil {
		return o, err
	}
	if o.kept[settingsKey], err = keeping(s.Settings, reflect.DeepEqual(s.Settings, Settings{})); err != nil {
		return overlays{}, err
	}
	o.oldSettings, err = declared(on)
	return o, err
}

// keeping is v for an annotation, "" for nothing.
func keeping(v any, nothing bool) (string, error) {
	if nothing {
		return "", nil
	}
	kept, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("what a Service keeps: %w", err)
	}
	return string(kept), nil
}

// declared are the settings that a set has declared before.
func declared(on *unstructured.Unstructured) (map[string]any, error) {
	var before Settings
	if kept := on.GetAnnotations()[settingsKey]; kept != "" {
		if err := json.Unmarshal([]byte(kept), &before); err != nil {
			return nil, fmt.Errorf("annotation %s: %w", settingsKey, err)
		}
	}
	service, err := before.service()
	if err != nil {
		return nil, err
	}
	return partial(service)
}

// fields are those of a template, filled in; there is a model's container among them, which may say nothing.
func (s Spec) fields(t *Template) (map[string]any, error) {
	service, err := t.service(s)
	if err != nil {
		return nil, err
	}
	return partial(service)
}

// partial is a Service that says a part of another one. Its first container is the model's.
func partial(service *knative.Service) (map[string]any, error) {
	u, err := toUnstructured(service)
	if err != nil {
		return nil, err
	}
	drop(u.Object, "apiVersion", "kind")
	drop(mapAt(u.Object, "metadata"), "name", "namespace")
	drop(mapAt(u.Object, "spec"), "traffic")
	return u.Object, nil
}

// named is over, with the name of its model's container that on has for it: the one is the other, whatever they are called.
func named(over, on map[string]any) map[string]any {
	over = runtime.DeepCopyJSON(over)
	said, _ := mapAt(over, "spec", "template", "spec")["containers"].([]any)
	if present := modelOf(on); len(said) > 0 && present != nil {
		model, _ := said[0].(map[string]any)
		delete(model, "name")
		if name, ok := present["name"]; ok {
			model["name"] = name
		}
	}
	return over
}

// retract takes back what was said before and is not any more. The requests that defaults, a Service too, has instead come back.
func (o overlays) retract(service, defaults map[string]any) {
	for _, of := range []struct{ now, old map[string]any }{{o.template, o.oldTemplate}, {o.settings, o.oldSettings}} {
		if of.old == nil {
			continue
		}
		retract(service, named(of.now, service), named(of.old, service))
		for name, quantity := range requestsOf(defaults) {
			_, said := requestsOf(of.old)[name]
			if _, there := requestsOf(service)[name]; said && !there {
				model := modelOf(service)
				lay(model, map[string]any{"resources": map[string]any{"requests": map[string]any{name: quantity}}})
			}
		}
	}
}

// requestsOf are the resources that the model's container asks for.
func requestsOf(service map[string]any) map[string]any {
	return mapAt(modelOf(service), "resources", "requests")
}

// modelOf is the model's container; nil where there is none.
func modelOf(service map[string]any) map[string]any {
	containers, _ := mapAt(service, "spec", "template", "spec")["containers"].([]any)
	if len(containers) == 0 {
		return nil
	}
	model, _ := containers[servingIndex(containers)].(map[string]any)
	return model
}

// layTemplate puts the manifest on a Service.
func (o overlays) layTemplate(service map[string]any) {
	lay(service, named(o.template, service))
}

// lay puts all on a Service.
func (o overlays) lay(service map[string]any) {
	o.layTemplate(service)
	lay(service, named(o.settings, service))
	o.without.remove(service)
	for key, value := range o.kept {
		keep(service, "annotations", key, value)
	}
	if o.set != nil {
		keep(service, "labels", setLabel, *o.set)
	}
}

// keep sets a label or an annotation of a Service, "" takes it away.
func keep(service map[string]any, kind, key, value string) {
	if value == "" {
		drop(mapAt(service, "metadata", kind), key)
		return
	}
	lay(service, map[string]any{"metadata": map[string]any{kind: map[string]any{key: value}}})
}
