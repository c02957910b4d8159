package trackingserver

import (
	"context"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/instance"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// deleteNamespace deletes the namespace that install made, unless something else lives in it, or cannot be ruled out.
func (c *Client) deleteNamespace(ctx context.Context, namespace cluster.Change) ([]cluster.Change, error) {
	live, err := c.get(ctx, namespace.Ref)
	if err != nil || live == nil || namespace.UID != "" && live.GetUID() != namespace.UID {
		return nil, err
	}
	done := cluster.Change{Ref: namespace.Ref, Action: cluster.Kept, UID: live.GetUID()}
	err = progress.Do(c.progress, fmt.Sprintf("Deleting %s", namespace.Ref), func(s progress.Step) error {
		others, err := c.others(ctx, namespace.Name)
		if failure.ClassOf(err) == failure.Forbidden {
			s.Note("kept: you may not see all that is in it")
			return nil
		}
		if err != nil {
			return err
		}
		if len(others) > 0 {
			s.Note("kept: in it are also " + strings.Join(others, ", "))
			return nil
		}
		if err := c.cluster.Delete(ctx, namespace.Ref, live.GetUID()); err != nil {
			return err
		}
		done.Action = cluster.Pruned
		return c.absent(ctx, []cluster.Query{cluster.QueryOf(namespace.Ref)}, s, anything)
	})
	return []cluster.Change{done}, err
}

// others names what lives in a namespace, beside what Kubernetes puts into every one and what is on its way out.
func (c *Client) others(ctx context.Context, namespace string) ([]string, error) {
	kinds, err := c.kinds(ctx)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, kind := range kinds {
		if about(kind.Kind) {
			continue
		}
		objs, err := c.cluster.List(ctx, cluster.Query{GroupVersionKind: kind, Namespace: namespace})
		if err != nil {
			return nil, err
		}
		for _, obj := range objs {
			if obj.GetDeletionTimestamp() == nil && len(obj.GetOwnerReferences()) == 0 && !native(obj) {
				found = append(found, cluster.RefOf(obj).String())
			}
		}
	}
	return found, nil
}

// about tells the kinds that say something about other objects, and go with them.
func about(kind string) bool {
	return kind == "Event" || kind == "Endpoints" || kind == "EndpointSlice"
}

// native tells what Kubernetes puts into every namespace, and what an uninstall itself leaves in it.
func native(obj *unstructured.Unstructured) bool {
	return obj.GetKind() == "ConfigMap" && obj.GetName() == "kube-root-ca.crt" ||
		obj.GetKind() == "ServiceAccount" && obj.GetName() == "default" ||
		obj.GetKind() == "Lease" && obj.GetName() == instance.Name || // what our lock may leave behind
		obj.GetKind() == "ConfigMap" && obj.GetName() == instance.Name && obj.GetLabels()[cluster.ManagedByLabel] == cluster.FieldManager // the record
}
