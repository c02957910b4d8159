//go:build api

package main

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/kubectl-mlflow/kubectl-mlflow/test/kit"
)

// live sets what becomes of the pods of a component.
func (s *scene) live(component string, life kit.Life) {
	s.controller.Live(s.namespace, func(pod *corev1.Pod) kit.Life {
		if pod.Labels["app.kubernetes.io/component"] == component {
			return life
		}
		return kit.Life{State: kit.Runs}
	})
}

// TestRealTroubles are what install meets while it waits. It says so early, and once the trouble is over a second try is green.
func TestRealTroubles(t *testing.T) {
	stage := newStage(t)
	recovers := func(s *scene) { s.controller.Live(s.namespace, nil) }
	for _, c := range []struct {
		name   string
		ready  func(*scene)
		code   int
		within time.Duration
		says   []string
		never  string // what is not on the cluster when it fails
		cured  func(*scene)
	}{
		{
			name: "the quota lets no pod in",
			ready: func(s *scene) {
				s.controller.Apply(s.t, s.namespace, "kit", namespaceYAML+quotaYAML)
			},
			code: 4, within: 12 * time.Second, says: []string{"exceeded quota: small"}, never: "deployments/mlflow",
			cured: func(s *scene) { s.controller.Delete(s.t, s.namespace, "resourcequotas", "small") },
		},
		{
			name: "a webhook lets no pod in",
			ready: func(s *scene) {
				s.shut = &atomic.Bool{}
				s.shut.Store(true)
				s.controller.Apply(s.t, s.namespace, "kit", namespaceYAML+"\n---\n"+
					webhookYAML(s.t, "pods", func() (bool, string) { return !s.shut.Load(), "no pods on Thursdays" }))
			},
			code: 4, within: 12 * time.Second, says: []string{"no pods on Thursdays"}, never: "deployments/mlflow",
			cured: func(s *scene) { s.shut.Store(false) },
		},
		{
			name: "the image is not there",
			ready: func(s *scene) {
				s.live("server", kit.Life{State: kit.Waits, Reason: "ErrImagePull", Says: "ghcr.io/mlflow/mlflow: manifest unknown: not found"})
			},
			code: 4, within: 30 * time.Second, says: []string{"pod/mlflow-", "manifest unknown"}, cured: recovers,
		},
		{
			name: "the migration fails",
			ready: func(s *scene) {
				s.proxy.Kubelet.Log = func(_, _ string) string { return "the database belongs to a newer MLflow\n" }
				s.live("migration", kit.Life{State: kit.Fails})
			},
			code: 4, within: 10 * time.Second, says: []string{"job.batch/mlflow-migration-", "the database belongs to a newer MLflow"}, never: "deployments/mlflow",
			cured: recovers,
		},
		{
			name: "the server ends again and again",
			ready: func(s *scene) {
				s.proxy.Kubelet.Log = func(_, _ string) string { return "no such table: experiments\n" }
				s.live("server", kit.Life{State: kit.Fails})
			},
			code: 4, within: 10 * time.Second, says: []string{"pod/mlflow-", "no such table: experiments"}, cured: recovers,
		},
		{
			name:  "what is waited for may not be watched",
			ready: func(s *scene) { s.proxy.Fail(kit.Deny("watch", "statefulsets")) },
			code:  6, within: 10 * time.Second, says: []string{"you may not watch statefulset"}, never: "deployments/mlflow",
			cured: func(s *scene) { s.proxy.Fail(nil) },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := stage.scene(t)
			c.ready(s)
			call := s.run(c.code, "install")
			if call.took > c.within {
				t.Errorf("it took %s to say so, want %s", call.took, c.within)
			}
			for _, text := range c.says {
				if !strings.Contains(call.stderr.String(), text) {
					t.Errorf("it says\n%s\nwant %q", call.stderr.String(), text)
				}
			}
			before := s.controller.Portrait(t, s.namespace)
			if _, there := before.Objects[c.never]; there {
				t.Errorf("it went on to %s", c.never)
			}
			c.cured(s)
			s.run(0, "install")
			after := s.controller.Portrait(t, s.namespace)
			if diff := cmp.Diff(before.Secrets, after.Secrets); diff != "" && len(before.Secrets) > 0 {
				t.Error("the passwords are new")
			}
		})
	}
}

// quotaYAML lets no pod in.
const quotaYAML = `
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: small}
spec: {hard: {pods: "0"}}
status: {hard: {pods: "0"}, used: {pods: "0"}}`
