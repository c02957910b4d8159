// Package trackingserver puts MLflow on a Kubernetes cluster, watches over its start, leads to it and takes it away again.
package trackingserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/version"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/forward"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/instance"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/readiness"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/tracking"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// DefaultNamespace is where MLflow lives unless something else is said.
const DefaultNamespace = "mlflow"

// Client installs MLflow on one cluster. It is not safe for concurrent use.
type Client struct {
	manifests fs.FS
	progress  progress.Reporter
	cluster   kubernetes
	records   records
	wait      func(ctx context.Context, targets []readiness.Target, s progress.Step) error
	probe     func(ctx context.Context, t tunnel, cred tracking.Credentials) error
	dial      func(to cluster.ServicePort) tunnel
	kinds     func(ctx context.Context) ([]schema.GroupVersionKind, error)
}

// kubernetes is the part of cluster.Client that this room needs.
type kubernetes interface {
	Namespace() (namespace string, explicit bool, err error)
	Get(ctx context.Context, r cluster.Ref) (*unstructured.Unstructured, error)
	List(ctx context.Context, q cluster.Query) ([]*unstructured.Unstructured, error)
	Observe(ctx context.Context, qs []cluster.Query, f func([]*unstructured.Unstructured) (done bool, err error)) error
	ApplyObject(ctx context.Context, obj *unstructured.Unstructured, o cluster.ApplyOptions) (cluster.Applied, error)
	Preview(ctx context.Context, objs []*unstructured.Unstructured, o cluster.ApplyOptions) ([]cluster.Applied, error)
	Create(ctx context.Context, obj *unstructured.Unstructured, dryRun bool) (*unstructured.Unstructured, error)
	CreateOnce(ctx context.Context, obj *unstructured.Unstructured) (*unstructured.Unstructured, error)
	Delete(ctx context.Context, r cluster.Ref, uid types.UID) error
	Prune(ctx context.Context, old, now cluster.Inventory) ([]cluster.Change, error)
	DeleteInventory(ctx context.Context, inv cluster.Inventory, evenKept bool) ([]cluster.Change, error)
	Missing(ctx context.Context, wanted []cluster.Access) ([]cluster.Access, error)
	Version(ctx context.Context) (*version.Version, error)
	Lock(ctx context.Context, namespace, name, operation string, note func(string)) (locked context.Context, unlock func() error, err error)
	Holder(ctx context.Context, namespace, name string) (string, error)
	Replicas(ctx context.Context, r cluster.Ref) (int64, error)
	Scale(ctx context.Context, r cluster.Ref, replicas int64) error
	Log(ctx context.Context, pod cluster.Ref, container string, o cluster.LogOptions) (io.ReadCloser, error)
	Follow(ctx context.Context, pod cluster.Ref, container string, f func(line string) error) error
	Tail(ctx context.Context, pod cluster.Ref, container string, previous bool, n int) ([]string, error)
	Send(ctx context.Context, pod cluster.Ref, container string, stdin io.Reader) error
}

// records keeps what is installed where.
type records interface {
	Load(ctx context.Context, namespace string) (*instance.Instance, error) // nil where there is none
	Save(ctx context.Context, i instance.Instance) error
	Delete(ctx context.Context, namespace string) error
}

// tunnel leads to the server's pods.
type tunnel interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
	KeepSpare()
	Close() error
}

// Getter finds the cluster: every genericclioptions.RESTClientGetter is one.
type Getter = cluster.Getter

// New makes a client for the cluster that getter finds. manifests is a kustomize tree with the folder overlays; r is told
// of what takes long. Nothing is read or dialled yet.
func New(getter Getter, manifests fs.FS, r progress.Reporter) *Client {
	k := cluster.New(getter)
	return &Client{
		manifests: manifests,
		progress:  r,
		cluster:   k,
		records:   recordsOn{k},
		wait: func(ctx context.Context, targets []readiness.Target, s progress.Step) error {
			return readiness.Wait(ctx, k, targets, s)
		},
		probe: probe,
		dial:  func(to cluster.ServicePort) tunnel { return forward.NewDialer(k, to) },
		kinds: k.NamespacedKinds,
	}
}

