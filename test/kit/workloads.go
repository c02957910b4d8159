package kit

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// revisionLabel tells by which template a pod was made, as a StatefulSet's controller does.
const revisionLabel = appsv1.ControllerRevisionHashLabelKey

// workload is an object that has pods.
type workload struct {
	resource schema.GroupVersionResource
	object   *unstructured.Unstructured
	template corev1.PodTemplateSpec
	revision string // of the template
	replicas int32
	job      *batchv1.Job // where it is one
	pods     []*corev1.Pod
}

func readWorkload(r schema.GroupVersionResource, obj *unstructured.Unstructured) (*workload, error) {
	w := &workload{resource: r, object: obj, replicas: 1}
	convert := runtime.DefaultUnstructuredConverter.FromUnstructured
	switch r.Resource {
	case "statefulsets":
		var s appsv1.StatefulSet
		if err := convert(obj.Object, &s); err != nil {
			return nil, err
		}
		w.template, w.replicas = s.Spec.Template, *cmp.Or(s.Spec.Replicas, new(int32(1)))
	case "deployments":
		var d appsv1.Deployment
		if err := convert(obj.Object, &d); err != nil {
			return nil, err
		}
		w.template, w.replicas = d.Spec.Template, *cmp.Or(d.Spec.Replicas, new(int32(1)))
	default:
		w.job = &batchv1.Job{}
		if err := convert(obj.Object, w.job); err != nil {
			return nil, err
		}
		w.template = w.job.Spec.Template
	}
	text, err := json.Marshal(w.template)
	if err != nil {
		return nil, err
	}
	hash := fnv.New32a()
	_, _ = hash.Write(text)
	w.revision = fmt.Sprintf("%08x", hash.Sum32())
	return w, nil
}

// volumes binds claims, and lets those go that no pod uses. It returns the names of those that are bound.
func (c *Controller) volumes(ctx context.Context, namespace string) (bound map[string]bool, err error) {
	used := map[string]bool{}
	for _, obj := range c.list(core("pods"), namespace) {
		var pod corev1.Pod
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj.Object, &pod); err != nil {
			return nil, err
		}
		for _, name := range claimsOf(&pod) {
			used[name] = true
		}
	}
	bound = map[string]bool{}
	var errs []error
	for _, obj := range c.list(core("persistentvolumeclaims"), namespace) {
		phase, _, err := unstructured.NestedString(obj.Object, "status", "phase")
		if err != nil {
			return nil, err
		}
		bound[obj.GetName()] = phase == string(corev1.ClaimBound)
		switch {
		case obj.GetDeletionTimestamp() == nil:
			errs = append(errs, c.bind(ctx, obj))
		case !used[obj.GetName()]:
			errs = append(errs, c.dropFinalizer(ctx, core("persistentvolumeclaims"), obj, "kubernetes.io/pvc-protection"))
		}
	}
	return bound, errors.Join(errs...)
}

// claimsOf names the claims that a pod waits for.
func claimsOf(pod *corev1.Pod) []string {
	var names []string
	for _, v := range pod.Spec.Volumes {
		if v.PersistentVolumeClaim != nil {
			names = append(names, v.PersistentVolumeClaim.ClaimName)
		}
	}
	return names
}

func (c *Controller) bind(ctx context.Context, obj *unstructured.Unstructured) error {
	var claim corev1.PersistentVolumeClaim
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj.Object, &claim); err != nil {
		return err
	}
	at := c.client.Resource(core("persistentvolumeclaims")).Namespace(claim.Namespace)
	switch class := claim.Spec.StorageClassName; {
	case class == nil || *class == "":
		return c.event(ctx, obj, corev1.EventTypeNormal, "FailedBinding", "no persistent volumes available for this claim and no storage class is set")
	case *class != c.StorageClass:
		return c.event(ctx, obj, corev1.EventTypeWarning, "ProvisioningFailed", fmt.Sprintf("storageclass.storage.k8s.io %q not found", *class))
	}
	if claim.Spec.VolumeName == "" {
		c.mu.Lock()
		why := c.barren[claim.Namespace]
		c.mu.Unlock()
		if why != "" {
			return c.event(ctx, obj, corev1.EventTypeWarning, "ProvisioningFailed", why)
		}
		_, err := at.Patch(ctx, claim.Name, types.MergePatchType, fmt.Appendf(nil, `{"spec":{"volumeName":"pv-%s"}}`, claim.UID), metav1.PatchOptions{})
		return ignore(err, apierrors.IsNotFound)
	}
	return c.status(ctx, core("persistentvolumeclaims"), obj, &corev1.PersistentVolumeClaimStatus{
		Phase: corev1.ClaimBound, AccessModes: claim.Spec.AccessModes, Capacity: claim.Spec.Resources.Requests,
	})
}

