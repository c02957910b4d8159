package readiness

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// Messages are those of containerd 1.6 and 2.1 behind kubelets 1.30 and 1.34.
const (
	pullMissing = `failed to pull and unpack image "registry/app:1": failed to resolve reference "registry/app:1": registry/app:1: not found`
	pullRefused = `failed to pull and unpack image "registry/app:1": failed to resolve reference "registry/app:1": pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed`
	pullForeign = `failed to pull and unpack image "registry/app:1": no match for platform in manifest: not found`
	pullLimited = `failed to pull and unpack image "registry/app:1": unexpected status from HEAD request: 429 Too Many Requests: toomanyrequests: access denied until later`
	pullNoHost  = `failed to pull and unpack image "registry/app:1": dial tcp: lookup registry on 10.96.0.10:53: no such host`
)

func TestPodsThatWillNotComeUpAreDiagnosed(t *testing.T) {
	tail := func(pod, container string, previous bool) ([]string, error) {
		if pod != "pod/mlflow-pod" || container == "" {
			return nil, errors.New("the wrong log")
		}
		if previous {
			return []string{"Traceback", "KeyError: 'x'"}, nil
		}
		return []string{"the current log"}, nil
	}
	for _, tc := range []struct {
		name     string
		pod      func(*corev1.Pod)
		event    string // the message of a Failed event
		after    time.Duration
		reason   string
		message  string
		evidence []string
	}{
		{"invalid image name", container(waits("InvalidImageName", "couldn't parse image name"), 0, nil), "", 0, "InvalidImageName", "container main: couldn't parse image name", nil},
		{"never pull", container(waits("ErrImageNeverPull", "Container image is not present with pull policy of Never"), 0, nil), "", 0, "ImageNeverPull", "not present", nil},
		{"image not found", container(waits("ErrImagePull", pullMissing), 0, nil), "", 10 * time.Second, "ImageNotFound", "registry/app:1: not found", nil},
		{"image not found, backing off as of 1.34", container(waits("ImagePullBackOff", `Back-off pulling image "registry/app:1": ErrImagePull: `+pullMissing), 0, nil), "", 10 * time.Second, "ImageNotFound", "not found", nil},
		{"image not found, backing off as of 1.30", container(waits("ImagePullBackOff", `Back-off pulling image "registry/app:1"`), 0, nil), `Failed to pull image "registry/app:1": ` + pullMissing, 10 * time.Second, "ImageNotFound", "not found", []string{"pod/mlflow-pod: Failed: Failed to pull image"}},
		{"image denied", container(waits("ErrImagePull", pullRefused), 0, nil), "", 10 * time.Second, "ImagePullDenied", "pull access denied", nil},
		{"image of another platform", container(waits("ErrImagePull", pullForeign), 0, nil), "", 10 * time.Second, "ImagePlatformMismatch", "no match for platform", nil},
		{"Secret missing", container(waits("CreateContainerConfigError", `secret "mlflow-secret" not found`), 0, nil), "", 20 * time.Second, "ContainerConfigInvalid", `secret "mlflow-secret" not found`, nil},
		{"key missing, of which the status does not tell yet", container(waits("PodInitializing", ""), 0, nil), "Error: couldn't find key TOKEN in Secret ml/mlflow-secret", 20 * time.Second, "ContainerConfigInvalid", "container main: couldn't find key TOKEN", nil},
		{"cannot be started", container(waits("RunContainerError", "exec: no such file"), 0, nil), "", 20 * time.Second, "ContainerNotStarted", "exec: no such file", nil},
		{"crash loop", container(waits("CrashLoopBackOff", "back-off 20s"), 2, exit(1, "Error")), "", 0, "CrashLoop", "container main: it ended with exit code 1 again and again",
			[]string{"the end of the log of pod/mlflow-pod, container main:", "  KeyError: 'x'"}},
		{"crash loop, between two tries", container(corev1.ContainerState{Terminated: exit(137, "Error")}, 2, exit(137, "Error")), "", 0, "CrashLoop", "exit code 137", []string{"  the current log"}},
		{"a server that ends by itself", container(waits("CrashLoopBackOff", ""), 4, exit(0, "Completed")), "", 0, "CrashLoop", "exit code 0 (Completed)", nil},
		{"init container", func(p *corev1.Pod) {
			container(waits("CrashLoopBackOff", ""), 3, exit(2, "Error"))(p)
			p.Status.InitContainerStatuses, p.Status.ContainerStatuses = p.Status.ContainerStatuses, nil
			p.Status.InitContainerStatuses[0].Name = "wait-for-schema"
		}, "", 0, "CrashLoop", "container wait-for-schema: it ended with exit code 2", nil},
		{"out of memory", func(p *corev1.Pod) {
			container(waits("CrashLoopBackOff", ""), 1, exit(137, "OOMKilled"))(p)
			p.Spec.Containers = []corev1.Container{{Name: "main", Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")}}}}
		}, "", 0, "OutOfMemory", "used more memory than its limit (64Mi)", []string{"KeyError"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := pod(t, "mlflow", tc.pod)
				objs := []*unstructured.Unstructured{deployment(t, "mlflow", 0), p}
				if tc.event != "" {
					objs = append(objs, warning(t, p, "Failed", tc.event, 1))
				}
				took, _, err := wait(t, &film{moments: []moment{show(0, objs...)}, tail: tail}, target("apps", "Deployment", "mlflow"))
				if took != tc.after {
					t.Errorf("told after %s, want %s", took, tc.after)
				}
				wantFailure(t, err, failure.Diagnosed, tc.reason, "pod/mlflow-pod", tc.message, tc.evidence...)
			})
		})
	}
}

