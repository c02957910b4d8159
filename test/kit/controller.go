package kit

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/workqueue"
)

// Controller does what Kubernetes' controllers, scheduler and kubelets do, as far as an installation waits for it: default
// ServiceAccounts, volumes, pods and their statuses, garbage, the end of namespaces. No container runs. It works in the
// namespaces whose names begin with its prefix and leaves all others to themselves. It is safe for concurrent use.
type Controller struct {
	StorageClass string // the one class that gives volumes; no class is the default

	prefix string
	client dynamic.Interface
	stores map[schema.GroupVersionResource]cache.Indexer
	queue  workqueue.TypedRateLimitingInterface[string] // of namespaces

	mu      sync.Mutex
	lives   map[string]func(*corev1.Pod) Life // by namespace
	barren  map[string]string                 // why a namespace gets no volumes
	head    func(image string) string
	emptied map[types.UID]bool // the namespaces that end, and whose content has been deleted
}

// State is how far a pod comes.
type State string

// The states of a pod. A Job's pod that runs has done its work at once.
const (
	Runs  State = "Runs"
	Waits State = "Waits" // it is scheduled, and its containers do not start
	Fails State = "Fails" // its containers end with exit code 1

	Unready     State = "Unready"     // its containers run, and their probes fail
	Unscheduled State = "Unscheduled" // no node takes it
)

// Life is what becomes of a pod.
type Life struct {
	State  State
	Reason string // of a container that waits or has failed: "ErrImagePull"
	Says   string // the message to Reason, to Event, or of the scheduler
	Event  string // reason of a warning about the pod, with Says: "FailedMount"
}

// NewController starts one for the time of the test. At its end it takes away the namespaces that are left.
func NewController(t testing.TB, kubeconfig, prefix string) *Controller {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config.QPS, config.UserAgent = -1, "kit"
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	c := &Controller{
		StorageClass: prefix + "volumes",
		prefix:       prefix,
		client:       client,
		stores:       map[schema.GroupVersionResource]cache.Indexer{},
		emptied:      map[types.UID]bool{},
		lives:        map[string]func(*corev1.Pod) Life{},
		barren:       map[string]string{},
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[string](5*time.Millisecond, time.Second)),
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	t.Cleanup(func() {
		c.clear(t)
		stop()
		c.queue.ShutDown()
		running.Wait()
	})
	for _, r := range watched() {
		informer := c.informer(r)
		c.stores[r] = informer.GetIndexer()
		running.Go(func() { informer.RunWithContext(ctx) })
		if !cache.WaitForCacheSync(t.Context().Done(), informer.HasSynced) {
			t.Fatalf("watching %s: %v", r.Resource, context.Cause(t.Context()))
		}
	}
	c.Heads(nil)
	if err := c.makeClass(ctx); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		running.Go(func() { c.work(ctx, t) })
	}
	return c
}

// Live sets what becomes of a namespace's pods from now on, and of those that are there; nil lets all of them run.
func (c *Controller) Live(namespace string, life func(*corev1.Pod) Life) {
	c.mu.Lock()
	c.lives[namespace] = life
	c.mu.Unlock()
	c.queue.Add(namespace)
}

// Barren lets a namespace's new claims wait, and the provisioner say why; with "" it gives volumes again.
func (c *Controller) Barren(namespace, why string) {
	c.mu.Lock()
	c.barren[namespace] = why
	c.mu.Unlock()
	c.queue.Add(namespace)
}

// Heads sets what a migration leaves as its termination message, by its image; nil makes it of the image's tag.
func (c *Controller) Heads(head func(image string) string) {
	if head == nil {
		head = func(image string) string { return "head-of-" + image[strings.LastIndex(image, ":")+1:] }
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.head = head
}

// ways are what becomes of a namespace's pods, and what migrations leave.
func (c *Controller) ways(namespace string) (life func(*corev1.Pod) Life, head func(string) string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if life = c.lives[namespace]; life == nil {
		life = func(*corev1.Pod) Life { return Life{State: Runs} }
	}
	return life, c.head
}

func core(resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: resource}
}

func apps(resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: resource}
}

func batch(resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: resource}
}

// watched are the kinds that the controller works on.
func watched() []schema.GroupVersionResource {
	return []schema.GroupVersionResource{
		core("namespaces"), core("serviceaccounts"), core("persistentvolumeclaims"), core("pods"), apps("statefulsets"), apps("deployments"), batch("jobs"),
		batch("cronjobs"),
	}
}

func (c *Controller) informer(r schema.GroupVersionResource) cache.SharedIndexInformer {
	at := c.client.Resource(r)
	informer := cache.NewSharedIndexInformer(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return at.List(ctx, o) },
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return at.Watch(ctx, o)
		},
	}, &unstructured.Unstructured{}, 0, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    c.heard,
		UpdateFunc: func(_, now any) { c.heard(now) },
		DeleteFunc: c.heard,
	})
	if err != nil { // of an informer that has ended already
		panic(err)
	}
	return informer
}