// recordsOn keeps the records on the cluster itself.
type recordsOn struct{ cluster *cluster.Client }

func (r recordsOn) Load(ctx context.Context, namespace string) (*instance.Instance, error) {
	return instance.Load(ctx, r.cluster, namespace)
}

func (r recordsOn) Save(ctx context.Context, i instance.Instance) error {
	return instance.Save(ctx, r.cluster, i)
}

func (r recordsOn) Delete(ctx context.Context, namespace string) error {
	return instance.Delete(ctx, r.cluster, namespace)
}

// Change is what was done to one object.
type Change struct {
	schema.GroupVersionKind
	Namespace, Name string
	Action          string // created, configured, unchanged, pruned (deleted) or kept
	// After is the object as it is, or would be, with the server's defaults; nil where it is deleted, and for a Secret,
	// whose content is never told.
	After *unstructured.Unstructured
}

// Unchanged is the Action of an object that is as it was.
const Unchanged = cluster.Unchanged

// Object names the object in kubectl's form, "deployment.apps/mlflow".
func (c Change) Object() string { return c.ref().String() }

func (c Change) ref() cluster.Ref {
	return cluster.Ref{GroupVersionKind: c.GroupVersionKind, Namespace: c.Namespace, Name: c.Name}
}

// place is the namespace to work in, and what is recorded there: the one that the flags name; else the context's, if it
// holds an installation; else DefaultNamespace.
func (c *Client) place(ctx context.Context) (string, *instance.Instance, error) {
	current, explicit, err := c.cluster.Namespace()
	if err != nil {
		return "", nil, err
	}
	record, err := c.records.Load(ctx, current)
	if err != nil && (explicit || failure.ClassOf(err) != failure.Forbidden) {
		return current, nil, err
	}
	if explicit || record != nil || current == DefaultNamespace {
		return current, record, err
	}
	record, err = c.records.Load(ctx, DefaultNamespace)
	return DefaultNamespace, record, err
}

// installed is the installation to work on. failure.Invalid where there is none.
func (c *Client) installed(ctx context.Context) (*instance.Instance, error) {
	namespace, record, err := c.place(ctx)
	if err != nil {
		return nil, err
	}
	if record == nil {
		return nil, notInstalled(namespace)
	}
	return record, nil
}

func notInstalled(namespace string) error {
	return &failure.Error{
		Class: failure.Invalid, Reason: "NotInstalled",
		Message: fmt.Sprintf("there is no MLflow in namespace %s that kubectl-mlflow installed", namespace),
		Hint:    "install it with: kubectl mlflow install; or name its namespace with --namespace",
	}
}

// get is the object, or nil where there is none.
func (c *Client) get(ctx context.Context, r cluster.Ref) (*unstructured.Unstructured, error) {
	obj, err := c.cluster.Get(ctx, r)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return obj, err
}

// getRecorded is what an earlier install wrote, or nil where it is gone, be it with its whole kind.
func (c *Client) getRecorded(ctx context.Context, item cluster.Change) (*unstructured.Unstructured, error) {
	live, err := c.get(ctx, item.Ref)
	if errors.Is(err, cluster.ErrNotServed) {
		return nil, nil
	}
	return live, err
}

// getAll reads objects, several at once. What is not there is not in the answer.
func (c *Client) getAll(ctx context.Context, objs []*unstructured.Unstructured) (map[cluster.Ref]*unstructured.Unstructured, error) {
	found := make([]*unstructured.Unstructured, len(objs))
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(8)
	for i, obj := range objs {
		all.Go(func() error {
			live, err := c.get(ctx, cluster.RefOf(obj))
			found[i] = live
			return err
		})
	}
	if err := all.Wait(); err != nil {
		return nil, err
	}
	live := map[cluster.Ref]*unstructured.Unstructured{}
	for i, obj := range objs {
		if found[i] != nil {
			live[cluster.RefOf(obj)] = found[i]
		}
	}
	return live, nil
}

// core names an object of the core API group.
func core(kind, namespace, name string) cluster.Ref {
	return cluster.Ref{GroupVersionKind: schema.GroupVersionKind{Version: "v1", Kind: kind}, Namespace: namespace, Name: name}
}
