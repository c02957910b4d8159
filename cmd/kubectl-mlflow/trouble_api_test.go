//go:build api

package main

import (
	"slices"
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

// trouble is something that a verb meets while it waits.
type trouble struct {
	name   string
	ready  func(*scene) // before the verb runs
	args   []string     // the verb; none is install
	code   int
	within time.Duration
	says   []string
	waits  bool   // `wait` says the same
	never  string // what is not on the cluster when it fails
	cured  func(*scene)
}

// TestRealTroubles are what install and upgrade meet while they wait. They say so early where waiting will not help, and else
// when their time is over; they give the lock back, and once the trouble is over the same command is green, with the passwords
// that there were.
func TestRealTroubles(t *testing.T) {
	t.Parallel() // it waits
	stage := newStage(t)
	for _, c := range slices.Concat(refusedPods(), pods("server", "", serverTroubles()), pods("database", "deployments/", databaseTroubles()),
		migrationTroubles(), slowTroubles(), upgradeTroubles()) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := stage.scene(t)
			c.ready(s)
			if c.args == nil {
				c.args = []string{"install"}
			}
			c.told(t, s.run(c.code, c.args...))
			s.released()
			before := s.controller.Portrait(t, s.namespace)
			if len(before.Secrets) == 0 {
				t.Error("there is no password yet: the trouble came before the wait")
			}
			for name := range before.Objects {
				if c.never != "" && strings.HasPrefix(name, c.never) {
					t.Errorf("it went on to %s", name)
				}
			}
			if c.waits {
				c.told(t, s.run(c.code, "wait", "--timeout", "40s"))
			}
			c.cured(s)
			s.run(0, withoutTimeout(c.args)...)
			s.run(0, "wait")
			after := s.controller.Portrait(t, s.namespace)
			if diff := cmp.Diff(before.Secrets, after.Secrets); diff != "" {
				t.Error("the passwords are new")
			}
		})
	}
}

// told holds what a verb said of the trouble, and when.
func (c trouble) told(t *testing.T, call *call) {
	t.Helper()
	if call.took > c.within {
		t.Errorf("it took %s to say so, want %s", call.took, c.within)
	}
	for _, text := range append([]string{"error: ", "\nhint: "}, c.says...) {
		if !strings.Contains(call.stderr.String(), text) {
			t.Errorf("it says\n%s\nwant %q", call.stderr.String(), text)
		}
	}
}

// withoutTimeout is a command line that waits as long as it does by itself.
func withoutTimeout(args []string) []string {
	if i := slices.Index(args, "--timeout"); i >= 0 {
		return slices.Concat(args[:i], args[i+2:])
	}
	return args
}

func recovers(s *scene) { s.controller.Live(s.namespace, nil) }

// refusedPods are troubles of pods that are not even created.
func refusedPods() []trouble {
	return []trouble{
		{
			name: "the quota lets no pod in",
			ready: func(s *scene) {
				s.controller.Apply(s.t, s.namespace, "kit", namespaceYAML+quotaYAML)
			},
			code: 4, within: 12 * time.Second, says: []string{"exceeded quota: small"}, never: "deployments/",
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
			code: 4, within: 12 * time.Second, says: []string{"no pods on Thursdays"}, never: "deployments/",
			cured: func(s *scene) { s.shut.Store(false) },
		},
		{
			name:  "what is waited for may not be watched",
			ready: func(s *scene) { s.proxy.Fail(kit.Deny("watch", "statefulsets")) },
			code:  6, within: 10 * time.Second, says: []string{"you may not watch statefulset"}, never: "deployments/",
			cured: func(s *scene) { s.proxy.Fail(nil) },
		},
	}
}

// ill is a life of pods that waiting does not mend.
type ill struct {
	name   string
	life   kit.Life
	log    string // of the container
	within time.Duration
	says   []string
}

