package readiness

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

// wait plays a film with ten minutes' time, and tells how long it took.
func wait(t *testing.T, f Observer, targets ...Target) (took time.Duration, said []string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	began, n := time.Now(), &notes{}
	err = Wait(ctx, f, targets, n)
	return time.Since(began), n.texts, err
}

func TestWaitReturnsWhenAllIsCurrent(t *testing.T) {
	mlflow, postgres := target("apps", "Deployment", "mlflow"), target("apps", "StatefulSet", "postgres")
	for _, tc := range []struct {
		name    string
		targets []Target
		moments []moment
		took    time.Duration
		said    string
	}{
		{"nothing to wait for", nil, nil, 0, ""},
		{"from the first list", []Target{mlflow, postgres}, []moment{show(0, deployment(t, "mlflow", 1), statefulSet(t, 1))}, 0, ""},
		{
			"step by step", []Target{mlflow, postgres},
			[]moment{
				show(0),
				show(2*time.Second, deployment(t, "mlflow", 0)),
				show(4*time.Second, deployment(t, "mlflow", 0), statefulSet(t, 0)),
				show(9*time.Second, deployment(t, "mlflow", 0), statefulSet(t, 1)),
				show(12*time.Second, deployment(t, "mlflow", 1), statefulSet(t, 1)),
			},
			12 * time.Second,
			"deployment.apps/mlflow: not created yet (and 1 more)|deployment.apps/mlflow: Available: 0/1 (and 1 more)|deployment.apps/mlflow: Available: 0/1",
		},
		{
			"a claim without a consumer is not waited for", []Target{target("", "PersistentVolumeClaim", "data")},
			[]moment{
				show(0, claim(t, "Pending", nil)),
				show(time.Second, claim(t, "Pending", nil), warning(t, claim(t, "Pending", nil), "WaitForFirstConsumer", "waiting for first consumer", 1)),
			},
			time.Second, "persistentvolumeclaim/data: PVC is not Bound. phase: Pending",
		},
		{
			"a claim with a consumer is", []Target{target("", "PersistentVolumeClaim", "data")},
			[]moment{
				show(0, claim(t, "Pending", map[string]string{"volume.kubernetes.io/selected-node": "n"}), warning(t, claim(t, "Pending", nil), "WaitForFirstConsumer", "waiting for first consumer", 1)),
				show(time.Second, claim(t, "Bound", nil)),
			},
			time.Second, "persistentvolumeclaim/data: PVC is not Bound. phase: Pending; WaitForFirstConsumer: waiting for first consumer",
		},
		{
			"a Job that runs is not ready", []Target{target("batch", "Job", "migration")},
			[]moment{show(0, job(t, "", "")), show(time.Second, job(t, batchv1.JobComplete, ""))},
			time.Second, "job.batch/migration: running: 1 active, 0 failed",
		},
		{
			"a status of the spec before is not believed", []Target{mlflow},
			[]moment{
				show(0, deployment(t, "mlflow", 1, func(d *appsv1.Deployment) { d.Generation = 2 })),
				show(time.Second, deployment(t, "mlflow", 1, func(d *appsv1.Deployment) { d.Status = appsv1.DeploymentStatus{} })),
				show(2*time.Second, deployment(t, "mlflow", 1)),
			},
			2 * time.Second, "deployment.apps/mlflow: its controller has not begun with the newest spec yet|deployment.apps/mlflow: its controller has not seen it yet",
		},
		{
			"a slow rollout goes on", []Target{mlflow},
			[]moment{
				show(0, deployment(t, "mlflow", 0, func(d *appsv1.Deployment) {
					d.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Reason: "ProgressDeadlineExceeded"}}
				})),
				show(time.Second, deployment(t, "mlflow", 1)),
			},
			time.Second, "deployment.apps/mlflow: the rollout takes longer than spec.progressDeadlineSeconds",
		},
		{
			"two restarts for a late database are no loop", []Target{mlflow},
			[]moment{
				show(0, deployment(t, "mlflow", 0), pod(t, "mlflow", container(waits("CrashLoopBackOff", ""), 1, exit(1, "Error")))),
				show(30*time.Second, deployment(t, "mlflow", 0), pod(t, "mlflow", container(runs(), 2, exit(1, "Error")))),
				show(time.Minute, deployment(t, "mlflow", 1)),
			},
			time.Minute, "deployment.apps/mlflow: pod/mlflow-pod: container main: it ended with exit code 1 and is started again|" +
				"deployment.apps/mlflow: pod/mlflow-pod: container main: running, not ready yet",
		},
		{
			"a Secret that comes late is no failure", []Target{mlflow},
			[]moment{
				show(0, deployment(t, "mlflow", 0), pod(t, "mlflow", container(waits("CreateContainerConfigError", `secret "s" not found`), 0, nil))),
				show(15*time.Second, deployment(t, "mlflow", 0), pod(t, "mlflow", container(runs(), 0, nil))),
				show(16*time.Second, deployment(t, "mlflow", 0), pod(t, "mlflow", container(waits("CreateContainerConfigError", `secret "t" not found`), 0, nil))),
				show(31*time.Second, deployment(t, "mlflow", 1)),
			},
			31 * time.Second, `deployment.apps/mlflow: pod/mlflow-pod: container main: secret "s" not found|deployment.apps/mlflow: pod/mlflow-pod: container main: running, not ready yet|` +
				`deployment.apps/mlflow: pod/mlflow-pod: container main: secret "t" not found`,
		},
		{
			"pods of an older ReplicaSet, and pods on their way out, are not looked at", []Target{mlflow},
			[]moment{
				show(0, deployment(t, "mlflow", 0), replicaSet(t, "mlflow-old", "1", "a:1"), replicaSet(t, "mlflow-new", "2", ""),
					pod(t, "mlflow", crashing(), ownedBy("mlflow-old")),
					pod(t, "mlflow", crashing(), func(p *corev1.Pod) { p.Name, p.UID, p.DeletionTimestamp = "leaving", "x", new(metav1.Now()) })),
				show(time.Second, deployment(t, "mlflow", 1)),
			},
			time.Second, "deployment.apps/mlflow: Available: 0/1",
		},
		{
			"pods of the spec before are not looked at", []Target{mlflow},
			[]moment{
				show(0, deployment(t, "mlflow", 0, func(d *appsv1.Deployment) { d.Generation = 2 }), pod(t, "mlflow", crashing())),
				show(time.Second, deployment(t, "mlflow", 1)),
			},
			time.Second, "deployment.apps/mlflow: its controller has not begun with the newest spec yet",
		},
		{
			"a Deployment that first stops the pods of the spec before says nothing of its own yet", []Target{mlflow},
			[]moment{
				show(0, deployment(t, "mlflow", 0, stuck), replicaSet(t, "mlflow-old", "2", "a:1"), pod(t, "mlflow", crashing(), ownedBy("mlflow-old"))),
				show(time.Second, deployment(t, "mlflow", 0, stuck), replicaSet(t, "mlflow-old", "2", "a:1"), replicaSet(t, "mlflow-new", "3", "")),
				show(2*time.Second, deployment(t, "mlflow", 1)),
			},
			2 * time.Second, "deployment.apps/mlflow: its controller has not begun with the newest spec yet",
		},
		{
			"a StatefulSet's pod of the spec before says nothing of the new one", []Target{postgresSet()},
			[]moment{
				show(0, updated(t, 0), pod(t, "postgres", crashing(), ofRevision("postgres-1"))),
				show(time.Minute, updated(t, 0), pod(t, "postgres", container(runs(), 0, nil), ofRevision("postgres-2"))),
				show(2*time.Minute, updated(t, 1)),
			},
			2 * time.Minute, "statefulset.apps/postgres: pod/postgres-pod is still of the spec before|" +
				"statefulset.apps/postgres: pod/postgres-pod: container main: running, not ready yet",
		},
		{
			"what an older ReplicaSet could not create is not what the new one cannot", []Target{mlflow},
			[]moment{
				show(0, deployment(t, "mlflow", 0, refused), replicaSet(t, "mlflow-old", "1", "a:1"), replicaSet(t, "mlflow-new", "2", "")),
				show(time.Minute, deployment(t, "mlflow", 1)),
			},
			time.Minute, "deployment.apps/mlflow: Available: 0/1",
		},
		{
			"a FailedCreate from before the wait is over", []Target{postgresSet()},
			[]moment{
				show(0, statefulSet(t, 0), warning(t, statefulSet(t, 0), "FailedCreate", "exceeded quota: q", 1)),
				show(time.Minute, statefulSet(t, 1)),
			},
			time.Minute, "statefulset.apps/postgres: Replicas: 0/1; FailedCreate: exceeded quota: q",
		},
		{
			"a Deployment's refusal from before the wait is over", []Target{mlflow},
			[]moment{
				show(0, deployment(t, "mlflow", 0, refused), refusedSet(t), warning(t, refusedSet(t), "FailedCreate", "exceeded quota: q", 1)),
				show(time.Minute, deployment(t, "mlflow", 1)),
			},
			time.Minute, "deployment.apps/mlflow: no pod is created: exceeded quota: q",
		},
		{
			"a Deployment's refusal from before the wait, of which no ReplicaSet is seen", []Target{mlflow},
			[]moment{show(0, deployment(t, "mlflow", 0, refused)), show(time.Minute, deployment(t, "mlflow", 1))},
			time.Minute, "deployment.apps/mlflow: no pod is created: exceeded quota: q",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				took, said, err := wait(t, &film{moments: tc.moments}, tc.targets...)
				if err != nil || took != tc.took {
					t.Errorf("took %s, %v; want %s", took, err, tc.took)
				}
				if got := strings.Join(said, "|"); got != tc.said {
					t.Errorf("said %s\nwant %s", got, tc.said)
				}
			})
		})
	}
}

