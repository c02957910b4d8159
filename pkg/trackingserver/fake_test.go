package trackingserver

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/version"

	"github.com/kubectl-mlflow/kubectl-mlflow/manifests"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/instance"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/readiness"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/tracking"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// world is a cluster in memory: it keeps objects, gives them UIDs, and tells in order what was done to it.
type world struct {
	objects map[cluster.Ref]*unstructured.Unstructured
	record  map[string]instance.Instance
	journal []string // writes, waits and questions: "create secret/mlflow-secret"
	uids    int

	entering  sync.Mutex
	namespace string // of the kubeconfig's context
	explicit  bool   // it was named by a flag
	kill      int    // after so many entries of the journal everything ends with errKilled; 0 is never
	killed    func() // called then
	refuse    func(verb string, r cluster.Ref) error
	notReady  func(r cluster.Ref) error
	probe     func() error
	asked     tracking.Credentials
	classes   []*unstructured.Unstructured
	rights    []string          // that are missing: "create deployments"
	version   string            // of the API server
	holder    string            // of the lock
	held      error             // by somebody else: the lock's failure
	pods      map[string]pod    // of Jobs, by the name of the CronJob or Job that they come from
	sent      string            // to a container
	logs      map[string]string // by "pod/container"
}

// pod is what the pod of a Job leaves.
type pod struct {
	message string // its termination message
	code    int64  // its exit code
	log     []string
}

var errKilled = errors.New("killed")

func newWorld() *world {
	return &world{
		objects: map[cluster.Ref]*unstructured.Unstructured{}, record: map[string]instance.Instance{}, namespace: "default",
		version: "v1.34.1",
		classes: []*unstructured.Unstructured{storageClass("standard", "true"), storageClass("fast", "false")},
	}
}

func storageClass(name, isDefault string) *unstructured.Unstructured {
	class := &unstructured.Unstructured{}
	class.SetName(name)
	class.SetAnnotations(map[string]string{isDefaultClass: isDefault})
	return class
}

// client is a Client on the world, and on the manifests as they are shipped.
func (w *world) client() *Client {
	return &Client{
		manifests: manifests.FS,
		progress:  progress.Discard{},
		cluster:   w,
		records:   w.records(),
		wait: func(_ context.Context, targets []readiness.Target, _ progress.Step) error {
			for _, target := range targets {
				if !target.Beside {
					if err := w.do("wait for", target.Object); err != nil {
						return err
					}
				}
				if w.notReady != nil {
					if err := w.notReady(target.Object); err != nil {
						return err
					}
				}
			}
			return nil
		},
		probe: func(_ context.Context, _ tunnel, cred tracking.Credentials) error {
			w.asked = cred
			if w.probe != nil {
				return w.probe()
			}
			return w.enter("ask MLflow")
		},
		dial: func(cluster.ServicePort) tunnel { return noTunnel{} },
		kinds: func(context.Context) ([]schema.GroupVersionKind, error) {
			kinds := map[schema.GroupVersionKind]bool{core("ConfigMap", "", "").GroupVersionKind: true}
			for r := range w.objects {
				if r.Namespace != "" {
					kinds[r.GroupVersionKind] = true
				}
			}
			return slices.Collect(maps.Keys(kinds)), nil
		},
	}
}

// enter notes what is done next, unless the world ends here.
func (w *world) enter(entry string) error {
	w.entering.Lock() // a dump is sent and waited for at once
	defer w.entering.Unlock()
	if w.kill > 0 && len(w.journal) >= w.kill {
		w.killed()
		return errKilled
	}
	w.journal = append(w.journal, entry)
	return nil
}

func (w *world) do(verb string, r cluster.Ref) error {
	if w.refuse != nil {
		if err := w.refuse(verb, r); err != nil {
			return err
		}
	}
	return w.enter(verb + " " + r.String())
}

// wrote is the journal without waits and questions.
func (w *world) wrote() []string {
	var writes []string
	for _, entry := range w.journal {
		if !strings.HasPrefix(entry, "wait for") && !strings.HasPrefix(entry, "ask") && !strings.HasPrefix(entry, "dry run") {
			writes = append(writes, entry)
		}
	}
	return writes
}

func (w *world) Version(context.Context) (*version.Version, error) {
	return version.MustParseGeneric(w.version), nil
}

func (w *world) Namespace() (string, bool, error) { return w.namespace, w.explicit, nil }

