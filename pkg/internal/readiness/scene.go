package readiness

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

// revision is the annotation by which a Deployment and its newest ReplicaSet know each other.
const revision = "deployment.kubernetes.io/revision"

// Pod is a pod with its events, oldest first, as the rules see it.
type Pod struct {
	*corev1.Pod
	Events  []corev1.Event
	Unbound []Claim // the claims that it waits for
	Before  bool    // it is one of a StatefulSet's, of the spec before
	Alone   bool    // it depends on nothing that may come later
}

// Claim is a PersistentVolumeClaim that has no volume, with its events, oldest first.
type Claim struct {
	Name   string
	Events []corev1.Event
}

func (c Claim) ref() cluster.Ref { return cluster.Ref{GroupVersionKind: claimKind(), Name: c.Name} }

func (p Pod) ref() cluster.Ref {
	return cluster.Ref{GroupVersionKind: podKind(), Namespace: p.Namespace, Name: p.Name}
}

// scene is one snapshot of the cluster, indexed.
type scene struct {
	objects map[cluster.Ref]*unstructured.Unstructured
	events  map[types.UID][]corev1.Event // by the object that they are about, oldest first
}

func newScene(objs []*unstructured.Unstructured) *scene {
	s := &scene{objects: make(map[cluster.Ref]*unstructured.Unstructured, len(objs)), events: map[types.UID][]corev1.Event{}}
	seen := map[types.UID]bool{} // two queries may find one event
	for _, o := range objs {
		if o.GroupVersionKind() != eventKind() {
			s.objects[cluster.RefOf(o)] = o
			continue
		}
		var e corev1.Event
		if cluster.Into(o, &e) != nil { // events only explain: one that cannot be read is no reason to stop waiting
			continue
		}
		if !seen[e.UID] {
			seen[e.UID] = true
			s.events[e.InvolvedObject.UID] = append(s.events[e.InvolvedObject.UID], e)
		}
	}
	for _, es := range s.events {
		slices.SortStableFunc(es, func(a, b corev1.Event) int {
			return cmp.Or(lastSeen(a).Compare(lastSeen(b)), cmp.Compare(a.Name, b.Name))
		})
	}
	return s
}

// lastSeen is when an event happened last: its writers fill different fields.
func lastSeen(e corev1.Event) time.Time {
	if e.Series != nil && !e.Series.LastObservedTime.IsZero() {
		return e.Series.LastObservedTime.Time
	}
	if !e.LastTimestamp.IsZero() {
		return e.LastTimestamp.Time
	}
	return e.EventTime.Time
}

// remember takes note of the events and the refusals that were there before the wait: they may tell of troubles that are over.
func (w *waiter) remember(s *scene) {
	if w.old != nil {
		return
	}
	w.old = map[types.UID]string{}
	for _, es := range s.events {
		for _, e := range es {
			w.old[e.UID] = e.ResourceVersion
		}
	}
	w.refused = map[types.UID]creationFailure{}
	for _, o := range s.objects {
		if r, ok := creationCondition(o); ok {
			w.refused[o.GetUID()] = r
		}
	}
}

// fresh tells that e happened, or happened again, during the wait.
func (w *waiter) fresh(e corev1.Event) bool {
	version, old := w.old[e.UID]
	return !old || version != e.ResourceVersion
}

// pods are the target's pods by name, without those of a Deployment's older ReplicaSets, which are on their way out.
func (s *scene) pods(t Target, obj *unstructured.Unstructured) ([]Pod, error) {
	if t.Object.GroupVersionKind == podKind() {
		pod := &corev1.Pod{}
		if err := cluster.Into(obj, pod); err != nil {
			return nil, err
		}
		return []Pod{s.pod(pod)}, nil
	}
	selector, err := selectorOf(t, obj)
	if err != nil || selector == nil {
		return nil, err
	}
	pods, err := s.podsOf(obj.GetNamespace(), selector, func(pod *unstructured.Unstructured) bool { return s.outdated(pod, obj) })
	if err != nil {
		return nil, err
	}
	revision, isSet, err := unstructured.NestedString(obj.Object, "status", "updateRevision")
	for i := range pods {
		pods[i].Alone = t.Alone
		pods[i].Before = isSet && pods[i].Labels[appsv1.ControllerRevisionHashLabelKey] != revision
	}
	return pods, err
}

// podsBehind are those that the target's own depend on.
func (s *scene) podsBehind(t Target) ([]Pod, error) {
	if t.Behind == nil {
		return nil, nil
	}
	return s.podsOf(t.Object.Namespace, t.Behind, func(*unstructured.Unstructured) bool { return false })
}