// stuck is a Deployment that was given up before, and refused one that could not create its pods.
func stuck(d *appsv1.Deployment) {
	d.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Reason: "ProgressDeadlineExceeded", Message: "timed out"}}
}

func refused(d *appsv1.Deployment) {
	d.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate", Message: "exceeded quota: q"}}
}

// refusedSet is the newest ReplicaSet of the Deployment mlflow's that could not create its pods.
func refusedSet(t *testing.T) *unstructured.Unstructured {
	t.Helper()
	set := replicaSet(t, "mlflow-new", "2", "")
	condition := map[string]any{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota: q"}
	if err := unstructured.SetNestedSlice(set.Object, []any{condition}, "status", "conditions"); err != nil {
		t.Fatal(err)
	}
	return set
}

// updated is postgres whose newest revision is postgres-2, and ofRevision a pod of one.
func updated(t *testing.T, ready int32) *unstructured.Unstructured {
	t.Helper()
	set := statefulSet(t, ready)
	for field, revision := range map[string]string{"updateRevision": "postgres-2", "currentRevision": fmt.Sprintf("postgres-%d", 1+ready)} {
		if err := unstructured.SetNestedField(set.Object, revision, "status", field); err != nil {
			t.Fatal(err)
		}
	}
	return set
}

func ofRevision(revision string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Labels[appsv1.ControllerRevisionHashLabelKey] = revision }
}