// heard has the object's namespace looked at.
func (c *Controller) heard(obj any) {
	if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = last.Obj
	}
	o, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return
	}
	name := o.GetNamespace()
	if name == "" {
		name = o.GetName()
	}
	if strings.HasPrefix(name, c.prefix) {
		c.queue.Add(name)
	}
}

func (c *Controller) work(ctx context.Context, t testing.TB) {
	for {
		ns, over := c.queue.Get()
		if over {
			return
		}
		err := c.reconcile(ctx, ns)
		switch {
		case err == nil:
			c.queue.Forget(ns)
		case ctx.Err() == nil:
			// Who refuses pods is part of a test; and what goes on for so long is no race.
			if !apierrors.IsForbidden(err) && c.queue.NumRequeues(ns) == 8 {
				t.Logf("the controller in namespace %s: %v", ns, err)
			}
			c.queue.AddRateLimited(ns)
		}
		c.queue.Done(ns)
	}
}

// list is what the namespace holds of a kind, as far as it is known.
func (c *Controller) list(r schema.GroupVersionResource, namespace string) []*unstructured.Unstructured {
	found, err := c.stores[r].ByIndex(cache.NamespaceIndex, namespace)
	if err != nil { // no such index
		panic(err)
	}
	objs := make([]*unstructured.Unstructured, 0, len(found))
	for _, f := range found {
		objs = append(objs, f.(*unstructured.Unstructured))
	}
	slices.SortFunc(objs, func(a, b *unstructured.Unstructured) int { return strings.Compare(a.GetName(), b.GetName()) })
	return objs
}

// reconcile brings one namespace a step nearer to what its objects say. What it changes is heard, and so comes the next step.
func (c *Controller) reconcile(ctx context.Context, namespace string) error {
	found, ok, err := c.stores[core("namespaces")].GetByKey(namespace)
	if err != nil || !ok {
		return err
	}
	ns := found.(*unstructured.Unstructured)
	ending := ns.GetDeletionTimestamp() != nil
	var errs []error
	if ending {
		errs = append(errs, c.empty(ctx, ns))
	} else {
		errs = append(errs, c.account(ctx, namespace))
	}
	bound, err := c.volumes(ctx, namespace)
	errs = append(errs, err)
	owners := map[string]*workload{}
	for _, r := range []schema.GroupVersionResource{apps("statefulsets"), apps("deployments"), batch("jobs")} {
		for _, obj := range c.list(r, namespace) {
			w, err := readWorkload(r, obj)
			if err != nil {
				return err
			}
			owners[string(obj.GetUID())] = w
		}
	}
	errs = append(errs, c.orphans(ctx, namespace), c.pods(ctx, namespace, owners, bound))
	if !ending {
		for _, w := range owners {
			errs = append(errs, c.run(ctx, w))
		}
	}
	if ending {
		errs = append(errs, c.finalize(ctx, ns))
	}
	return errors.Join(errs...)
}