// pods are the troubles of pods of a component that live like this; never is what comes after it.
func pods(component, never string, ills []ill) []trouble {
	var troubles []trouble
	for _, i := range ills {
		troubles = append(troubles, trouble{
			name: component + ": " + i.name,
			ready: func(s *scene) {
				s.proxy.Kubelet.Log = func(_, _ string) string { return i.log }
				s.live(component, i.life)
			},
			code: 4, within: i.within, says: i.says, waits: component == "server", never: never, cured: recovers,
		})
	}
	return troubles
}

// serverTroubles are the rows of the diagnosis table that end a wait. How long each has to last is in the table; the rest of
// within is what the machine may take.
func serverTroubles() []ill {
	const now, soon, later = 10 * time.Second, 25 * time.Second, 35 * time.Second
	pull := func(says string) kit.Life { return kit.Life{State: kit.Waits, Reason: "ErrImagePull", Says: says} }
	return []ill{
		{"the image is not there", pull("ghcr.io/mlflow/mlflow: manifest unknown: not found"), "", soon,
			[]string{"pod/mlflow-", "manifest unknown", "image's name and tag"}},
		{"the image may not be pulled", pull("failed to authorize: 403 Forbidden"), "", soon, []string{"pod/mlflow-", "403 Forbidden", "imagePullSecret"}},
		{"the image is for other machines", pull("no match for platform in manifest: not found"), "", soon, []string{"pod/mlflow-", "no match for platform", "kubernetes.io/arch"}},
		{"the image's name is none", kit.Life{State: kit.Waits, Reason: "InvalidImageName", Says: "invalid reference format"}, "", now,
			[]string{"pod/mlflow-", "invalid reference format", "correct the image's name"}},
		{"the image is never pulled", kit.Life{State: kit.Waits, Reason: "ErrImageNeverPull", Says: "not present with pull policy of Never"}, "", now,
			[]string{"pod/mlflow-", "pull policy of Never"}},
		{"a Secret is not there", kit.Life{State: kit.Waits, Reason: "CreateContainerConfigError", Says: `secret "mlflow-secret" not found`}, "", later,
			[]string{"pod/mlflow-", `secret "mlflow-secret" not found`, "create the Secret"}},
		{"the container does not start", kit.Life{State: kit.Waits, Reason: "RunContainerError", Says: "exec: mlflow: permission denied"}, "", later,
			[]string{"pod/mlflow-", "permission denied", "command, security context"}},
		{"it ends again and again", kit.Life{State: kit.Fails}, "no such table: experiments\n", now,
			[]string{"pod/mlflow-", "again and again", "no such table: experiments"}},
		{"it needs more memory", kit.Life{State: kit.Fails, Reason: "OOMKilled"}, "loading\n", now,
			[]string{"pod/mlflow-", "more memory than its limit", "raise the container's memory limit"}},
	}
}

// databaseTroubles are few: the table is the same, and what matters is that nothing comes after the database.
func databaseTroubles() []ill {
	return []ill{
		{"the image may not be pulled", kit.Life{State: kit.Waits, Reason: "ErrImagePull", Says: "pull access denied"}, "", 25 * time.Second,
			[]string{"pod/postgres-0", "pull access denied", "imagePullSecret"}},
		{"it ends again and again", kit.Life{State: kit.Fails}, "could not open file \"global/pg_control\"\n", 10 * time.Second,
			[]string{"pod/postgres-0", "again and again", "global/pg_control"}},
	}
}

func migrationTroubles() []trouble {
	return pods("migration", "", []ill{
		{"it fails", kit.Life{State: kit.Fails}, "the database belongs to a newer MLflow\n", 10 * time.Second,
			[]string{"job.batch/mlflow-migration-", "the database belongs to a newer MLflow"}},
		{"it needs more memory", kit.Life{State: kit.Fails, Reason: "OOMKilled"}, "migrating\n", 10 * time.Second,
			[]string{"mlflow-migration-", "more memory than its limit"}},
		{"the image is not there", kit.Life{State: kit.Waits, Reason: "ErrImagePull", Says: "manifest unknown"}, "", 25 * time.Second,
			[]string{"pod/mlflow-migration-", "manifest unknown"}},
	})
}

