package readiness

import (
	"fmt"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

func podKind() schema.GroupVersionKind   { return corev1.SchemeGroupVersion.WithKind("Pod") }
func eventKind() schema.GroupVersionKind { return corev1.SchemeGroupVersion.WithKind("Event") }
func deploymentKind() schema.GroupVersionKind {
	return appsv1.SchemeGroupVersion.WithKind("Deployment")
}
func replicaSetKind() schema.GroupVersionKind {
	return appsv1.SchemeGroupVersion.WithKind("ReplicaSet")
}
func claimKind() schema.GroupVersionKind {
	return corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim")
}

// hasPods tells which kinds run pods that spec.selector selects.
func hasPods(r cluster.Ref) bool {
	switch r.GroupKind().String() {
	case "Deployment.apps", "StatefulSet.apps", "DaemonSet.apps", "ReplicaSet.apps", "Job.batch":
		return true
	}
	return false
}

// compute is kstatus where kstatus is right. It takes a Job that runs, and a pod that failed, for Current; it takes a
// workload whose controller has not seen it yet by the numbers it finds; and it calls a slow rollout Failed although the
// Deployment goes on.
func compute(u *unstructured.Unstructured) (*status.Result, error) {
	result, err := status.Compute(u)
	if err != nil {
		return nil, err
	}
	if result.Status == status.TerminatingStatus {
		return inProgress("it is being deleted"), nil
	}
	switch u.GroupVersionKind().GroupKind().String() {
	case "Job.batch":
		return jobStatus(u)
	case "Pod":
		return podStatus(u)
	case "Deployment.apps", "StatefulSet.apps", "DaemonSet.apps":
		if _, observed, err := unstructured.NestedInt64(u.Object, "status", "observedGeneration"); err != nil || !observed {
			return inProgress("its controller has not seen it yet"), err
		}
		if result.Status == status.FailedStatus {
			return inProgress("the rollout takes longer than spec.progressDeadlineSeconds"), nil
		}
	}
	return result, nil
}

func jobStatus(u *unstructured.Unstructured) (*status.Result, error) {
	var job batchv1.Job
	if err := cluster.Into(u, &job); err != nil {
		return nil, err
	}
	for _, c := range job.Status.Conditions {
		if c.Status != corev1.ConditionTrue {
			continue
		}
		switch c.Type {
		case batchv1.JobComplete:
			return current("complete"), nil
		case batchv1.JobFailed:
			return failed(c.Reason, c.Message), nil
		case batchv1.JobSuspended:
			return inProgress("it is suspended"), nil
		}
	}
	return inProgress(fmt.Sprintf("running: %d active, %d failed", job.Status.Active, job.Status.Failed)), nil
}

func podStatus(u *unstructured.Unstructured) (*status.Result, error) {
	var pod corev1.Pod
	if err := cluster.Into(u, &pod); err != nil {
		return nil, err
	}
	switch {
	case pod.Status.Phase == corev1.PodSucceeded:
		return current("succeeded"), nil
	case pod.Status.Phase == corev1.PodFailed:
		return failed(pod.Status.Reason, pod.Status.Message), nil
	case cluster.PodReady(&pod):
		return current("ready"), nil
	}
	return inProgress(stateOf(&pod)), nil
}

func current(message string) *status.Result {
	return &status.Result{Status: status.CurrentStatus, Message: message}
}

func inProgress(message string) *status.Result {
	return &status.Result{Status: status.InProgressStatus, Message: message}
}

func failed(reason, message string) *status.Result {
	return &status.Result{
		Status: status.FailedStatus, Message: message,
		Conditions: []status.Condition{{Type: status.ConditionStalled, Status: corev1.ConditionTrue, Reason: reason, Message: message}},
	}
}