func TestTroublesThatMayPassWaitForTheDeadline(t *testing.T) {
	for _, tc := range []struct {
		name, message string
		pod           func(*corev1.Pod)
	}{
		{"rate limit", "toomanyrequests", container(waits("ErrImagePull", pullLimited), 0, nil)},
		{"registry not found", "no such host", container(waits("ErrImagePull", pullNoHost), 0, nil)},
		{"ended twice", "exit code 1 and is started again", container(waits("CrashLoopBackOff", ""), 1, exit(1, "Error"))},
		{"killed for memory once", "OOMKilled", container(waits("CrashLoopBackOff", ""), 0, exit(137, "OOMKilled"))},
		{"a node was started anew, for the third time", "exit code 255 (Unknown) and is started again", func(p *corev1.Pod) {
			container(corev1.ContainerState{Terminated: ranForADay(exit(255, "Unknown"))}, 2, nil)(p)
		}},
		{"killed for memory after a day, and once before", "OOMKilled", container(waits("CrashLoopBackOff", ""), 1, ranForADay(exit(137, "OOMKilled")))},
		{"many restarts, and now it runs", "running, not ready yet", container(runs(), 7, exit(1, "Error"))},
		{"init container that is done after crashes", "container main: PodInitializing", func(p *corev1.Pod) {
			container(corev1.ContainerState{Terminated: exit(0, "Completed")}, 5, exit(1, "Error"))(p)
			p.Status.InitContainerStatuses, p.Status.ContainerStatuses = p.Status.ContainerStatuses, nil
			container(waits("PodInitializing", ""), 0, nil)(p)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &film{moments: []moment{show(0, deployment(t, "mlflow", 0), pod(t, "mlflow", tc.pod))}}
				took, _, err := wait(t, f, target("apps", "Deployment", "mlflow"))
				if took != 10*time.Minute {
					t.Errorf("told after %s", took)
				}
				wantFailure(t, err, failure.TimedOut, "NotReadyInTime", "deployment.apps/mlflow", tc.message)
			})
		})
	}
}

func ranForADay(end *corev1.ContainerStateTerminated) *corev1.ContainerStateTerminated {
	end.StartedAt = metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	end.FinishedAt = metav1.NewTime(end.StartedAt.Add(24 * time.Hour))
	return end
}

func TestAVolumeThatIsNotMountedIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pod(t, "mlflow", container(waits("ContainerCreating", ""), 0, nil))
		f := &film{moments: []moment{show(0, deployment(t, "mlflow", 0), p, warning(t, p, "FailedMount", `secret "tls" not found`, 1))}}
		_, _, err := wait(t, f, target("apps", "Deployment", "mlflow"))
		wantFailure(t, err, failure.TimedOut, "NotReadyInTime", "deployment.apps/mlflow", `pod/mlflow-pod: secret "tls" not found`, "pod/mlflow-pod: FailedMount")
	})
}

func TestAVolumeThatDoesNotComeIsTold(t *testing.T) {
	const noNode = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."
	waiting := pod(t, "postgres", func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}}}
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: noNode}}
	})
	pending := claim(t, "Pending", nil)
	external := warning(t, pending, "ExternalProvisioning", "Waiting for a volume to be created by 'example.com/nobody'", 1)
	full := warning(t, pending, "ProvisioningFailed", "no space left in the pool", 1)
	for _, tc := range []struct {
		name     string
		objs     []*unstructured.Unstructured
		message  string
		evidence []string
	}{
		{"it cannot be made", []*unstructured.Unstructured{pending, full}, "its volume persistentvolumeclaim/data does not come: no space left in the pool",
			[]string{"persistentvolumeclaim/data: ProvisioningFailed: no space left in the pool"}},
		{"nobody makes it", []*unstructured.Unstructured{pending, external}, "its volume persistentvolumeclaim/data has not come yet: Waiting for a volume to be created by 'example.com/nobody'", nil},
		{"its storage class is slow to say", []*unstructured.Unstructured{pending}, "no node takes it: " + noNode, nil},
		{"it came after all", []*unstructured.Unstructured{claim(t, "Bound", nil), full}, "no node takes it: " + noNode, nil},
		{"it may not be read", []*unstructured.Unstructured{full}, "no node takes it: " + noNode, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &film{moments: []moment{show(0, append(tc.objs, statefulSet(t, 0), waiting)...)}}
				_, _, err := wait(t, f, target("apps", "StatefulSet", "postgres"))
				wantFailure(t, err, failure.TimedOut, "NotReadyInTime", "statefulset.apps/postgres", tc.message, tc.evidence...)
			})
		})
	}
}

