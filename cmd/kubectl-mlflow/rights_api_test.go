//go:build api

package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"

	"github.com/kubectl-mlflow/kubectl-mlflow/test/kit"
)

// rolesIn are the Roles that the program prints for who may not do something.
func rolesIn(t *testing.T, stderr string) []rbacv1.Role {
	t.Helper()
	_, printed, found := strings.Cut(stderr, "  apiVersion: rbac.authorization.k8s.io/v1\n")
	if !found {
		return nil
	}
	text := "apiVersion: rbac.authorization.k8s.io/v1\n" + regexp.MustCompile(`(?m)^  `).ReplaceAllString(printed, "")
	var roles []rbacv1.Role
	for _, document := range strings.Split(text, "\n---\n") {
		var role rbacv1.Role
		if err := yaml.UnmarshalStrict([]byte(document), &role); err != nil {
			t.Fatalf("%v in the Role\n%s", err, document)
		}
		if role.Kind != "Role" {
			t.Fatalf("the program wants a %s; in a namespace that is there a Role has to do", role.Kind)
		}
		roles = append(roles, role)
	}
	return roles
}

// grant binds rules to a user in the scene's namespace, and returns when they hold.
func (s *scene) grant(user, name string, rules []rbacv1.PolicyRule) {
	s.t.Helper()
	text, err := yaml.Marshal(rbacv1.Role{Rules: rules})
	if err != nil {
		s.t.Fatal(err)
	}
	_, text2, _ := strings.Cut(string(text), "rules:")
	s.controller.Apply(s.t, s.namespace, "kit", fmt.Sprintf(`apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: %[1]s, namespace: NAMESPACE}
rules:%[3]s
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: %[1]s, namespace: NAMESPACE}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: %[1]s}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: %[2]s}]`, name, user, text2))
	for _, r := range rights(rules) {
		s.controller.AwaitRight(s.t, user, s.namespace, r.verb, r.group, r.resource)
	}
}

// right is one verb on one resource.
type right struct{ verb, group, resource string }

func rights(rules []rbacv1.PolicyRule) []right {
	var all []right
	for _, rule := range rules {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					all = append(all, right{verb, group, resource})
				}
			}
		}
	}
	return all
}

func rulesOf(rights []right) []rbacv1.PolicyRule {
	rules := make([]rbacv1.PolicyRule, 0, len(rights))
	for _, r := range rights {
		rules = append(rules, rbacv1.PolicyRule{Verbs: []string{r.verb}, APIGroups: []string{r.group}, Resources: []string{r.resource}})
	}
	return rules
}

// refusedRights wants the verb refused with a Role, and nothing written.
func (s *scene) refusedRights(args ...string) []rbacv1.Role {
	s.t.Helper()
	first := len(s.proxy.Writes())
	c := s.untouched(6, nil, args...)
	if writes := s.proxy.Writes()[first:]; len(writes) > 0 {
		s.t.Errorf("it has written %v", writes)
	}
	roles := rolesIn(s.t, c.stderr.String())
	if len(roles) == 0 {
		s.t.Fatalf("no Role in\n%s", c.stderr.String())
	}
	return roles
}

// TestRealPrintedRoleIsEnough gives a user without rights what each verb prints, and no more.
func TestRealPrintedRoleIsEnough(t *testing.T) {
	s := newStage(t).scene(t)
	s.controller.Apply(t, s.namespace, "kit", namespaceYAML)
	s.config = s.proxy.KubeconfigAs(s.namespace)
	s.hasBackup()
	for i, args := range [][]string{
		{"install", "--image", older},
		{"install"},
		{"upgrade"},
		{"install", "--backup-schedule", "manual"},
		{"backup"},
		{"restore", "latest", "--replace"},
		{"uninstall"},
		{"install"},
		{"uninstall", "--delete-data"},
	} {
		c := s.start(args...)
		switch code := c.code(); {
		case code == 0 && i > 0: // what it was given before does
			continue
		case code != 6:
			t.Fatalf("%v: exit code %d, want 6\n%s", args, code, c.stderr.String())
		}
		for j, role := range s.refusedRights(args...) {
			s.grant(s.namespace, fmt.Sprintf("granted-%d-%d", i, j), role.Rules)
		}
		s.run(0, args...)
	}
}

// TestRealEachRightIsMissed takes one right after the other away: the verbs say which, before they write. Of upgrade's rights
// those are taken that install has no need of.
func TestRealEachRightIsMissed(t *testing.T) {
	stage := newStage(t)
	var installs []right
	for _, verb := range []string{"install", "uninstall", "upgrade"} {
		t.Run(verb, func(t *testing.T) {
			s := stage.scene(t)
			s.controller.Apply(t, s.namespace, "kit", namespaceYAML)
			if verb != "install" {
				s.run(0, "install", "--image", older)
			}
			s.config = s.proxy.KubeconfigAs("nobody")
			if verb != "install" { // which finds nothing to uninstall before it asks what it may
				s.grant("nobody", "nobody", rulesOf([]right{{"get", "", "configmaps"}}))
			}
			var all []right
			for _, role := range s.refusedRights(verb) {
				all = append(all, rights(role.Rules)...)
			}
			if verb != "install" {
				all = append(all, right{"get", "", "configmaps"})
			}
			if verb == "install" {
				installs = all
			}
			for i, missing := range all {
				if verb == "upgrade" && slices.Contains(installs, missing) {
					continue
				}
				t.Run(fmt.Sprintf("%s %s.%s", missing.verb, missing.resource, missing.group), func(t *testing.T) {
					t.Parallel()
					one := &scene{stage: stage, t: t, namespace: s.namespace, proxy: kit.NewProxy(t, stage.kubeconfig)}
					user := fmt.Sprintf("without-%d", i)
					one.config = one.proxy.KubeconfigAs(user)
					one.grant(user, user, rulesOf(slices.Delete(slices.Clone(all), i, i+1)))
					c := one.start(verb)
					if code := c.code(); code != 6 {
						t.Errorf("exit code %d, want 6", code)
					}
					if want := missing.verb + " " + missing.resource; !strings.Contains(c.stderr.String(), want) {
						t.Errorf("it says\n%s\nwant %q", c.stderr.String(), want)
					}
					if writes := one.proxy.Writes(); len(writes) > 0 {
						t.Errorf("it has written %v", writes)
					}
				})
			}
		})
	}
}