func (c *Controller) dropFinalizer(ctx context.Context, r schema.GroupVersionResource, obj *unstructured.Unstructured, finalizer string) error {
	if !slices.Contains(obj.GetFinalizers(), finalizer) {
		return nil
	}
	left := slices.DeleteFunc(slices.Clone(obj.GetFinalizers()), func(f string) bool { return f == finalizer })
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{"finalizers": left, "resourceVersion": obj.GetResourceVersion()}})
	if err != nil {
		return err
	}
	_, err = c.client.Resource(r).Namespace(obj.GetNamespace()).Patch(ctx, obj.GetName(), types.MergePatchType, body, metav1.PatchOptions{})
	return ignore(err, apierrors.IsNotFound)
}

// pods is the kubelet and the garbage collector: it gives each pod to its owner, ends the pods that are to end and those whose
// owners are gone, and lets the others live.
func (c *Controller) pods(ctx context.Context, namespace string, owners map[string]*workload, bound map[string]bool) error {
	life, head := c.ways(namespace)
	var errs []error
	for _, obj := range c.list(core("pods"), namespace) {
		pod := &corev1.Pod{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj.Object, pod); err != nil {
			return err
		}
		var owner *workload
		if ref := metav1.GetControllerOf(pod); ref != nil {
			if owner = owners[string(ref.UID)]; owner == nil {
				errs = append(errs, c.kill(ctx, pod))
				continue
			}
			owner.pods = append(owner.pods, pod)
		}
		switch {
		case pod.DeletionTimestamp != nil:
			errs = append(errs, c.kill(ctx, pod))
		case pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed:
		default:
			is := life(pod)
			want := podStatus(pod, is, owner != nil && owner.job != nil, head)
			if slices.ContainsFunc(claimsOf(pod), func(name string) bool { return !bound[name] }) {
				want = unschedulable("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.")
			}
			errs = append(errs, c.status(ctx, core("pods"), obj, want))
			if is.Event != "" {
				errs = append(errs, c.event(ctx, obj, corev1.EventTypeWarning, is.Event, is.Says))
			}
		}
	}
	return errors.Join(errs...)
}

// kill ends a pod at once.
func (c *Controller) kill(ctx context.Context, pod *corev1.Pod) error {
	now := int64(0)
	err := c.client.Resource(core("pods")).Namespace(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: &now, Preconditions: &metav1.Preconditions{UID: &pod.UID},
	})
	return ignore(err, apierrors.IsNotFound, apierrors.IsConflict)
}

func unschedulable(why string) *corev1.PodStatus {
	return &corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{
		{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: why},
	}}
}

// podStatus is what a kubelet says of a pod. ends is one whose work has an end.
func podStatus(pod *corev1.Pod, life Life, ends bool, head func(string) string) *corev1.PodStatus {
	if life.State == Unscheduled {
		return unschedulable(life.Says)
	}
	s := &corev1.PodStatus{Phase: corev1.PodRunning}
	ready := corev1.ConditionTrue
	state := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	switch {
	case life.State == Waits:
		s.Phase, ready = corev1.PodPending, corev1.ConditionFalse
		state = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: cmp.Or(life.Reason, "ContainerCreating"), Message: life.Says}}
	case life.State == Unready:
		ready = corev1.ConditionFalse
	case life.State == Fails && ends:
		s.Phase, ready = corev1.PodFailed, corev1.ConditionFalse
		state = terminated(1, cmp.Or(life.Reason, "Error"), life.Says)
	case life.State == Fails:
		ready = corev1.ConditionFalse
		state = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: life.Says}}
	case ends:
		s.Phase, ready = corev1.PodSucceeded, corev1.ConditionFalse
	}
	for _, kind := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
		is := ready
		if kind == corev1.PodScheduled {
			is = corev1.ConditionTrue
		}
		s.Conditions = append(s.Conditions, corev1.PodCondition{Type: kind, Status: is})
	}
	for _, container := range pod.Spec.InitContainers {
		now := state
		if container.RestartPolicy == nil && life.State != Waits {
			now = terminated(0, "Completed", "")
		}
		s.InitContainerStatuses = append(s.InitContainerStatuses, containerStatus(container, now, life))
	}
	for _, container := range pod.Spec.Containers {
		now := state
		if s.Phase == corev1.PodSucceeded {
			now = terminated(0, "Completed", head(container.Image))
		}
		s.ContainerStatuses = append(s.ContainerStatuses, containerStatus(container, now, life))
	}
	return s
}