func (w *world) Get(_ context.Context, r cluster.Ref) (*unstructured.Unstructured, error) {
	if w.refuse != nil {
		if err := w.refuse("get", r); err != nil {
			return nil, err
		}
	}
	if obj, ok := w.objects[r]; ok {
		return obj.DeepCopy(), nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Group: r.Group, Resource: strings.ToLower(r.Kind)}, r.Name)
}

func (w *world) List(_ context.Context, q cluster.Query) ([]*unstructured.Unstructured, error) {
	if q.Kind == "StorageClass" {
		return w.classes, nil
	}
	if q.Kind == "Pod" && q.Selector != nil {
		return w.podsOf(q), nil
	}
	var found []*unstructured.Unstructured
	for r, obj := range w.objects {
		if r.GroupVersionKind == q.GroupVersionKind && (q.Namespace == "" || r.Namespace == q.Namespace) && (q.Selector == nil || q.Selector.Matches(labels.Set(obj.GetLabels()))) {
			found = append(found, obj.DeepCopy())
		}
	}
	return found, nil
}

// podsOf are those of the Jobs that the query asks for: each Job has one that ended well.
func (w *world) podsOf(q cluster.Query) []*unstructured.Unstructured {
	var found []*unstructured.Unstructured
	for r, obj := range w.objects {
		if r.Kind == "Pod" && r.Namespace == q.Namespace && q.Selector.Matches(labels.Set(obj.GetLabels())) {
			found = append(found, obj.DeepCopy())
		}
		if r.Kind != "Job" || !q.Selector.Matches(labels.Set{jobNameLabel: r.Name}) {
			continue
		}
		left := w.leftBy(r.Name)
		found = append(found, &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"namespace": r.Namespace, "name": r.Name + "-pod"},
			"status": map[string]any{
				"phase":                 "Succeeded",
				"initContainerStatuses": []any{map[string]any{"name": dumpContainer, "state": map[string]any{"running": map[string]any{}}}}, // as long as it takes a dump
				"containerStatuses": []any{
					map[string]any{"state": map[string]any{"terminated": map[string]any{"exitCode": left.code, "message": left.message}}},
				},
			},
		}})
	}
	return found
}

// leftBy is what the pod of this name, or of a Job of this name, leaves.
func (w *world) leftBy(name string) pod {
	best := ""
	for prefix := range w.pods {
		if strings.HasPrefix(name, prefix) && len(prefix) > len(best) {
			best = prefix
		}
	}
	return w.pods[best]
}

func (w *world) Follow(ctx context.Context, _ cluster.Ref, _ string, _ func(string) error) error {
	<-ctx.Done()
	return ctx.Err()
}

func (w *world) Log(_ context.Context, pod cluster.Ref, container string, o cluster.LogOptions) (io.ReadCloser, error) {
	if o.Previous {
		return nil, &apierrors.StatusError{ErrStatus: metav1.Status{Code: http.StatusBadRequest}}
	}
	return io.NopCloser(strings.NewReader(w.logs[pod.Name+"/"+container])), nil
}

func (w *world) Tail(_ context.Context, pod cluster.Ref, _ string, _ bool, _ int) ([]string, error) {
	return w.leftBy(pod.Name).log, nil
}

func (w *world) Send(_ context.Context, pod cluster.Ref, container string, stdin io.Reader) error {
	if err := w.do("send to "+container+" of", pod); err != nil {
		return err
	}
	all, err := io.ReadAll(stdin)
	w.sent = string(all)
	return err
}

func (w *world) Observe(_ context.Context, qs []cluster.Query, f func([]*unstructured.Unstructured) (bool, error)) error {
	var found []*unstructured.Unstructured
	for _, q := range qs {
		if q.Kind == "Pod" && q.Selector != nil {
			found = append(found, w.podsOf(q)...)
		}
		if obj, ok := w.objects[cluster.Ref{GroupVersionKind: q.GroupVersionKind, Namespace: q.Namespace, Name: q.Name}]; ok {
			found = append(found, obj)
		}
	}
	if done, err := f(found); err != nil || done {
		return err
	}
	return fmt.Errorf("the world does not change by itself; there are still %d objects", len(found))
}

func (w *world) Preview(ctx context.Context, objs []*unstructured.Unstructured, o cluster.ApplyOptions) ([]cluster.Applied, error) {
	var done []cluster.Applied
	for _, obj := range objs {
		applied, err := w.ApplyObject(ctx, obj, o)
		if err != nil {
			return done, err
		}
		done = append(done, applied)
	}
	return done, nil
}