// slowTroubles may pass by themselves: they are told when the time is over, with what was seen.
func slowTroubles() []trouble {
	const patient, within = "12s", 25 * time.Second
	slow := func(name, component string, life kit.Life, log string, says ...string) trouble {
		return trouble{
			name: component + ", in time: " + name,
			ready: func(s *scene) {
				s.proxy.Kubelet.Log = func(_, _ string) string { return log }
				s.live(component, life)
			},
			args: []string{"install", "--timeout", patient}, code: 3, within: within, says: append(says, "not ready in time"), cured: recovers,
		}
	}
	return []trouble{
		slow("no node takes it", "server", kit.Life{State: kit.Unscheduled, Says: "0/3 nodes are available: 3 Insufficient memory."}, "",
			"pod/mlflow-", "3 Insufficient memory", "free or add nodes"),
		slow("the registry limits the rate", "server", kit.Life{State: kit.Waits, Reason: "ImagePullBackOff", Says: "toomanyrequests: You have reached your pull rate limit"}, "",
			"pod/mlflow-", "pull rate limit", "the registry is slow"),
		slow("a volume is not mounted", "database", kit.Life{State: kit.Waits, Event: "FailedMount", Says: "volume is attached to another node"}, "",
			"pod/postgres-0", "attached to another node", "kubectl get pvc"),
		slow("the node gives it no network", "server", kit.Life{State: kit.Waits, Event: "FailedCreatePodSandBox", Says: "no IP addresses left"}, "",
			"pod/mlflow-", "no IP addresses left", "the node's network"),
		slow("its probe fails", "server", kit.Life{State: kit.Unready, Event: "Unhealthy", Says: "Startup probe failed: HTTP probe failed with statuscode: 500"},
			"ImportError: libpq\n", "pod/mlflow-", "statuscode: 500", "ImportError: libpq"),
		{
			name:  "there is no volume, in time",
			ready: func(s *scene) { s.controller.Barren(s.namespace, "no space left in pool fast") },
			args:  []string{"install", "--timeout", patient}, code: 3, within: within,
			says: []string{"pod/postgres-0", "persistentvolumeclaim/postgres-data does not come", "no space left in pool fast"}, never: "deployments/",
			cured: func(s *scene) { s.controller.Barren(s.namespace, "") },
		},
	}
}

// upgradeTroubles come when the old server is stopped and the schema is the new one: the only way is on.
func upgradeTroubles() []trouble {
	missing := func(s *scene) {
		s.run(0, "install", "--image", older)
		s.live("server", kit.Life{State: kit.Waits, Reason: "ErrImagePull", Says: "v3.17.2-full: manifest unknown"})
	}
	return []trouble{
		{
			name: "upgrade: the new server's image is not there", ready: missing, args: []string{"upgrade"},
			code: 4, within: 30 * time.Second, says: []string{"pod/mlflow-", "manifest unknown"}, waits: true, cured: recovers,
		},
		{
			name: "upgrade: the new server's image is not there, and install goes on", ready: missing, args: []string{"upgrade"},
			code: 4, within: 30 * time.Second, says: []string{"pod/mlflow-", "manifest unknown"},
			cured: func(s *scene) {
				recovers(s)
				s.run(0, "install")
				if got := s.controller.Portrait(s.t, s.namespace).Objects["deployments/mlflow"]; !strings.Contains(got, "v3.17.2-full") || !strings.Contains(got, "replicas: 1") {
					s.t.Errorf("install did not go on with the new version:\n%s", got)
				}
			},
		},
		{
			name: "upgrade: no node takes the new server, in time",
			ready: func(s *scene) {
				s.run(0, "install", "--image", older)
				s.live("server", kit.Life{State: kit.Unscheduled, Says: "0/3 nodes are available: 3 Insufficient cpu."})
			},
			args: []string{"upgrade", "--timeout", "15s"}, code: 3, within: 28 * time.Second, says: []string{"3 Insufficient cpu", "not ready in time"}, cured: recovers,
		},
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