// orphans deletes the Jobs whose CronJob is gone.
func (c *Controller) orphans(ctx context.Context, namespace string) error {
	there := map[types.UID]bool{}
	for _, cron := range c.list(batch("cronjobs"), namespace) {
		there[cron.GetUID()] = true
	}
	var errs []error
	for _, job := range c.list(batch("jobs"), namespace) {
		owner := metav1.GetControllerOfNoCopy(job)
		if owner == nil || there[owner.UID] {
			continue
		}
		cron, err := c.client.Resource(batch("cronjobs")).Namespace(namespace).Get(ctx, owner.Name, metav1.GetOptions{})
		switch {
		case err == nil && cron.GetUID() == owner.UID: // it was not heard of yet
		case err == nil, apierrors.IsNotFound(err):
			err = c.client.Resource(batch("jobs")).Namespace(namespace).Delete(ctx, job.GetName(), metav1.DeleteOptions{})
			errs = append(errs, ignore(err, apierrors.IsNotFound))
		default:
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// account makes what every namespace has, and pods need.
func (c *Controller) account(ctx context.Context, namespace string) error {
	if _, ok, err := c.stores[core("serviceaccounts")].GetByKey(namespace + "/default"); ok || err != nil {
		return err
	}
	account := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ServiceAccount", "metadata": map[string]any{"name": "default"},
	}}
	_, err := c.client.Resource(core("serviceaccounts")).Namespace(namespace).Create(ctx, account, metav1.CreateOptions{})
	return ignore(err, apierrors.IsAlreadyExists)
}

func ignore(err error, is ...func(error) bool) error {
	for _, f := range is {
		if f(err) {
			return nil
		}
	}
	return err
}

// empty deletes what is in a namespace that ends.
func (c *Controller) empty(ctx context.Context, ns *unstructured.Unstructured) error {
	c.mu.Lock()
	done := c.emptied[ns.GetUID()]
	c.mu.Unlock()
	if done {
		return nil
	}
	now, background := int64(0), metav1.DeletePropagationBackground
	options := metav1.DeleteOptions{GracePeriodSeconds: &now, PropagationPolicy: &background}
	for _, r := range content() {
		err := c.client.Resource(r).Namespace(ns.GetName()).DeleteCollection(ctx, options, metav1.ListOptions{})
		if err != nil {
			return err
		}
	}
	c.mu.Lock()
	c.emptied[ns.GetUID()] = true
	c.mu.Unlock()
	return nil
}

// content is what a namespace of the tests may hold.
func content() []schema.GroupVersionResource {
	return []schema.GroupVersionResource{
		core("services"), core("configmaps"), core("secrets"), core("serviceaccounts"), core("resourcequotas"), core("limitranges"),
		core("events"), batch("cronjobs"), leaseResource(),
		{Group: "networking.k8s.io", Version: "v1", Resource: "networkpolicies"},
		{Group: "networking.k8s.io", Version: "v1", Resource: "ingresses"},
		{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "roles"},
		{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "rolebindings"},
		apps("statefulsets"), apps("deployments"), batch("jobs"), core("pods"), core("persistentvolumeclaims"),
	}
}

// finalize lets a namespace go when nothing that is watched is in it any more.
func (c *Controller) finalize(ctx context.Context, ns *unstructured.Unstructured) error {
	for _, r := range watched() {
		if r != core("namespaces") && len(c.list(r, ns.GetName())) > 0 {
			return nil
		}
	}
	left, _, err := unstructured.NestedSlice(ns.Object, "spec", "finalizers")
	if err != nil || len(left) == 0 {
		return err
	}
	ns = ns.DeepCopy()
	unstructured.RemoveNestedField(ns.Object, "spec", "finalizers")
	_, err = c.client.Resource(core("namespaces")).Update(ctx, ns, metav1.UpdateOptions{}, "finalize")
	return ignore(err, apierrors.IsNotFound, apierrors.IsConflict)
}

// End has a namespace deleted, and does not wait for it.
func (c *Controller) End(t testing.TB, namespace string) {
	t.Helper()
	err := c.client.Resource(core("namespaces")).Delete(context.WithoutCancel(t.Context()), namespace, metav1.DeleteOptions{})
	if ignore(err, apierrors.IsNotFound, apierrors.IsConflict) != nil {
		t.Error(err)
	}
}

// clear takes away what the tests left.
func (c *Controller) clear(t testing.TB) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 3*time.Minute)
	defer cancel()
	at := c.client.Resource(core("namespaces"))
	for {
		list, err := at.List(ctx, metav1.ListOptions{})
		if err != nil {
			t.Errorf("removing the test's namespaces: %v", err)
			return
		}
		var left []string
		for _, ns := range list.Items {
			if !strings.HasPrefix(ns.GetName(), c.prefix) {
				continue
			}
			left = append(left, ns.GetName())
			if ns.GetDeletionTimestamp() == nil {
				err = errors.Join(err, ignore(at.Delete(ctx, ns.GetName(), metav1.DeleteOptions{}), apierrors.IsNotFound))
			}
		}
		if err != nil {
			t.Errorf("removing the test's namespaces: %v", err)
			return
		}
		if len(left) == 0 {
			break
		}
		if err := c.next(ctx, list.GetResourceVersion()); err != nil {
			t.Errorf("namespaces %v do not go: %v", left, err)
			return
		}
	}
	err := c.client.Resource(classes()).Delete(ctx, c.StorageClass, metav1.DeleteOptions{})
	if ignore(err, apierrors.IsNotFound) != nil {
		t.Error(err)
	}
}

// next returns with the next change of a namespace.
func (c *Controller) next(ctx context.Context, version string) error {
	w, err := c.client.Resource(core("namespaces")).Watch(ctx, metav1.ListOptions{ResourceVersion: version})
	if err != nil {
		return err
	}
	defer w.Stop()
	select {
	case <-w.ResultChan():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func classes() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "storage.k8s.io", Version: "v1", Resource: "storageclasses"}
}

func (c *Controller) makeClass(ctx context.Context) error {
	class := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": map[string]any{"name": c.StorageClass},
		"provisioner": "kit.example.com/none", "allowVolumeExpansion": true,
	}}
	_, err := c.client.Resource(classes()).Create(ctx, class, metav1.CreateOptions{})
	return err
}
