package cluster

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
)

// Roles is YAML that grants the accesses: a Role for each namespace and, for what lies in none, a ClusterRole. The same
// accesses in another order give the same text; none give "".
func Roles(accesses []Access) string {
	within := map[string][]Access{}
	for _, a := range accesses {
		within[a.Namespace] = append(within[a.Namespace], a)
	}
	var docs []string
	for _, namespace := range slices.Sorted(maps.Keys(within)) {
		kind, where := "ClusterRole", ""
		if namespace != "" {
			kind, where = "Role", "\n  namespace: "+namespace
		}
		doc := fmt.Sprintf("apiVersion: rbac.authorization.k8s.io/v1\nkind: %s\nmetadata:\n  name: %s%s\nrules:\n", kind, FieldManager, where)
		for _, r := range rules(within[namespace]) {
			doc += r.yaml()
		}
		docs = append(docs, doc)
	}
	return strings.Join(docs, "---\n")
}

// rule is one rule of a role, as RBAC has it.
type rule struct{ groups, resources, names, verbs []string }

func (r rule) yaml() string {
	text := fmt.Sprintf("- apiGroups: [%s]\n  resources: [%s]\n", quoted(r.groups), quoted(r.resources))
	if len(r.names) > 0 {
		text += fmt.Sprintf("  resourceNames: [%s]\n", quoted(r.names))
	}
	return text + fmt.Sprintf("  verbs: [%s]\n", quoted(r.verbs))
}

func quoted(words []string) string {
	list := make([]string, 0, len(words))
	for _, w := range words {
		list = append(list, strconv.Quote(w))
	}
	return strings.Join(list, ", ")
}

// rules grants the accesses in few lines: first all names of a verb, then all verbs of the same names, then all resources
// of the same names and verbs.
func rules(accesses []Access) []rule {
	list := make([]rule, 0, len(accesses))
	for _, a := range accesses {
		r := rule{groups: []string{a.Group}, resources: []string{resourceName(a)}, verbs: []string{a.Verb}}
		if a.Name != "" && a.Verb != "create" && a.Verb != "deletecollection" { // there is no name yet, or more than one
			r.names = []string{a.Name}
		}
		list = append(list, r)
	}
	list = dropCovered(list)
	list = merged(list, func(r *rule) *[]string { return &r.names })
	list = merged(list, func(r *rule) *[]string { return &r.verbs })
	return merged(list, func(r *rule) *[]string { return &r.resources })
}

// dropCovered drops what is granted for some names where it is granted for all.
func dropCovered(list []rule) []rule {
	all := map[string]bool{}
	for _, r := range list {
		if len(r.names) == 0 {
			all[r.key()] = true
		}
	}
	return slices.DeleteFunc(list, func(r rule) bool {
		named := len(r.names) > 0
		r.names = nil
		return named && all[r.key()]
	})
}

// merged joins the rules that differ in one part only, and sorts.
func merged(list []rule, part func(*rule) *[]string) []rule {
	var out []rule
	at := map[string]int{}
	for _, r := range list {
		values := *part(&r)
		*part(&r) = nil
		key := r.key()
		*part(&r) = values
		i, ok := at[key]
		if !ok {
			at[key] = len(out)
			out = append(out, r)
			continue
		}
		values = append(slices.Clone(*part(&out[i])), values...)
		slices.Sort(values)
		*part(&out[i]) = slices.Compact(values)
	}
	slices.SortFunc(out, func(a, b rule) int { return cmp.Compare(a.key(), b.key()) })
	return out
}

func (r rule) key() string {
	parts := []string{}
	for _, p := range [][]string{r.groups, r.resources, r.names, r.verbs} {
		parts = append(parts, strings.Join(p, ","))
	}
	return strings.Join(parts, " ")
}

// resourceName is the resource as RBAC writes it: "deployments/scale".
func resourceName(a Access) string {
	name := a.Resource
	if name == "" { // Missing has not asked the server
		plural, _ := meta.UnsafeGuessKindToResource(a.GroupVersionKind)
		name = plural.Resource
	}
	if a.Subresource != "" {
		name += "/" + a.Subresource
	}
	return name
}