func (w *world) ApplyObject(ctx context.Context, obj *unstructured.Unstructured, o cluster.ApplyOptions) (cluster.Applied, error) {
	r := cluster.RefOf(obj)
	verb := "apply"
	if o.DryRun {
		verb = "dry run"
	}
	if r.Namespace != "" && w.objects[core("Namespace", "", r.Namespace)] == nil {
		return cluster.Applied{}, &failure.Error{Class: failure.Invalid, Reason: "NamespaceNotFound", Err: apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, r.Namespace)}
	}
	if err := w.do(verb, r); err != nil {
		return cluster.Applied{}, err
	}
	applied := cluster.Applied{Change: cluster.Change{Ref: r, Action: cluster.Created}, After: obj.DeepCopy()}
	if live, err := w.Get(ctx, r); err == nil {
		applied.Before, applied.UID, applied.Action = live, live.GetUID(), cluster.Configured
		if live.GetAnnotations()["applied"] == text(obj) {
			applied.Action = cluster.Unchanged
		}
		if replicas, found := live.Object["replicas"]; found {
			applied.After.Object["spec"].(map[string]any)["replicas"] = replicas
		}
	}
	if !o.DryRun {
		applied.UID = w.put(obj, applied.UID)
	}
	return applied, nil
}

func (w *world) Missing(_ context.Context, wanted []cluster.Access) ([]cluster.Access, error) {
	var missing []cluster.Access
	for _, a := range wanted {
		a.Resource = strings.ToLower(a.Kind) + "s"
		if slices.Contains(w.rights, a.Verb+" "+a.Resource) {
			missing = append(missing, a)
		}
	}
	return missing, nil
}

func (w *world) Lock(ctx context.Context, _, _, _ string, _ func(string)) (context.Context, func() error, error) {
	if w.held != nil {
		return nil, nil, w.held
	}
	w.held = errors.New("held by this one")
	return ctx, func() error { w.held = nil; return nil }, nil
}

func (w *world) Holder(context.Context, string, string) (string, error) { return w.holder, nil }

func (w *world) Replicas(_ context.Context, r cluster.Ref) (int64, error) {
	if n, found := w.objects[r].Object["replicas"]; found {
		return n.(int64), nil
	}
	return 1, nil
}

func (w *world) Scale(_ context.Context, r cluster.Ref, replicas int64) error {
	if err := w.do(fmt.Sprintf("scale to %d", replicas), r); err != nil {
		return err
	}
	w.objects[r].Object["replicas"] = replicas
	return nil
}

func text(obj *unstructured.Unstructured) string {
	body, err := obj.MarshalJSON()
	if err != nil {
		return err.Error()
	}
	return string(body)
}

// put keeps obj; the annotation tells a later apply whether it is the same.
func (w *world) put(obj *unstructured.Unstructured, uid types.UID) types.UID {
	if uid == "" {
		w.uids++
		uid = types.UID(fmt.Sprintf("uid-%d", w.uids))
	}
	kept := obj.DeepCopy()
	if live, ok := w.objects[cluster.RefOf(obj)]; ok && live.Object["replicas"] != nil {
		kept.Object["replicas"] = live.Object["replicas"]
	}
	kept.SetAnnotations(map[string]string{"applied": text(obj)})
	kept.SetUID(uid)
	if given, ok := kept.Object["stringData"].(map[string]any); ok {
		data := map[string]any{}
		for key, value := range given {
			data[key] = base64.StdEncoding.EncodeToString([]byte(value.(string)))
		}
		kept.Object["data"] = data
	}
	w.objects[cluster.RefOf(obj)] = kept
	return uid
}

func (w *world) Create(_ context.Context, obj *unstructured.Unstructured, dryRun bool) (*unstructured.Unstructured, error) {
	r := cluster.RefOf(obj)
	if dryRun {
		return obj, w.do("dry run", r)
	}
	if err := w.do("create", r); err != nil {
		return nil, err
	}
	w.put(obj, "")
	return w.objects[r], nil
}

func (w *world) CreateOnce(_ context.Context, obj *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	r := cluster.RefOf(obj)
	if live, ok := w.objects[r]; ok {
		return live, nil
	}
	if err := w.do("create", r); err != nil {
		return nil, err
	}
	w.put(obj, "")
	return w.objects[r], nil
}

