package serving

import (
	"reflect"
	"slices"
	"strings"
)

// lay puts over on into, field by field: maps deeply, lists whose items have a key item by item, all else as a whole. Other fields stay.
func lay(into, over map[string]any) {
	for field, value := range over {
		into[field] = laid(field, into[field], value)
	}
}

func laid(field string, into, over any) any {
	switch over := over.(type) {
	case map[string]any:
		if isProbe(field) {
			break
		}
		below, _ := into.(map[string]any)
		if below == nil {
			below = map[string]any{}
		}
		lay(below, over)
		return below
	case []any:
		if key := listKey(field); key != "" {
			items, _ := into.([]any)
			return layList(items, over, key)
		}
	}
	if covers(into, over) {
		return into // with the server's defaults
	}
	return over
}

// isProbe tells fields of which two kinds do not go together.
func isProbe(field string) bool { return strings.HasSuffix(field, "Probe") }

// listKey is the field that tells a list's items apart; "" where they are one whole.
func listKey(field string) string {
	switch field {
	case "containers", "initContainers", "env", "volumes", "imagePullSecrets":
		return "name"
	case "volumeMounts":
		return "mountPath"
	}
	return ""
}

func layList(items, over []any, key string) []any {
	merged := slices.Clone(items)
	for _, item := range over {
		wanted, _ := item.(map[string]any)
		if here := withKey(merged, item, key); here != nil {
			lay(here, wanted)
		} else {
			merged = append(merged, item)
		}
	}
	return merged
}

// withKey is the item of list that has the key of like; nil where none has.
func withKey(list []any, like any, key string) map[string]any {
	i := slices.IndexFunc(list, func(item any) bool { return keyOf(item, key) == keyOf(like, key) })
	if i < 0 {
		return nil
	}
	found, _ := list[i].(map[string]any)
	return found
}

func keyOf(item any, key string) string {
	fields, _ := item.(map[string]any)
	value, _ := fields[key].(string)
	return value
}

// retract takes back what was said of into, and is not any more; what others have changed since stays.
func retract(into, over, was map[string]any) {
	for field, before := range was {
		now, still := over[field]
		switch here := into[field].(type) {
		case map[string]any:
			said, isMap := before.(map[string]any)
			below, _ := now.(map[string]any)
			if !isMap || isProbe(field) && still {
				continue
			}
			retract(here, below, said)
			if len(here) == 0 || isProbe(field) {
				delete(into, field)
			}
		case []any:
			said, _ := before.([]any)
			below, _ := now.([]any)
			left := retractList(here, below, said, listKey(field))
			if into[field] = left; len(left) == 0 {
				delete(into, field)
			}
		default:
			if !still && reflect.DeepEqual(here, before) {
				delete(into, field)
			}
		}
	}
}

func retractList(items, over, was []any, key string) []any {
	if key == "" {
		if over == nil && reflect.DeepEqual(items, was) {
			return nil
		}
		return items
	}
	return slices.DeleteFunc(slices.Clone(items), func(item any) bool {
		before, now := withKey(was, item, key), withKey(over, item, key)
		here, ok := item.(map[string]any)
		if before == nil || !ok {
			return false
		}
		if now != nil {
			retract(here, now, before)
		}
		return now == nil
	})
}
