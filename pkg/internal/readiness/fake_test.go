package readiness

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

// moment is what the cluster looks like from a time on, counted from the start of the wait.
type moment struct {
	at   time.Duration
	objs []*unstructured.Unstructured
}

// film is an Observer that plays moments. Tests run in synctest bubbles: its minutes pass at once.
type film struct {
	moments []moment
	tail    func(pod, container string, previous bool) ([]string, error)
	asked   []cluster.Query
}

func (f *film) Observe(ctx context.Context, qs []cluster.Query, show func([]*unstructured.Unstructured) (bool, error)) error {
	f.asked = qs
	began := time.Now()
	for _, m := range f.moments {
		t := time.NewTimer(m.at - time.Since(began))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		if done, err := show(m.objs); done || err != nil {
			return err
		}
	}
	<-ctx.Done()
	return ctx.Err()
}

func (f *film) Tail(ctx context.Context, pod cluster.Ref, container string, previous bool, n int) ([]string, error) {
	if ctx.Err() != nil || n != logLines {
		return nil, fmt.Errorf("asked for %d lines with a context that says: %w", n, ctx.Err())
	}
	if f.tail == nil {
		return nil, errors.New("no log")
	}
	return f.tail(pod.String(), container, previous)
}

// notes is a progress.Step that keeps what it is told.
type notes struct{ texts []string }

func (n *notes) Note(text string)   { n.texts = append(n.texts, text) }
func (n *notes) Bytes(int64, int64) {}
func (n *notes) End(error)          {}

func show(at time.Duration, objs ...*unstructured.Unstructured) moment { return moment{at, objs} }

func untyped(t *testing.T, gvk schema.GroupVersionKind, typed any) *unstructured.Unstructured {
	t.Helper()
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(typed)
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{Object: m}
	u.SetGroupVersionKind(gvk)
	return u
}

func meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: "ml", UID: types.UID("uid-" + name), Generation: 1}
}

func target(group, kind, name string) Target {
	return Target{Object: cluster.Ref{GroupVersionKind: schema.GroupVersionKind{Group: group, Version: "v1", Kind: kind}, Namespace: "ml", Name: name}}
}

// deployment runs one pod with the label app=NAME; ready is how many are.
func deployment(t *testing.T, name string, ready int32, edit ...func(*appsv1.Deployment)) *unstructured.Unstructured {
	t.Helper()
	d := &appsv1.Deployment{ObjectMeta: meta(name)}
	d.Annotations = map[string]string{revision: "2"}
	d.Spec.Replicas = new(int32(1))
	d.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}
	d.Spec.Template.Labels = map[string]string{"app": name}
	d.Status = appsv1.DeploymentStatus{ObservedGeneration: 1, Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: ready, AvailableReplicas: ready}
	if ready == 1 {
		d.Status.Conditions = []appsv1.DeploymentCondition{
			{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue, Reason: "NewReplicaSetAvailable"},
			{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionTrue},
		}
	}
	for _, e := range edit {
		e(d)
	}
	return untyped(t, appsv1.SchemeGroupVersion.WithKind("Deployment"), d)
}

// statefulSet is postgres.
func statefulSet(t *testing.T, ready int32) *unstructured.Unstructured {
	t.Helper()
	s := &appsv1.StatefulSet{ObjectMeta: meta("postgres")}
	s.Spec.Replicas = new(int32(1))
	s.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "postgres"}}
	s.Status = appsv1.StatefulSetStatus{ObservedGeneration: 1, Replicas: ready, ReadyReplicas: ready, CurrentReplicas: ready}
	return untyped(t, appsv1.SchemeGroupVersion.WithKind("StatefulSet"), s)
}

// job is the migration.
func job(t *testing.T, condition batchv1.JobConditionType, reason string) *unstructured.Unstructured {
	t.Helper()
	j := &batchv1.Job{ObjectMeta: meta("migration")}
	j.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "migration"}}
	j.Status.Active = 1
	if condition != "" {
		j.Status.Conditions = []batchv1.JobCondition{{Type: condition, Status: corev1.ConditionTrue, Reason: reason, Message: "Job has reached the specified backoff limit"}}
	}
	return untyped(t, batchv1.SchemeGroupVersion.WithKind("Job"), j)
}

// pod is one of app's.
func pod(t *testing.T, app string, edit ...func(*corev1.Pod)) *unstructured.Unstructured {
	t.Helper()
	p := &corev1.Pod{ObjectMeta: meta(app + "-pod")}
	p.Labels = map[string]string{"app": app}
	p.Status.Phase = corev1.PodPending
	for _, e := range edit {
		e(p)
	}
	return untyped(t, podKind(), p)
}

// container gives the pod a container in a state; restarts and the last end are those of a crash.
func container(state corev1.ContainerState, restarts int32, last *corev1.ContainerStateTerminated) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: "main", Image: "registry/app:1", State: state, RestartCount: restarts,
			LastTerminationState: corev1.ContainerState{Terminated: last},
		})
	}
}

func waits(reason, message string) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
}

func runs() corev1.ContainerState {
	return corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
}

func exit(code int32, reason string) *corev1.ContainerStateTerminated {
	return &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason}
}

// warning is an event about an object; version tells one occurrence from the next.
func warning(t *testing.T, about *unstructured.Unstructured, reason, message string, version int) *unstructured.Unstructured {
	t.Helper()
	e := &corev1.Event{ObjectMeta: meta(about.GetName() + "." + reason), Type: corev1.EventTypeWarning, Reason: reason, Message: message}
	e.ResourceVersion = fmt.Sprint(version)
	e.InvolvedObject = corev1.ObjectReference{Kind: about.GetKind(), Name: about.GetName(), UID: about.GetUID(), FieldPath: "spec.containers{main}"}
	e.LastTimestamp = metav1.NewTime(time.Unix(int64(1000+version), 0))
	return untyped(t, eventKind(), e)
}

// wantFailure checks a failure, and that its evidence has each of the lines.
func wantFailure(t *testing.T, err error, class failure.Class, reason, object, message string, evidence ...string) {
	t.Helper()
	f, ok := errors.AsType[*failure.Error](err)
	if !ok {
		t.Fatalf("err = %v, want a failure", err)
	}
	if f.Class != class || f.Reason != reason || f.Object != object {
		t.Errorf("class %s, reason %s, object %s; want %s, %s, %s", f.Class, f.Reason, f.Object, class, reason, object)
	}
	if !strings.Contains(f.Message, message) {
		t.Errorf("message %q lacks %q", f.Message, message)
	}
	if f.Hint == "" {
		t.Error("there is no hint")
	}
	for _, line := range evidence {
		if !slices.ContainsFunc(f.Evidence, func(s string) bool { return strings.Contains(s, line) }) {
			t.Errorf("evidence %q lacks %q", f.Evidence, line)
		}
	}
}
