//go:build api

package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kubectl-mlflow/kubectl-mlflow/test/kit"
)

// TestRealForcedConflicts takes a field back that another manager had set.
func TestRealForcedConflicts(t *testing.T) {
	s := newStage(t).scene(t)
	s.run(0, "install")
	want := s.controller.Portrait(t, s.namespace)
	s.controller.Apply(t, s.namespace, "somebody", memoryYAML)
	s.untouched(5, []string{"deployment.apps/mlflow", ".resources.limits.memory", `"somebody"`, "--force-conflicts"}, "install")
	if c := s.run(0, "install", "--force-conflicts"); !strings.Contains(c.stdout.String(), "deployment.apps/mlflow configured") {
		t.Errorf("got\n%s", c.stdout.String())
	}
	s.same(want, want)
	s.untouched(0, nil, "install")
}

// TestRealScaledByHand has the number of servers be somebody else's to say.
func TestRealScaledByHand(t *testing.T) {
	s := newStage(t).scene(t)
	s.run(0, "install")
	s.controller.Edit(t, s.namespace, "deployments.v1.apps", "mlflow", `{"spec":{"replicas":2}}`)
	s.untouched(0, []string{"nothing changed"}, "install")
	if d := s.controller.Portrait(t, s.namespace).Objects["deployments/mlflow"]; !strings.Contains(d, "replicas: 2") {
		t.Errorf("the Deployment is\n%s\nwant its 2 replicas kept", d)
	}
}

// TestRealUninstallLeavesWhatIsNotOurs has other things in the namespace, and one under a name of ours.
func TestRealUninstallLeavesWhatIsNotOurs(t *testing.T) {
	s := newStage(t).scene(t)
	s.run(0, "install")
	s.controller.Delete(t, s.namespace, "services", "postgres")
	const foreign = `
---
apiVersion: v1
kind: ConfigMap
metadata: {name: theirs}
data: {a: b}
---
apiVersion: v1
kind: Secret
metadata: {name: theirs}
stringData: {a: b}`
	s.controller.Apply(t, s.namespace, "somebody", strings.TrimPrefix(theirs("")+foreign, "\n---\n"))
	before := s.controller.Portrait(t, s.namespace)
	s.run(0, "uninstall", "--delete-data")
	after := s.controller.Portrait(t, s.namespace)
	left := map[string]string{}
	for _, name := range []string{"services/postgres", "configmaps/theirs", "secrets/theirs", "namespaces/NAMESPACE"} {
		left[name] = before.Objects[name]
	}
	if diff := cmp.Diff(left, after.Objects); diff != "" {
		t.Errorf("what is left differs from what was not ours (-want +got):\n%s", diff)
	}
	s.untouched(2, []string{"there is no MLflow"}, "uninstall")
}

// TestRealUpgradeWithAFailingMigration leaves the old server's Deployment as it was, and both ways are open.
func TestRealUpgradeWithAFailingMigration(t *testing.T) {
	stage := newStage(t)
	for _, way := range []struct {
		name string
		args []string
		says string
	}{
		{"on", []string{"upgrade"}, "upgraded"},
		{"back", []string{"install"}, "installed"},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			s := stage.scene(t)
			s.run(0, "install", "--image", older)
			before := s.controller.Portrait(t, s.namespace)
			s.proxy.Kubelet.Log = func(_, _ string) string { return "relation experiments is locked\n" }
			s.live("migration", kit.Life{State: kit.Fails})
			c := s.run(4, "upgrade")
			for _, text := range []string{"relation experiments is locked", "run the same command again", "kubectl mlflow install"} {
				if !strings.Contains(c.stderr.String(), text) {
					t.Errorf("it says\n%s\nwant %q", c.stderr.String(), text)
				}
			}
			stopped := strings.ReplaceAll(before.Objects["deployments/mlflow"], "replicas: 1", "replicas: 0")
			if diff := cmp.Diff(stopped, s.controller.Portrait(t, s.namespace).Objects["deployments/mlflow"]); diff != "" {
				t.Errorf("the old server is not as it was (-want +got):\n%s", diff)
			}
			s.released()
			s.controller.Live(s.namespace, nil)
			if c := s.run(0, way.args...); !strings.Contains(c.stderr.String(), way.says) {
				t.Errorf("it says\n%s\nwant %q", c.stderr.String(), way.says)
			}
			after := s.controller.Portrait(t, s.namespace)
			if diff := cmp.Diff(before.Secrets, after.Secrets); diff != "" {
				t.Error("the passwords are new")
			}
			if way.name == "back" {
				s.same(before, before)
			} else if !strings.Contains(after.Objects["configmaps/kubectl-mlflow"], "head-of-v3.17.2-full") {
				t.Errorf("the record is\n%s", after.Objects["configmaps/kubectl-mlflow"])
			}
		})
	}
}