func terminated(code int32, reason, message string) corev1.ContainerState {
	return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason, Message: message}}
}

func containerStatus(of corev1.Container, state corev1.ContainerState, life Life) corev1.ContainerStatus {
	runs := state.Running != nil
	s := corev1.ContainerStatus{Name: of.Name, Image: of.Image, State: state, Ready: runs && life.State != Unready, Started: new(runs)}
	if life.State == Fails && state.Waiting != nil {
		s.RestartCount, s.LastTerminationState = 5, terminated(1, cmp.Or(life.Reason, "Error"), life.Says)
	}
	return s
}

// run makes and ends a workload's pods, and says how it stands.
func (c *Controller) run(ctx context.Context, w *workload) error {
	if w.object.GetDeletionTimestamp() != nil {
		for _, pod := range w.pods {
			if err := c.kill(ctx, pod); err != nil {
				return err
			}
		}
		if len(w.pods) == 0 {
			return errors.Join(
				c.dropFinalizer(ctx, w.resource, w.object, metav1.FinalizerDeleteDependents),
				c.dropFinalizer(ctx, w.resource, w.object, metav1.FinalizerOrphanDependents))
		}
		return nil
	}
	if w.job != nil {
		return c.runJob(ctx, w)
	}
	wanted := map[string]bool{}
	for i := range w.replicas {
		if w.resource.Resource == "statefulsets" {
			wanted[fmt.Sprintf("%s-%d", w.object.GetName(), i)] = true
		} else {
			wanted[fmt.Sprintf("%s-%s-%d", w.object.GetName(), w.revision, i)] = true
		}
	}
	var old bool
	for _, pod := range w.pods {
		if pod.DeletionTimestamp != nil {
			old = true
			continue
		}
		if !wanted[pod.Name] || pod.Labels[revisionLabel] != w.revision {
			old = true
			if err := c.kill(ctx, pod); err != nil {
				return err
			}
			continue
		}
		delete(wanted, pod.Name)
	}
	var refused error
	if !old { // as with the strategy Recreate, which is what MLflow has
		for name := range wanted {
			refused = errors.Join(refused, c.makePod(ctx, w, name))
		}
	}
	return errors.Join(refused, c.status(ctx, w.resource, w.object, w.status(refused)))
}

// status is how a StatefulSet or a Deployment stands.
func (w *workload) status(refused error) any {
	var there, ready int32
	for _, pod := range w.pods {
		if pod.DeletionTimestamp != nil || pod.Labels[revisionLabel] != w.revision {
			continue
		}
		there++
		if slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
		}) {
			ready++
		}
	}
	if w.resource.Resource == "statefulsets" {
		return &appsv1.StatefulSetStatus{
			ObservedGeneration: w.object.GetGeneration(), Replicas: there, ReadyReplicas: ready, AvailableReplicas: ready,
			CurrentReplicas: there, UpdatedReplicas: there, CurrentRevision: w.revision, UpdateRevision: w.revision,
		}
	}
	s := &appsv1.DeploymentStatus{
		ObservedGeneration: w.object.GetGeneration(), Replicas: there, UpdatedReplicas: there, ReadyReplicas: ready, AvailableReplicas: ready,
		UnavailableReplicas: max(0, w.replicas-ready),
	}
	available, progressing := corev1.ConditionFalse, "ReplicaSetUpdated"
	if ready >= w.replicas {
		available, progressing = corev1.ConditionTrue, "NewReplicaSetAvailable"
	}
	s.Conditions = []appsv1.DeploymentCondition{
		{Type: appsv1.DeploymentAvailable, Status: available},
		{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue, Reason: progressing},
	}
	if refused != nil {
		s.Conditions = append(s.Conditions, appsv1.DeploymentCondition{
			Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate", Message: refused.Error(),
		})
	}
	return s
}