func TestPodsThatAreNotEvenCreated(t *testing.T) {
	refused := func(message string) *unstructured.Unstructured {
		return deployment(t, "mlflow", 0, func(d *appsv1.Deployment) {
			d.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate", Message: message}}
		})
	}
	const quota = `pods "postgres-0" is forbidden: exceeded quota: small, requested: memory=1Gi`
	set := statefulSet(t, 0)
	again := func(at time.Duration, version int) moment {
		return show(at, set, warning(t, set, "FailedCreate", quota, version))
	}
	succeeded := warning(t, set, "SuccessfulCreate", "created", 9)
	tried := func(version int) *unstructured.Unstructured {
		return warning(t, refusedSet(t), "FailedCreate", "exceeded quota: q", version)
	}
	for _, tc := range []struct {
		name    string
		target  Target
		moments []moment
		took    time.Duration
		class   failure.Class
		reason  string
		message string
	}{
		{"Deployment, Pod Security", target("apps", "Deployment", "mlflow"), []moment{show(0), show(time.Second, refused(`pods "mlflow-x" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false`))},
			6 * time.Second, failure.Diagnosed, "PodSecurityViolated", "no pod is created: pods \"mlflow-x\" is forbidden: violates PodSecurity"},
		{"Deployment, refused as before the wait and again in it", target("apps", "Deployment", "mlflow"),
			[]moment{show(0, refused(quota), refusedSet(t), tried(1)), show(time.Minute, refused(quota), refusedSet(t), tried(2))},
			time.Minute + 5*time.Second, failure.Diagnosed, "QuotaExceeded", "exceeded quota: q"},
		{"Deployment, refused before the wait for another reason", target("apps", "Deployment", "mlflow"), []moment{show(0, refused("exceeded quota: large")), show(time.Minute, refused(quota))},
			time.Minute + 5*time.Second, failure.Diagnosed, "QuotaExceeded", "exceeded quota: small"},
		{"Deployment, refused before the wait and for good", target("apps", "Deployment", "mlflow"), []moment{show(0, refused(quota), refusedSet(t), tried(1))},
			10 * time.Minute, failure.TimedOut, "NotReadyInTime", "not ready in time: no pod is created: exceeded quota: q"},
		{"Deployment, service account late", target("apps", "Deployment", "mlflow"), []moment{show(0), show(time.Second, refused(`error looking up service account ml/mlflow: serviceaccount "mlflow" not found`)), show(12*time.Second, deployment(t, "mlflow", 1))},
			12 * time.Second, "", "", ""},
		{"Deployment, a pod leaves", target("apps", "Deployment", "mlflow"),
			[]moment{show(0), show(time.Second, refused(quota), pod(t, "mlflow", func(p *corev1.Pod) { p.DeletionTimestamp = new(p.CreationTimestamp) })), show(30*time.Second, deployment(t, "mlflow", 1))},
			30 * time.Second, "", "", ""},
		{"StatefulSet, quota, in the wait's own time", postgresSet(), []moment{again(0, 1), again(3*time.Second, 2), again(6*time.Second, 3)},
			8 * time.Second, failure.Diagnosed, "QuotaExceeded", "exceeded quota: small"},
		{"StatefulSet, quota that was raised", postgresSet(), []moment{show(0, set), again(time.Second, 2), show(4*time.Second, set, warning(t, set, "FailedCreate", quota, 2), succeeded), show(time.Minute, statefulSet(t, 1))},
			time.Minute, "", "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				took, _, err := wait(t, &film{moments: tc.moments}, tc.target)
				if took != tc.took {
					t.Errorf("took %s, want %s", took, tc.took)
				}
				if tc.class == "" {
					if err != nil {
						t.Errorf("err = %v", err)
					}
					return
				}
				wantFailure(t, err, tc.class, tc.reason, tc.target.Object.String(), tc.message)
			})
		})
	}
}