func postgresSet() Target { return target("apps", "StatefulSet", "postgres") }

func crashing() func(*corev1.Pod) {
	return container(waits("CrashLoopBackOff", ""), 5, exit(1, "Error"))
}

func ownedBy(set string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: set, Controller: new(true)}}
	}
}

// replicaSet is one of the Deployment mlflow's; that whose image is "" runs its spec.
func replicaSet(t *testing.T, name, rev, image string) *unstructured.Unstructured {
	t.Helper()
	s := &appsv1.ReplicaSet{ObjectMeta: meta(name)}
	s.Annotations = map[string]string{revision: rev}
	s.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "Deployment", Name: "mlflow", UID: meta("mlflow").UID, Controller: new(true)}}
	s.Spec.Template.Labels = map[string]string{"app": "mlflow", appsv1.DefaultDeploymentUniqueLabelKey: name}
	if image != "" {
		s.Spec.Template.Spec.Containers = []corev1.Container{{Name: "main", Image: image}}
	}
	return untyped(t, replicaSetKind(), s)
}

func claim(t *testing.T, phase corev1.PersistentVolumeClaimPhase, annotations map[string]string) *unstructured.Unstructured {
	t.Helper()
	c := &corev1.PersistentVolumeClaim{ObjectMeta: meta("data")}
	c.Annotations = annotations
	c.Status.Phase = phase
	return untyped(t, corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim"), c)
}

func TestWaitThatTimesOutNamesEachTargetAndWhy(t *testing.T) {
	ready := func(p *corev1.Pod) {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	}
	running := pod(t, "mlflow", container(runs(), 0, nil))
	synctest.Test(t, func(t *testing.T) {
		f := &film{
			moments: []moment{show(0,
				deployment(t, "mlflow", 0), running, pod(t, "mlflow", ready, func(p *corev1.Pod) { p.Name, p.UID = "fine", "y" }),
				warning(t, running, "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 403", 1),
				deployment(t, "done", 1))},
			tail: func(pod, container string, previous bool) ([]string, error) {
				if pod != "pod/mlflow-pod" || container != "main" || previous {
					return nil, errors.New("the wrong log")
				}
				return []string{"Uvicorn running"}, nil
			},
		}
		took, _, err := wait(t, f, target("apps", "Deployment", "mlflow"), target("apps", "Deployment", "done"), postgresSet())
		if took != 10*time.Minute {
			t.Errorf("took %s, %v", took, err)
		}
		wantFailure(t, err, failure.TimedOut, "NotReadyInTime", "",
			"not ready in time: deployment.apps/mlflow (pod/mlflow-pod: container main: Readiness probe failed: HTTP probe failed with statuscode: 403), statefulset.apps/postgres (not created yet)",
			"pod/mlflow-pod: Unhealthy: Readiness probe failed", "  Uvicorn running")
	})
}

func TestJobThatDoesNotEndShowsWhatItsContainersSay(t *testing.T) {
	well := func(p *corev1.Pod) {
		p.Status.Phase = corev1.PodRunning
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "proxy", Ready: true, State: runs()}}
	}
	synctest.Test(t, func(t *testing.T) {
		f := &film{
			moments: []moment{show(0, job(t, "", ""), pod(t, "migration", container(runs(), 0, nil), well))},
			tail: func(_, container string, _ bool) ([]string, error) {
				return []string{map[string]string{"proxy": "403", "main": "waiting for the database"}[container]}, nil
			},
		}
		_, _, err := wait(t, f, target("batch", "Job", "migration"))
		wantFailure(t, err, failure.TimedOut, "NotReadyInTime", "job.batch/migration", "running: ", "container proxy:", "  403", "  waiting for the database")
	})
}

