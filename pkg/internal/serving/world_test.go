package serving

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"
	"knative.dev/serving/pkg/apis/serving"
	knative "knative.dev/serving/pkg/apis/serving/v1"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
)

// world is an API server with Knative's controllers behind it, as far as they matter here: defaults at admission, optimistic
// locking, and a revision for every change of a template.
type world struct {
	t          *testing.T
	noKnative  bool
	noRevision string // why the controller makes none
	objects    map[cluster.Ref]*unstructured.Unstructured
	version    int
	writes     int
	dryRuns    int
	// before is called once before the next update reaches the server: somebody else writes.
	before func()
}

func newWorld(t *testing.T) *world {
	return &world{t: t, objects: map[cluster.Ref]*unstructured.Unstructured{}}
}

func (w *world) HasKind(context.Context, schema.GroupVersionKind) (bool, error) {
	return !w.noKnative, nil
}

func notFound(r cluster.Ref) error {
	return apierrors.NewNotFound(schema.GroupResource{Group: r.Group, Resource: r.Kind}, r.Name)
}

func (w *world) Get(_ context.Context, r cluster.Ref) (*unstructured.Unstructured, error) {
	obj, ok := w.objects[r]
	if !ok {
		return nil, fmt.Errorf("get %s: %w", r, notFound(r))
	}
	return obj.DeepCopy(), nil
}

func (w *world) List(_ context.Context, q cluster.Query) ([]*unstructured.Unstructured, error) {
	var found []*unstructured.Unstructured
	for r, obj := range w.objects {
		if r.GroupVersionKind == q.GroupVersionKind && (q.Namespace == "" || q.Namespace == r.Namespace) && (q.Name == "" || q.Name == r.Name) &&
			(q.Selector == nil || q.Selector.Matches(labels.Set(obj.GetLabels()))) {
			found = append(found, obj.DeepCopy())
		}
	}
	return found, nil
}

func (w *world) ListPages(ctx context.Context, q cluster.Query, f func(*unstructured.Unstructured) error) error {
	found, err := w.List(ctx, q)
	for _, obj := range found {
		if err := f(obj); err != nil {
			return err
		}
	}
	return err
}

func (w *world) Create(_ context.Context, obj *unstructured.Unstructured, dryRun bool) (*unstructured.Unstructured, error) {
	r := cluster.RefOf(obj)
	if _, ok := w.objects[r]; ok {
		return nil, apierrors.NewAlreadyExists(schema.GroupResource{Group: r.Group, Resource: r.Kind}, r.Name)
	}
	obj = obj.DeepCopy()
	obj.SetUID(types.UID(fmt.Sprintf("uid-%d", w.version+1)))
	obj.SetGeneration(1)
	return w.store(obj, dryRun), nil
}

func (w *world) Update(_ context.Context, obj *unstructured.Unstructured, dryRun bool) (*unstructured.Unstructured, error) {
	if before := w.before; before != nil {
		w.before = nil
		before()
	}
	r := cluster.RefOf(obj)
	live, ok := w.objects[r]
	if !ok {
		return nil, notFound(r)
	}
	if obj.GetResourceVersion() != live.GetResourceVersion() {
		return nil, fmt.Errorf("update %s: %w", r, apierrors.NewConflict(schema.GroupResource{Group: r.Group, Resource: r.Kind}, r.Name, nil))
	}
	obj = obj.DeepCopy()
	obj.SetGeneration(live.GetGeneration())
	if !reflect.DeepEqual(obj.Object["spec"], live.Object["spec"]) {
		obj.SetGeneration(live.GetGeneration() + 1)
	}
	return w.store(obj, dryRun), nil
}

func (w *world) store(obj *unstructured.Unstructured, dryRun bool) *unstructured.Unstructured {
	if dryRun {
		w.dryRuns++
		return obj
	}
	w.writes++
	return w.put(obj)
}

// put stores obj as the server does after admission, and lets the controller see it.
func (w *world) put(obj *unstructured.Unstructured) *unstructured.Unstructured {
	w.version++
	obj.SetResourceVersion(strconv.Itoa(w.version))
	if obj.GetKind() == "Service" && obj.GroupVersionKind().Group == serving.GroupName {
		var service knative.Service
		w.decode(obj, &service)
		service.SetDefaults(w.t.Context())
		obj = w.encode(&service)
		w.objects[cluster.RefOf(obj)] = obj
		w.reconcile(&service)
		return obj.DeepCopy()
	}
	w.objects[cluster.RefOf(obj)] = obj
	return obj.DeepCopy()
}

