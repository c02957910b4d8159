package readiness

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

func TestProblems(t *testing.T) {
	phase := func(p corev1.PodPhase, reason string) func(*corev1.Pod) {
		return func(pod *corev1.Pod) { pod.Status.Phase, pod.Status.Reason = p, reason }
	}
	ready := func(pod *corev1.Pod) {
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	}
	pulling := pod(t, "pulling", container(waits("ImagePullBackOff", `Back-off pulling image "registry/app:1"`), 0, nil))
	objs := []*unstructured.Unstructured{
		pod(t, "well", ready), pod(t, "done", phase(corev1.PodSucceeded, "")), pod(t, "evicted", phase(corev1.PodFailed, "Evicted")),
		pod(t, "starting", container(waits("ContainerCreating", ""), 0, nil)), pulling,
		warning(t, pulling, "Failed", `Failed to pull image "registry/app:1": `+pullMissing, 1),
	}
	found, err := Problems(objs)
	if err != nil {
		t.Fatal(err)
	}
	for app, want := range map[string]string{"well": "", "done": "", "evicted": "Evicted", "starting": "container main: ContainerCreating", "pulling": "not found"} {
		got := found[cluster.Ref{GroupVersionKind: podKind(), Namespace: "ml", Name: app + "-pod"}]
		if !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s: %q, want %q", app, got, want)
		}
	}
}