func (w *world) Delete(_ context.Context, r cluster.Ref, uid types.UID) error {
	if err := w.do("delete", r); err != nil {
		return err
	}
	if live, ok := w.objects[r]; ok && (uid == "" || live.GetUID() == uid) {
		delete(w.objects, r)
		if r.Kind == "Namespace" {
			delete(w.record, r.Name)
		}
	}
	return nil
}

func (w *world) Prune(ctx context.Context, old, now cluster.Inventory) ([]cluster.Change, error) {
	var gone cluster.Inventory
	for _, item := range old.Items {
		stays := false
		for _, n := range now.Items {
			stays = stays || n.Ref == item.Ref
		}
		if !stays {
			gone.Items = append(gone.Items, item)
		}
	}
	return w.DeleteInventory(ctx, gone, false)
}

func (w *world) DeleteInventory(ctx context.Context, inv cluster.Inventory, evenKept bool) ([]cluster.Change, error) {
	var done []cluster.Change
	for i := len(inv.Items) - 1; i >= 0; i-- {
		item := inv.Items[i]
		live, ok := w.objects[item.Ref]
		if !ok {
			continue
		}
		action := cluster.Kept
		if live.GetUID() == item.UID && (evenKept || live.GetLabels()[cluster.KeepKey] != "true") {
			action = cluster.Pruned
			if err := w.Delete(ctx, item.Ref, item.UID); err != nil {
				return done, err
			}
		}
		done = append(done, cluster.Change{Ref: item.Ref, Action: action, UID: live.GetUID()})
	}
	return done, nil
}

// records keeps the record beside the objects: it is not one of those that are counted.
func (w *world) records() records { return worldRecords{w} }

type worldRecords struct{ *world }

func (r worldRecords) Load(_ context.Context, namespace string) (*instance.Instance, error) {
	if record, ok := r.record[namespace]; ok {
		return &record, nil
	}
	return nil, nil
}

func (r worldRecords) Save(_ context.Context, i instance.Instance) error {
	if err := r.enter("save record"); err != nil {
		return err
	}
	i.Inventory.Items = append([]cluster.Change(nil), i.Inventory.Items...)
	r.record[i.Namespace] = i
	return nil
}

func (r worldRecords) Delete(_ context.Context, namespace string) error {
	delete(r.record, namespace)
	return r.enter("delete record")
}

type noTunnel struct{}

func (noTunnel) DialContext(context.Context, string, string) (net.Conn, error) {
	return nil, errors.New("there is nothing at the other end")
}
func (noTunnel) KeepSpare()   {}
func (noTunnel) Close() error { return nil }

// killedAnywhere kills run after each entry that it makes in the journal, each time in a new world. after goes on from there.
func killedAnywhere(t *testing.T, begin func(*testing.T) *world, run func(context.Context, *world) error, after func(t *testing.T, w, whole *world)) {
	t.Helper()
	whole := begin(t)
	if err := run(t.Context(), whole); err != nil {
		t.Fatal(err)
	}
	for n, entry := range whole.journal[:len(whole.journal)-1] {
		t.Run(fmt.Sprintf("after %02d %s", n+1, entry), func(t *testing.T) {
			t.Parallel()
			w := begin(t)
			ctx, killed := context.WithCancel(t.Context())
			defer killed()
			w.kill, w.killed = n+1, killed
			if err := run(ctx, w); !errors.Is(err, errKilled) && !errors.Is(err, context.Canceled) {
				t.Fatalf("got %v, want the kill", err)
			}
			w.kill = 0
			after(t, w, whole)
		})
	}
}

// serves expects the server to run, and an install to have nothing to do.
func (w *world) serves(t *testing.T) {
	t.Helper()
	if replicas, err := w.Replicas(t.Context(), w.serverOf(t)); err != nil || replicas != 1 {
		t.Errorf("the server has %d replicas", replicas)
	}
	w.isSettled(t)
}

// isSettled expects an install to have nothing to do.
func (w *world) isSettled(t *testing.T) {
	t.Helper()
	w.journal = nil
	w.install(t, Parameters{})
	if wrote := w.wrote(); len(wrote) > 0 {
		t.Errorf("an install afterwards wrote %v", wrote)
	}
}

// install installs and expects it to work.
func (w *world) install(t *testing.T, p Parameters) []Change {
	t.Helper()
	done, err := w.client().Install(t.Context(), p, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return done
}