// reconcile makes a revision of the template, as Knative's Configuration does: one for each template that differs from the last.
func (w *world) reconcile(service *knative.Service) {
	previous := w.revisions(service.Name)
	template := service.Spec.Template
	service.Status.ObservedGeneration = service.Generation
	observed := w.encode(service)
	w.objects[cluster.RefOf(observed)] = observed
	if n := len(previous); n > 0 && equality.Semantic.DeepEqual(previous[n-1].Spec, template.Spec) && equality.Semantic.DeepEqual(previous[n-1].Annotations, template.Annotations) {
		return
	}
	if w.noRevision != "" {
		service.Status.Conditions = duckv1.Conditions{{Type: knative.ServiceConditionConfigurationsReady, Status: corev1.ConditionFalse, Reason: "RevisionFailed", Message: w.noRevision}}
		obj := w.encode(service)
		w.objects[cluster.RefOf(obj)] = obj
		return
	}
	next := 1
	if n := len(previous); n > 0 {
		last, err := strconv.Atoi(previous[n-1].Labels[serving.ConfigurationGenerationLabelKey])
		if err != nil {
			w.t.Fatal(err)
		}
		next = last + 1
	}
	obj := w.encode(&knative.Revision{
		TypeMeta: metav1.TypeMeta{APIVersion: knative.SchemeGroupVersion.String(), Kind: "Revision"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: service.Namespace, Name: fmt.Sprintf("%s-%05d", service.Name, next), Annotations: template.Annotations, Generation: 1,
			Labels: map[string]string{
				serving.ServiceLabelKey: service.Name, serving.ServiceUIDLabelKey: string(service.UID),
				serving.ConfigurationGenerationLabelKey: strconv.Itoa(next),
			},
		},
		Spec: template.Spec,
	})
	w.objects[cluster.RefOf(obj)] = obj
}

// revisions are those that are there, the oldest first.
func (w *world) revisions(service string) []*knative.Revision {
	var found []*knative.Revision
	for ref, obj := range w.objects {
		if ref.Kind == "Revision" && obj.GetLabels()[serving.ServiceLabelKey] == service {
			var r knative.Revision
			w.decode(obj, &r)
			found = append(found, &r)
		}
	}
	slices.SortFunc(found, func(a, b *knative.Revision) int { return strings.Compare(a.Name, b.Name) })
	return found
}

// conclude gives a revision its Ready condition.
func (w *world) conclude(name string, c apis.Condition) {
	r := revisionRef("models", name)
	var revision knative.Revision
	w.decode(w.objects[r], &revision)
	revision.Status.ObservedGeneration = revision.Generation
	c.Type = knative.RevisionConditionReady
	revision.Status.Conditions = duckv1.Conditions{c}
	w.objects[r] = w.encode(&revision)
	if c.IsTrue() {
		service := w.service()
		service.Status.LatestReadyRevisionName = name
		obj := w.encode(service)
		w.objects[cluster.RefOf(obj)] = obj
	}
}

func (w *world) Delete(_ context.Context, r cluster.Ref, uid types.UID) error {
	if obj, ok := w.objects[r]; ok && obj.GetUID() == uid {
		w.writes++
		delete(w.objects, r)
	}
	return nil
}

func (w *world) Observe(ctx context.Context, qs []cluster.Query, f func([]*unstructured.Unstructured) (bool, error)) error {
	var all []*unstructured.Unstructured
	for _, q := range qs {
		found, err := w.List(ctx, q)
		if err != nil {
			return err
		}
		all = append(all, found...)
	}
	if done, err := f(all); done || err != nil {
		return err
	}
	<-ctx.Done() // this world has come to rest
	return fmt.Errorf("observing: %w", context.Cause(ctx))
}

func (w *world) service() *knative.Service {
	w.t.Helper()
	obj, ok := w.objects[ServiceRef("models", "iris")]
	if !ok {
		w.t.Fatal("there is no Service iris")
	}
	var service knative.Service
	w.decode(obj, &service)
	return &service
}

// edit changes the Service as another client would.
func (w *world) edit(f func(*knative.Service)) {
	service := w.service()
	f(service)
	service.Generation++
	w.put(w.encode(service))
}

func (w *world) decode(obj *unstructured.Unstructured, into any) {
	w.t.Helper()
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj.Object, into); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) encode(obj runtime.Object) *unstructured.Unstructured {
	w.t.Helper()
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		w.t.Fatal(err)
	}
	return &unstructured.Unstructured{Object: content}
}
