package trackingserver

import (
	"context"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/instance"
)

// mayDoIt is failure.Forbidden, with the Role that is missing, where the user lacks a right that the work needs: better before
// the first write than between two.
func (in *installation) mayDoIt(ctx context.Context) error {
	return in.may(ctx, in.intent, in.record.Namespace, in.rights())
}

// may asks for all rights at once.
func (c *Client) may(ctx context.Context, why intent, namespace string, wanted []cluster.Access) error {
	missing, err := c.cluster.Missing(ctx, wanted)
	if err != nil || len(missing) == 0 {
		return err
	}
	return cluster.RightsMissing(string(why), namespace, missing)
}

// rights are what an install or an upgrade needs in its namespace.
func (in *installation) rights() []cluster.Access {
	r := &rightsIn{namespace: in.record.Namespace}
	r.lock()
	r.add(core("Secret", "", "").GroupVersionKind, "get", "create")
	if in.intent == makeSecrets {
		return r.wanted
	}
	r.add(core("ConfigMap", "", "").GroupVersionKind, "get", "create", "patch")
	for _, obj := range in.rendered.all() {
		r.add(obj.GroupVersionKind(), "get", "create", "patch")
		if runsPods(obj) {
			r.add(obj.GroupVersionKind(), "list", "watch")
		}
		if obj.GetKind() == "Job" { // one that failed
			r.add(obj.GroupVersionKind(), "delete")
		}
	}
	for _, item := range in.old.Items { // what will be pruned
		stays := slices.ContainsFunc(in.rendered.all(), func(obj *unstructured.Unstructured) bool { return cluster.RefOf(obj) == item.Ref })
		if item.Kind != "Namespace" && item.Kind != "Secret" && !stays {
			r.add(item.GroupVersionKind, "get", "delete")
		}
	}
	r.pods()
	if in.intent.restores() {
		r.jobs()
		r.logs()
	}
	if in.intent == restoreFile { // a WebSocket begins with a GET, and what it falls back to with a POST
		for _, verb := range []string{"get", "create"} {
			r.wanted = append(r.wanted, cluster.Access{Verb: verb, GroupVersionKind: core("Pod", "", "").GroupVersionKind, Subresource: "attach", Namespace: r.namespace})
		}
	}
	if in.intent.stops() {
		r.wanted = append(r.wanted,
			cluster.Access{Verb: "get", GroupVersionKind: in.rendered.server.GroupVersionKind, Subresource: "scale", Namespace: r.namespace},
			cluster.Access{Verb: "patch", GroupVersionKind: in.rendered.server.GroupVersionKind, Subresource: "scale", Namespace: r.namespace})
	}
	return r.wanted
}

// uninstallRights are what is needed to delete an inventory; volumes and Secrets stay unless deleteData says otherwise.
func uninstallRights(record *instance.Instance, deleteData bool) []cluster.Access {
	r := &rightsIn{namespace: record.Namespace}
	r.lock()
	r.add(core("ConfigMap", "", "").GroupVersionKind, "get", "patch", "delete")
	r.add(core("Pod", "", "").GroupVersionKind, "list", "watch")
	for _, item := range record.Inventory.Items {
		switch data := item.Kind == "Secret" || item.Kind == "PersistentVolumeClaim"; {
		case item.Kind == "Namespace":
		case data && !deleteData:
			r.add(item.GroupVersionKind, "get")
		default:
			r.add(item.GroupVersionKind, "get", "list", "watch", "delete")
		}
	}
	return r.wanted
}

// rightsIn collects rights in one namespace, each once.
type rightsIn struct {
	namespace string
	wanted    []cluster.Access
}

func (r *rightsIn) add(kind schema.GroupVersionKind, verbs ...string) {
	for _, verb := range verbs {
		access := cluster.Access{Verb: verb, GroupVersionKind: kind, Namespace: r.namespace}
		if !slices.Contains(r.wanted, access) {
			r.wanted = append(r.wanted, access)
		}
	}
}

func (r *rightsIn) lock() {
	r.add(schema.GroupVersionKind{Group: "coordination.k8s.io", Version: "v1", Kind: "Lease"}, "get", "list", "watch", "create", "update", "delete")
}

// jobs are what the verbs about data run and wait for.
func (r *rightsIn) jobs() {
	r.add(batchv1.SchemeGroupVersion.WithKind("Job"), "get", "list", "watch", "create", "delete")
	r.add(core("Pod", "", "").GroupVersionKind, "get", "list", "watch")
}

// logs are what their pods say.
func (r *rightsIn) logs() {
	r.wanted = append(r.wanted, cluster.Access{Verb: "get", GroupVersionKind: core("Pod", "", "").GroupVersionKind, Subresource: "log", Namespace: r.namespace})
}

// pods are what waits look at, and the tunnel by which MLflow is asked.
func (r *rightsIn) pods() {
	r.add(core("Pod", "", "").GroupVersionKind, "get", "list", "watch")
	r.add(core("Service", "", "").GroupVersionKind, "get")
	r.wanted = append(r.wanted, cluster.Access{
		Verb: "create", GroupVersionKind: core("Pod", "", "").GroupVersionKind, Subresource: "portforward", Namespace: r.namespace,
	})
}