// Why a container ended is told while it is tried again, in its own last words.
func TestWhatEndedIsToldWithItsLastWord(t *testing.T) {
	failed := func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }
	restarts := pod(t, "mlflow", container(waits("CrashLoopBackOff", ""), 1, exit(1, "Error")))
	for _, tc := range []struct {
		target   Target
		objs     []*unstructured.Unstructured
		previous bool
		says     string
	}{
		{target("apps", "Deployment", "mlflow"), []*unstructured.Unstructured{deployment(t, "mlflow", 0), restarts}, true,
			"deployment.apps/mlflow: pod/mlflow-pod: container main: it ended with exit code 1 and is started again: KeyError: 'x'"},
		{target("batch", "Job", "migration"), []*unstructured.Unstructured{job(t, "", ""), pod(t, "migration", container(corev1.ContainerState{Terminated: exit(1, "Error")}, 0, nil), failed)}, false,
			"job.batch/migration: pod/migration-pod: container main: it ended with exit code 1 and is tried again: KeyError: 'x'"},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := &film{moments: []moment{show(0, tc.objs...)}, tail: func(_, _ string, previous bool) ([]string, error) {
				if previous != tc.previous {
					return nil, errors.New("the wrong log")
				}
				return []string{"Traceback", "KeyError: 'x'", " "}, nil
			}}
			_, said, _ := wait(t, f, tc.target) // it times out
			if len(said) != 1 || said[0] != tc.says {
				t.Errorf("said %q, want %q", said, tc.says)
			}
		})
	}
}

func TestWhatATargetDependsOnTellsToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		proxy := pod(t, "proxy", container(runs(), 0, nil))
		other := pod(t, "other", container(runs(), 0, nil))
		f := &film{
			moments: []moment{show(0, job(t, batchv1.JobFailed, "BackoffLimitExceeded"), proxy, other)},
			tail: func(pod, _ string, _ bool) ([]string, error) {
				if pod != "pod/proxy-pod" {
					t.Errorf("%s was asked, which has nothing to do with it", pod)
				}
				return []string{"403"}, nil
			},
		}
		migration := target("batch", "Job", "migration")
		migration.Behind = labels.SelectorFromSet(labels.Set{"app": "proxy"})
		_, _, err := wait(t, f, migration)
		wantFailure(t, err, failure.Diagnosed, "JobFailed", "job.batch/migration", "BackoffLimitExceeded", "pod/proxy-pod, container main:", "  403")
	})
}

func TestWaitThatSeesNothingTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, err := wait(t, &film{}, postgresSet())
		wantFailure(t, err, failure.TimedOut, "NotReadyInTime", "", "before the cluster told of statefulset.apps/postgres")
	})
}

func TestUnschedulableIsToldAndNeverFatal(t *testing.T) {
	stuck := pod(t, "mlflow", func(p *corev1.Pod) {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: "0/1 nodes are available: 1 Insufficient cpu."}}
	})
	synctest.Test(t, func(t *testing.T) {
		took, said, err := wait(t, &film{moments: []moment{show(0, deployment(t, "mlflow", 0), stuck)}}, target("apps", "Deployment", "mlflow"))
		if took != 10*time.Minute || len(said) != 1 {
			t.Errorf("took %s, said %q", took, said)
		}
		wantFailure(t, err, failure.TimedOut, "NotReadyInTime", "deployment.apps/mlflow", "no node takes it: 0/1 nodes are available: 1 Insufficient cpu.")
	})
}

func TestWaitThatIsCancelledIsNoFailureOfTheTargets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(3*time.Second, cancel)
		began := time.Now()
		err := Wait(ctx, &film{moments: []moment{show(0, deployment(t, "mlflow", 0))}}, []Target{target("apps", "Deployment", "mlflow")}, &notes{})
		if !errors.Is(err, context.Canceled) || failure.ClassOf(err) != "" || time.Since(began) != 3*time.Second {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
	})
}

// blind is an Observer that may not look.
type blind struct{ err error }

func (b *blind) Observe(context.Context, []cluster.Query, func([]*unstructured.Unstructured) (bool, error)) error {
	return b.err
}

func (b *blind) Tail(context.Context, cluster.Ref, string, bool, int) ([]string, error) {
	return nil, b.err
}

func TestWaitReturnsTheObserversError(t *testing.T) {
	forbidden := &failure.Error{Class: failure.Forbidden, Reason: "Forbidden"}
	synctest.Test(t, func(t *testing.T) {
		if _, _, err := wait(t, &blind{forbidden}, postgresSet()); !errors.Is(err, forbidden) {
			t.Errorf("err = %v", err)
		}
	})
}

// What is under way beside the targets is not waited for; that it cannot come up is told while they are awaited.
func TestWhatIsBesideTheTargetsIsToldAndNotAwaited(t *testing.T) {
	migration := target("batch", "Job", "migration")
	migration.Beside = true
	for _, tc := range []struct {
		name   string
		beside []*unstructured.Unstructured
		took   time.Duration
		said   string
		reason string
	}{
		{"not there yet", nil, time.Minute, "", ""},
		{"under way", []*unstructured.Unstructured{job(t, "", ""), pod(t, "migration", container(runs(), 0, nil))}, time.Minute, "", ""},
		{"complete", []*unstructured.Unstructured{job(t, batchv1.JobComplete, "")}, time.Minute, "", ""},
		{"failed", []*unstructured.Unstructured{job(t, batchv1.JobFailed, "BackoffLimitExceeded")}, 0, "", "JobFailed"},
		{
			"without its image", []*unstructured.Unstructured{job(t, "", ""), pod(t, "migration", container(waits("ImagePullBackOff", "manifest unknown"), 0, nil))},
			10 * time.Second, "job.batch/migration: pod/migration-pod: container main: manifest unknown; ", "ImageNotFound",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &film{moments: []moment{show(0, append(tc.beside, statefulSet(t, 0))...), show(time.Minute, append(tc.beside, statefulSet(t, 1))...)}}
				took, said, err := wait(t, f, postgresSet(), migration)
				if took != tc.took {
					t.Errorf("took %s, want %s", took, tc.took)
				}
				if f, _ := errors.AsType[*failure.Error](err); tc.reason == "" && err != nil || tc.reason != "" && (f == nil || f.Reason != tc.reason) {
					t.Errorf("got %v, want %q", err, tc.reason)
				}
				database := "statefulset.apps/postgres: Replicas: 0/1"
				if tc.took > 0 && !slices.Equal(said, []string{tc.said + database}) {
					t.Errorf("said %q, want %q", said, tc.said+database)
				}
			})
		})
	}
	if _, _, err := wait(t, &film{}, migration); err != nil {
		t.Errorf("a wait for nothing but what is beside it: %v", err)
	}
}