// podsOf are the selected pods by name, without those that leave says it of.
func (s *scene) podsOf(namespace string, selector labels.Selector, leave func(*unstructured.Unstructured) bool) ([]Pod, error) {
	var pods []Pod
	for r, o := range s.objects {
		if r.GroupVersionKind != podKind() || r.Namespace != namespace || !selector.Matches(labels.Set(o.GetLabels())) || leave(o) {
			continue
		}
		pod := &corev1.Pod{}
		if err := cluster.Into(o, pod); err != nil {
			return nil, err
		}
		pods = append(pods, s.pod(pod))
	}
	slices.SortFunc(pods, func(a, b Pod) int { return cmp.Compare(a.Name, b.Name) })
	return pods, nil
}

// pod adds what the scene knows of it. A claim that is not in the scene may be one that may not be read: nothing is said of it.
func (s *scene) pod(pod *corev1.Pod) Pod {
	p := Pod{Pod: pod, Events: s.events[pod.UID]}
	for _, v := range pod.Spec.Volumes {
		if v.PersistentVolumeClaim == nil {
			continue
		}
		name := v.PersistentVolumeClaim.ClaimName
		claim := s.objects[cluster.Ref{GroupVersionKind: claimKind(), Namespace: pod.Namespace, Name: name}]
		if claim == nil {
			continue
		}
		if phase, _, err := unstructured.NestedString(claim.Object, "status", "phase"); err == nil && phase != string(corev1.ClaimBound) {
			p.Unbound = append(p.Unbound, Claim{Name: name, Events: s.events[claim.GetUID()]})
		}
	}
	return p
}

// outdated tells a pod of one of a Deployment's older ReplicaSets.
func (s *scene) outdated(pod, obj *unstructured.Unstructured) bool {
	owner := metav1.GetControllerOfNoCopy(pod)
	if owner == nil || owner.Kind != "ReplicaSet" || obj.GroupVersionKind() != deploymentKind() {
		return false
	}
	set := s.objects[cluster.Ref{GroupVersionKind: replicaSetKind(), Namespace: pod.GetNamespace(), Name: owner.Name}]
	return set != nil && !runsSpecOf(obj, set)
}

// newest is the ReplicaSet that runs a Deployment's spec, or nil; seen tells that there is one at all.
func (s *scene) newest(obj *unstructured.Unstructured) (newest *unstructured.Unstructured, seen bool) {
	if obj.GroupVersionKind() != deploymentKind() {
		return nil, false
	}
	for r, o := range s.objects {
		if r.GroupVersionKind != replicaSetKind() || r.Namespace != obj.GetNamespace() || !metav1.IsControlledBy(o, obj) {
			continue
		}
		seen = true
		if runsSpecOf(obj, o) {
			newest = o
		}
	}
	return newest, seen
}

// runsSpecOf tells that a ReplicaSet's pods are those of the Deployment's spec, as the Deployment's controller tells it.
func runsSpecOf(deployment, set *unstructured.Unstructured) bool {
	return reflect.DeepEqual(template(deployment), template(set))
}

// template is an object's pod template without the label that a Deployment's controller adds.
func template(obj *unstructured.Unstructured) map[string]any {
	spec, _ := obj.Object["spec"].(map[string]any)
	pods, _ := spec["template"].(map[string]any)
	pods = maps.Clone(pods)
	meta, _ := pods["metadata"].(map[string]any)
	labels, _ := meta["labels"].(map[string]any)
	if _, ok := labels[appsv1.DefaultDeploymentUniqueLabelKey]; ok {
		meta, labels = maps.Clone(meta), maps.Clone(labels)
		delete(labels, appsv1.DefaultDeploymentUniqueLabelKey)
		meta["labels"] = labels
		pods["metadata"] = meta
	}
	return pods
}

// selectorOf is nil where the target has no pods.
func selectorOf(t Target, obj *unstructured.Unstructured) (labels.Selector, error) {
	if t.Pods != nil {
		return t.Pods, nil
	}
	if !hasPods(t.Object) {
		return nil, nil
	}
	spec, _, err := unstructured.NestedMap(obj.Object, "spec", "selector")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.Object, err)
	}
	var typed metav1.LabelSelector
	if err := cluster.Into(&unstructured.Unstructured{Object: spec}, &typed); err != nil {
		return nil, fmt.Errorf("%s: spec.selector: %w", t.Object, err)
	}
	selector, err := metav1.LabelSelectorAsSelector(&typed)
	if err != nil {
		return nil, fmt.Errorf("%s: spec.selector: %w", t.Object, err)
	}
	return selector, nil
}

// creators are the objects that create the target's pods: itself, and the ReplicaSets that bear the labels of its pods.
func (s *scene) creators(t Target, obj *unstructured.Unstructured) []types.UID {
	uids := []types.UID{obj.GetUID()}
	if t.Pods == nil {
		return uids
	}
	for r, o := range s.objects {
		if r.GroupVersionKind == replicaSetKind() && r.Namespace == obj.GetNamespace() && t.Pods.Matches(labels.Set(o.GetLabels())) {
			uids = append(uids, o.GetUID())
		}
	}
	return uids
}