func TestAJobThatFailedShowsItsLastTry(t *testing.T) {
	try := func(name string, minute int, state corev1.ContainerState) *unstructured.Unstructured {
		return pod(t, "migration", container(state, 0, nil), func(p *corev1.Pod) {
			p.Name, p.UID, p.Status.Phase = name, p.UID+"-"+"u", corev1.PodFailed
			p.CreationTimestamp.Time = time.Unix(int64(60*minute), 0)
		})
	}
	failed := job(t, batchv1.JobFailed, "BackoffLimitExceeded")
	tail := func(pod, container string, previous bool) ([]string, error) {
		if pod != "pod/second" || container != "main" || previous {
			return nil, errors.New("the wrong log: " + pod)
		}
		return []string{"alembic: can't connect"}, nil
	}
	for _, tc := range []struct {
		name                    string
		objs                    []*unstructured.Unstructured
		reason, object, message string
		evidence                []string
	}{
		{
			"exit code", []*unstructured.Unstructured{failed, try("second", 2, corev1.ContainerState{Terminated: exit(3, "Error")}), try("zfirst", 1, corev1.ContainerState{Terminated: exit(4, "Error")})},
			"JobFailed", "job.batch/migration", "BackoffLimitExceeded: Job has reached the specified backoff limit (pod/second, container main: it ended with exit code 3)", []string{"  alembic: can't connect"},
		},
		{
			"out of memory", []*unstructured.Unstructured{failed, try("second", 2, corev1.ContainerState{Terminated: exit(137, "OOMKilled")})},
			"OutOfMemory", "pod/second", "more memory", []string{"  alembic: can't connect"},
		},
		{
			"its pods are gone", []*unstructured.Unstructured{failed, warning(t, failed, "BackoffLimitExceeded", "Job has reached the specified backoff limit", 1)},
			"JobFailed", "job.batch/migration", "BackoffLimitExceeded: Job has reached", []string{"job.batch/migration: BackoffLimitExceeded: Job has reached"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, _, err := wait(t, &film{moments: []moment{show(0, tc.objs...)}, tail: tail}, target("batch", "Job", "migration"))
				wantFailure(t, err, failure.Diagnosed, tc.reason, tc.object, tc.message, tc.evidence...)
			})
		})
	}
	t.Run("a try that failed is not the end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &film{moments: []moment{
				show(0, job(t, "", ""), try("first", 1, corev1.ContainerState{Terminated: exit(137, "OOMKilled")})),
				show(time.Minute, job(t, batchv1.JobComplete, "")),
			}}
			if took, _, err := wait(t, f, target("batch", "Job", "migration")); err != nil || took != time.Minute {
				t.Errorf("took %s, %v", took, err)
			}
		})
	})
}

func TestALogThatCannotBeReadIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, err := wait(t, &film{moments: []moment{show(0, deployment(t, "mlflow", 0), pod(t, "mlflow", crashing()))}}, target("apps", "Deployment", "mlflow"))
		wantFailure(t, err, failure.Diagnosed, "CrashLoop", "pod/mlflow-pod", "again and again", "the log of pod/mlflow-pod, container main, cannot be read: no log")
	})
}

func TestPodsThatWaitForNobodyMayEndOnce(t *testing.T) {
	alone := target("apps", "Deployment", "mlflow")
	alone.Alone = true
	for restarts, target := range map[int32]Target{1: alone, 2: target("apps", "Deployment", "mlflow")} {
		synctest.Test(t, func(t *testing.T) {
			once := pod(t, "mlflow", container(waits("CrashLoopBackOff", ""), restarts-1, exit(1, "Error")))
			again := pod(t, "mlflow", container(waits("CrashLoopBackOff", ""), restarts, exit(1, "Error")))
			took, _, err := wait(t, &film{moments: []moment{show(0, deployment(t, "mlflow", 0), once), show(20*time.Second, deployment(t, "mlflow", 0), again)}}, target)
			wantFailure(t, err, failure.Diagnosed, "CrashLoop", "pod/mlflow-pod", "again and again")
			if took != 20*time.Second {
				t.Errorf("after %d restarts it was told after %s", restarts, took)
			}
		})
	}
}

func TestARealPodTargetIsJudgedByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sibling := pod(t, "x", crashing(), func(p *corev1.Pod) { p.Name, p.UID = "sibling", "s" })
		mine := pod(t, "x", container(runs(), 0, nil))
		done := pod(t, "x", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })
		took, _, err := wait(t, &film{moments: []moment{show(0, mine, sibling), show(time.Second, done, sibling)}}, target("", "Pod", "x-pod"))
		if err != nil || took != time.Second {
			t.Errorf("took %s, %v", took, err)
		}
		_, _, err = wait(t, &film{moments: []moment{show(0, pod(t, "x", func(p *corev1.Pod) {
			p.Status.Phase, p.Status.Reason, p.Status.Message = corev1.PodFailed, "Evicted", "low on memory"
		}))}}, target("", "Pod", "x-pod"))
		wantFailure(t, err, failure.Diagnosed, "PodFailed", "pod/x-pod", "Evicted: low on memory")
	})
}
