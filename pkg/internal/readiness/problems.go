package readiness

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

// Problems says in one line what ails each of the pods that are not well, by the rules of the waits. Among objs are the pods and,
// where they may be read, events and claims.
func Problems(objs []*unstructured.Unstructured) (map[cluster.Ref]string, error) {
	s := newScene(objs)
	found := map[cluster.Ref]string{}
	for ref, obj := range s.objects {
		if ref.GroupVersionKind != podKind() {
			continue
		}
		pod := &corev1.Pod{}
		if err := cluster.Into(obj, pod); err != nil {
			return nil, err
		}
		switch {
		case pod.DeletionTimestamp != nil:
			found[ref] = "it is being deleted"
		case pod.Status.Phase == corev1.PodSucceeded || cluster.PodReady(pod):
		case pod.Status.Phase == corev1.PodFailed:
			found[ref] = oneLine(orElse(pod.Status.Reason+" "+pod.Status.Message, "failed"))
		default:
			found[ref] = stateOf(pod)
			if rule, finding := diagnose(s.pod(pod)); rule != nil {
				found[ref] = finding.Message
			}
		}
	}
	return found, nil
}
