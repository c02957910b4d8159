package kit

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"
)

// RolesIn is what the Roles in a file of the manifests allow, each "VERB RESOURCE.GROUP" or "VERB RESOURCE.GROUP/NAME", sorted.
func RolesIn(t testing.TB, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var allowed []string
	for document := range bytes.SplitSeq(text, []byte("\n---\n")) {
		var role rbacv1.Role
		if err := yaml.Unmarshal(document, &role); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if role.Kind != "Role" {
			continue
		}
		for _, rule := range role.Rules {
			allowed = append(allowed, rights(rule)...)
		}
	}
	slices.Sort(allowed)
	return allowed
}

func rights(rule rbacv1.PolicyRule) []string {
	names := rule.ResourceNames
	if len(names) == 0 {
		names = []string{""}
	}
	var all []string
	for _, group := range rule.APIGroups {
		for _, resource := range rule.Resources {
			for _, verb := range rule.Verbs {
				for _, name := range names {
					all = append(all, strings.TrimRight(verb+" "+resource+"."+group+"/"+name, "./"))
				}
			}
		}
	}
	return all
}