// A Job that is awaited gives back what the quota lacks for what is beside it. What runs on gives nothing back, and what else refuses pods
// goes on refusing them.
func TestAFullQuotaBesideAJobIsToldAndNoEnd(t *testing.T) {
	server := target("apps", "Deployment", "mlflow")
	server.Beside = true
	running, done := job(t, "", ""), job(t, batchv1.JobComplete, "")
	strict := func(d *appsv1.Deployment) {
		refused(d)
		d.Status.Conditions[0].Message = "violates PodSecurity"
	}
	for _, tc := range []struct {
		name         string
		awaited      Target
		before, then *unstructured.Unstructured
		edit         func(*appsv1.Deployment)
		took         time.Duration
		reason, said string
	}{
		{
			"quota", target("batch", "Job", "migration"), running, done, refused, time.Minute, "",
			"deployment.apps/mlflow: no pod is created: exceeded quota: q; job.batch/migration: running: 1 active, 0 failed",
		},
		{
			"quota that what is awaited goes on using", postgresSet(), statefulSet(t, 0), statefulSet(t, 1), refused, 6 * time.Second, "QuotaExceeded",
			"deployment.apps/mlflow: no pod is created: exceeded quota: q; statefulset.apps/postgres: Replicas: 0/1",
		},
		{
			"Pod Security", target("batch", "Job", "migration"), running, done, strict, 6 * time.Second, "PodSecurityViolated",
			"deployment.apps/mlflow: no pod is created: violates PodSecurity; job.batch/migration: running: 1 active, 0 failed",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				deployed := deployment(t, "mlflow", 0, tc.edit)
				f := &film{moments: []moment{show(0, tc.before), show(time.Second, tc.before, deployed), show(time.Minute, tc.then, deployed)}}
				took, said, err := wait(t, f, tc.awaited, server)
				if took != tc.took {
					t.Errorf("took %s, want %s", took, tc.took)
				}
				if f, _ := errors.AsType[*failure.Error](err); tc.reason == "" && err != nil || tc.reason != "" && (f == nil || f.Reason != tc.reason) {
					t.Errorf("got %v, want %q", err, tc.reason)
				}
				if said[len(said)-1] != tc.said {
					t.Errorf("said %q, want %q", said, tc.said)
				}
			})
		})
	}
}

func TestATargetMayJudgeItself(t *testing.T) {
	rev := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Revision", "metadata": map[string]any{"name": "iris-1", "namespace": "ml", "uid": "r"}}}
	answers := target("", "Revision", "iris-1")
	answers.Pods = labels.SelectorFromSet(labels.Set{"app": "iris"})
	result := inProgress("Deploying")
	answers.Status = func(*unstructured.Unstructured) (*status.Result, error) { return result, nil }
	hopeless := pod(t, "iris", container(waits("InvalidImageName", `couldn't parse image name "UPPER"`), 0, nil))

	t.Run("its pods are looked at", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &film{moments: []moment{show(0, rev), show(time.Second, rev, hopeless)}}
			took, _, err := wait(t, f, answers)
			if took != time.Second {
				t.Errorf("took %s", took)
			}
			wantFailure(t, err, failure.Diagnosed, "InvalidImageName", "pod/iris-pod", "couldn't parse image name")
			for _, q := range f.asked {
				if q.Kind == "Pod" && (q.Selector == nil || q.Selector.String() != "app=iris" || !q.Optional) {
					t.Errorf("pods are asked for with %+v", q)
				}
			}
		})
	})
	t.Run("its failure is the end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			result = failed("ContainerMissing", "no such manifest")
			_, _, err := wait(t, &film{moments: []moment{show(0, rev)}}, answers)
			wantFailure(t, err, failure.Diagnosed, "RevisionFailed", "revision/iris-1", "ContainerMissing: no such manifest")
		})
	})
	t.Run("its error is the wait's", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			broken := errors.New("broken")
			answers.Status = func(*unstructured.Unstructured) (*status.Result, error) { return nil, broken }
			if _, _, err := wait(t, &film{moments: []moment{show(0, rev)}}, answers); !errors.Is(err, broken) {
				t.Errorf("err = %v", err)
			}
		})
	})
}