// runJob gives a Job one try.
func (c *Controller) runJob(ctx context.Context, w *workload) error {
	done := slices.ContainsFunc(w.job.Status.Conditions, func(c batchv1.JobCondition) bool {
		return (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue
	})
	if done || w.job.Spec.Suspend != nil && *w.job.Spec.Suspend {
		return nil
	}
	s := batchv1.JobStatus{StartTime: w.job.Status.StartTime}
	if s.StartTime == nil {
		s.StartTime = &metav1.Time{Time: time.Now()}
	}
	is := func(kind batchv1.JobConditionType, reason, message string) batchv1.JobCondition {
		now := metav1.Now()
		return batchv1.JobCondition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: now, LastProbeTime: now, Reason: reason, Message: message}
	}
	for _, pod := range w.pods {
		switch {
		case pod.DeletionTimestamp != nil:
		case pod.Status.Phase == corev1.PodSucceeded:
			s.Succeeded, s.CompletionTime = 1, &metav1.Time{Time: time.Now()}
			s.Conditions = []batchv1.JobCondition{is(batchv1.JobSuccessCriteriaMet, "CompletionsReached", "Reached expected number of succeeded pods"),
				is(batchv1.JobComplete, "CompletionsReached", "Reached expected number of succeeded pods")}
		case pod.Status.Phase == corev1.PodFailed:
			s.Failed = 1
			s.Conditions = []batchv1.JobCondition{is(batchv1.JobFailureTarget, "BackoffLimitExceeded", "Job has reached the specified backoff limit"),
				is(batchv1.JobFailed, "BackoffLimitExceeded", "Job has reached the specified backoff limit")}
		default:
			s.Active = 1
		}
	}
	var refused error
	if len(w.pods) == 0 {
		refused = c.makePod(ctx, w, w.object.GetName()+"-"+w.revision[:5])
	}
	return errors.Join(refused, c.status(ctx, w.resource, w.object, &s))
}

// makePod makes a pod by the workload's template. It is on a node from the start, so that its end takes the two steps of real
// pods: it is marked, and then it is gone.
func (c *Controller) makePod(ctx context.Context, w *workload, name string) error {
	spec := *w.template.Spec.DeepCopy()
	spec.NodeName = "kit"
	pod := &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Labels: map[string]string{}, Annotations: w.template.Annotations,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(w.object, w.object.GroupVersionKind())},
		},
		Spec: spec,
	}
	for key, value := range w.template.Labels {
		pod.Labels[key] = value
	}
	pod.Labels[revisionLabel] = w.revision
	obj, err := runtime.DefaultUnstructuredConverter.ToUnstructured(pod)
	if err != nil {
		return err
	}
	_, err = c.client.Resource(core("pods")).Namespace(w.object.GetNamespace()).Create(ctx, &unstructured.Unstructured{Object: obj}, metav1.CreateOptions{})
	if err = ignore(err, apierrors.IsAlreadyExists); err != nil {
		return errors.Join(err, c.event(ctx, w.object, corev1.EventTypeWarning, "FailedCreate", fmt.Sprintf("Error creating: %v", err)))
	}
	return nil
}

// status writes an object's status, a pointer to a struct, where it is not so yet.
func (c *Controller) status(ctx context.Context, r schema.GroupVersionResource, obj *unstructured.Unstructured, status any) error {
	want, err := runtime.DefaultUnstructuredConverter.ToUnstructured(status)
	if err != nil {
		return err
	}
	now, _, err := unstructured.NestedMap(obj.Object, "status")
	if err != nil {
		return err
	}
	if equality.Semantic.DeepEqual(now, want) {
		return nil
	}
	for key := range now {
		if _, stays := want[key]; !stays {
			want[key] = nil // a patch takes away what it calls null
		}
	}
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": obj.GetUID()}, "status": want})
	if err != nil {
		return err
	}
	_, err = c.client.Resource(r).Namespace(obj.GetNamespace()).Patch(ctx, obj.GetName(), types.MergePatchType, body, metav1.PatchOptions{}, "status")
	return ignore(err, apierrors.IsNotFound, apierrors.IsConflict)
}

// event tells of an object: again is told by the same event.
func (c *Controller) event(ctx context.Context, about *unstructured.Unstructured, kind, reason, message string) error {
	hash := fnv.New32a()
	_, _ = fmt.Fprint(hash, about.GetUID(), reason, message)
	now := metav1.Now()
	event := &corev1.Event{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Event"},
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s.%08x", about.GetName(), hash.Sum32())},
		InvolvedObject: corev1.ObjectReference{
			APIVersion: about.GetAPIVersion(), Kind: about.GetKind(), Namespace: about.GetNamespace(), Name: about.GetName(), UID: about.GetUID(),
		},
		Type: kind, Reason: reason, Message: message, FirstTimestamp: now, LastTimestamp: now, Count: 1,
		Source: corev1.EventSource{Component: "kit"},
	}
	obj, err := runtime.DefaultUnstructuredConverter.ToUnstructured(event)
	if err != nil {
		return err
	}
	at := c.client.Resource(core("events")).Namespace(about.GetNamespace())
	_, err = at.Create(ctx, &unstructured.Unstructured{Object: obj}, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	again := fmt.Appendf(nil, `{"lastTimestamp":%q,"count":%d}`, now.UTC().Format(time.RFC3339), now.Unix())
	_, err = at.Patch(ctx, event.Name, types.MergePatchType, again, metav1.PatchOptions{})
	return ignore(err, apierrors.IsNotFound)
}
