package serving

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"knative.dev/serving/pkg/apis/serving"
)

// merge lays want over live and keeps all that is not ours: annotations, resources, environment variables and volumes of others, and who
// gets the requests, with the annotations that say which model that is. A template that changed bears the generation that the write will have.
func merge(live, want *unstructured.Unstructured, on overlays, adopted bool) (*unstructured.Unstructured, error) {
	merged := live.DeepCopy()
	if adopted {
		if err := adopt(merged); err != nil {
			return nil, err
		}
	}
	on.retract(merged.Object, want.Object)
	if err := mergeMetadata(merged.Object, want.Object, "labels", nil); err != nil {
		return nil, err
	}
	for _, key := range []string{envKey, modelNameKey} {
		if value, ok := want.GetAnnotations()[key]; ok {
			if err := unstructured.SetNestedField(merged.Object, value, "metadata", "annotations", key); err != nil {
				return nil, err
			}
		}
	}
	template := mapAt(merged.Object, "spec", "template")
	if template == nil {
		return nil, errors.New("it has no spec.template")
	}
	wanted, _, err := unstructured.NestedMap(want.Object, "spec", "template")
	if err != nil {
		return nil, err
	}
	stale := strings.Split(live.GetAnnotations()[envKey], ",")
	deadline, _, err := unstructured.NestedString(wanted, "metadata", "annotations", serving.ProgressDeadlineAnnotationKey)
	if err != nil {
		return nil, err
	}
	unstructured.RemoveNestedField(wanted, "metadata", "annotations", serving.ProgressDeadlineAnnotationKey) // it is no content
	if err := mergeTemplate(template, wanted, stale); err != nil {
		return nil, err
	}
	on.lay(merged.Object)
	if reflect.DeepEqual(mapAt(live.Object, "spec", "template"), template) {
		return merged, nil
	}
	if err := newRevision(template, deadline, live.GetGeneration()+1); err != nil {
		return nil, err
	}
	on.lay(merged.Object) // what the user says of the deadline goes before the timeout
	return merged, nil
}

// mergeMetadata sets want's labels or annotations, and removes the keys that are ours and that want lacks.
func mergeMetadata(into, want map[string]any, field string, ours func(key string) bool) error {
	values, _, err := unstructured.NestedStringMap(into, "metadata", field)
	if err != nil {
		return err
	}
	wanted, _, err := unstructured.NestedStringMap(want, "metadata", field)
	if err != nil {
		return err
	}
	if ours != nil {
		maps.DeleteFunc(values, func(key, _ string) bool { _, ok := wanted[key]; return ours(key) && !ok })
	}
	if values == nil {
		values = map[string]string{}
	}
	maps.Copy(values, wanted)
	return unstructured.SetNestedStringMap(into, values, "metadata", field)
}

// mergeTemplate sets what we own of the revision's template.
func mergeTemplate(into, want map[string]any, staleEnv []string) error {
	ours := func(key string) bool {
		return key == RunIDKey || strings.HasPrefix(key, prefix) && key != generationKey
	}
	if err := mergeMetadata(into, want, "annotations", ours); err != nil {
		return err
	}
	return mergePod(into, want, staleEnv)
}

// newRevision makes Knative take template as a new revision, whatever else it says.
func newRevision(template map[string]any, deadline string, generation int64) error {
	// A name that another tool gave to the last revision would clash.
	unstructured.RemoveNestedField(template, "metadata", "name")
	if deadline != "" {
		if err := unstructured.SetNestedField(template, deadline, "metadata", "annotations", serving.ProgressDeadlineAnnotationKey); err != nil {
			return err
		}
	}
	return unstructured.SetNestedField(template, strconv.FormatInt(generation, 10), "metadata", "annotations", generationKey)
}

// renew asks for a new revision of a Service whose template is as it should be, with on laid over it.
func renew(service *unstructured.Unstructured, on overlays, deadline string) error {
	template, _, err := unstructured.NestedMap(service.Object, "spec", "template")
	if err != nil {
		return err
	}
	if err := newRevision(template, deadline, service.GetGeneration()+1); err != nil {
		return err
	}
	if err := unstructured.SetNestedMap(service.Object, template, "spec", "template"); err != nil {
		return err
	}
	on.lay(service.Object) // as merge does
	return nil
}

// mergePod sets what we own of the serving container, and our volume.
func mergePod(template, want map[string]any, staleEnv []string) error {
	containers, _, err := unstructured.NestedSlice(template, "spec", "containers")
	if err != nil {
		return err
	}
	wanted, _, err := unstructured.NestedSlice(want, "spec", "containers")
	if err != nil {
		return err
	}
	if len(containers) == 0 {
		containers = wanted
	} else if err := mergeContainer(containers, wanted[0], staleEnv); err != nil {
		return err
	}
	if err := unstructured.SetNestedSlice(template, containers, "spec", "containers"); err != nil {
		return err
	}
	return mergeList(template, want, "name", nil, "spec", "volumes")
}

// servingIndex is where the model's container is among containers.
func servingIndex(containers []any) int {
	return max(0, slices.IndexFunc(containers, func(c any) bool { m, _ := c.(map[string]any); return m["ports"] != nil }))
}

func mergeContainer(containers []any, want any, staleEnv []string) error {
	// Knative sends requests to the one container that has a port.
	i := servingIndex(containers)
	container, ok := containers[i].(map[string]any)
	if !ok {
		return fmt.Errorf("spec.template.spec.containers[%d] is a %T", i, containers[i])
	}
	wanted, ok := want.(map[string]any)
	if !ok {
		return fmt.Errorf("container is a %T", want)
	}
	for _, field := range []string{"image", "ports", "readinessProbe", "securityContext"} {
		if !covers(container[field], wanted[field]) {
			container[field] = wanted[field]
		}
	}
	if err := mergeList(container, wanted, "name", staleEnv, "env"); err != nil {
		return err
	}
	return mergeList(container, wanted, "mountPath", nil, "volumeMounts")
}

// mergeList merges lists whose items have a key: those of want are set, the stale ones removed, and all others kept in their order.
func mergeList(into, want map[string]any, key string, stale []string, path ...string) error {
	items, _, err := unstructured.NestedSlice(into, path...)
	if err != nil {
		return err
	}
	wanted, _, err := unstructured.NestedSlice(want, path...)
	if err != nil {
		return err
	}
	merged := make([]any, 0, len(items)+len(wanted))
	for _, item := range items {
		i := slices.IndexFunc(wanted, func(w any) bool { return keyOf(w, key) == keyOf(item, key) })
		switch {
		case i < 0 && slices.Contains(stale, keyOf(item, key)):
		case i >= 0 && !covers(item, wanted[i]):
			merged = append(merged, wanted[i])
		default:
			merged = append(merged, item)
		}
	}
	for _, w := range wanted {
		if !slices.ContainsFunc(items, func(item any) bool { return keyOf(item, key) == keyOf(w, key) }) {
			merged = append(merged, w)
		}
	}
	if len(merged) == 0 {
		unstructured.RemoveNestedField(into, path...)
		return nil
	}
	return unstructured.SetNestedSlice(into, merged, path...)
}

// covers tells whether live says all that want says; what it says besides are the server's defaults.
func covers(live, want any) bool {
	switch want := want.(type) {
	case map[string]any:
		live, ok := live.(map[string]any)
		if !ok {
			return false
		}
		for key, value := range want {
			if !covers(live[key], value) {
				return false
			}
		}
		return true
	case []any:
		live, ok := live.([]any)
		return ok && slices.EqualFunc(live, want, covers)
	default:
		return reflect.DeepEqual(live, want)
	}
}
