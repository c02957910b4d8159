package trackingserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/instance"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// Uninstall deletes what install wrote, by the record's inventory, and waits until it is gone. Volumes and Secrets are
// kept, for the next install to find, unless deleteData is set; the namespace too, and even then where install did not
// make it or something else lives in it. What does not belong to the installation stays in any case.
func (c *Client) Uninstall(ctx context.Context, deleteData bool) ([]Change, error) {
	record, err := c.installed(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.mayTakeAway(ctx, record, deleteData); err != nil {
		return nil, err
	}
	var done []cluster.Change
	err = c.locked(ctx, record.Namespace, uninstall, func(ctx context.Context) error {
		now, err := c.records.Load(ctx, record.Namespace) // under the lock
		if err != nil || now == nil {
			return err
		}
		record = now
		done, err = c.takeAway(ctx, record, deleteData)
		return err
	})
	if err != nil || !deleteData {
		return deleted(done), err
	}
	namespace, _ := splitNamespace(record.Inventory)
	if namespace == nil {
		return deleted(done), nil
	}
	change, err := c.deleteNamespace(ctx, *namespace)
	if err == nil && !slices.ContainsFunc(change, func(d cluster.Change) bool { return d.Action == cluster.Pruned }) {
		err = c.records.Delete(ctx, record.Namespace)
	}
	return deleted(append(done, change...)), err
}

// mayTakeAway is failure.Forbidden where a right is missing, and failure.Refused where another tool would put objects back.
func (c *Client) mayTakeAway(ctx context.Context, record *instance.Instance, deleteData bool) error {
	if err := c.may(ctx, uninstall, record.Namespace, uninstallRights(record, deleteData)); err != nil {
		return err
	}
	_, rest := splitNamespace(record.Inventory)
	for _, item := range rest.Items {
		live, err := c.getRecorded(ctx, item)
		if err != nil {
			return err
		}
		if live == nil {
			continue
		}
		if keeper, kept := cluster.KeptBy(live); kept {
			return keptElsewhere(live, keeper)
		}
	}
	return nil
}

// takeAway deletes all but the namespace.
func (c *Client) takeAway(ctx context.Context, record *instance.Instance, deleteData bool) ([]cluster.Change, error) {
	namespace, rest := splitNamespace(record.Inventory)
	var done []cluster.Change
	err := progress.Do(c.progress, "Deleting MLflow", func(s progress.Step) error {
		var err error
		if done, err = c.cluster.DeleteInventory(ctx, rest, deleteData); err != nil {
			return err
		}
		return c.gone(ctx, record.Namespace, done, s)
	})
	if err != nil {
		return done, err
	}
	if !deleteData || namespace != nil { // which an interrupted uninstall has to find again; the record goes with it
		return done, c.remember(ctx, record, done)
	}
	return done, c.records.Delete(ctx, record.Namespace)
}

// splitNamespace takes the namespace out of the inventory: with it would go whatever else lives in it.
func splitNamespace(inv cluster.Inventory) (namespace *cluster.Change, rest cluster.Inventory) {
	for _, item := range inv.Items {
		if item.Kind == "Namespace" {
			namespace = &item
			continue
		}
		rest.Items = append(rest.Items, item)
	}
	return namespace, rest
}

// remember leaves in the record what was kept, so that a later install or `uninstall --delete-data` knows of it.
func (c *Client) remember(ctx context.Context, record *instance.Instance, done []cluster.Change) error {
	kept := *record
	kept.Inventory.Items = slices.DeleteFunc(slices.Clone(record.Inventory.Items), func(item cluster.Change) bool {
		return item.Kind != "Namespace" && !slices.ContainsFunc(done, func(d cluster.Change) bool {
			return d.Ref == item.Ref && d.Action == cluster.Kept
		})
	})
	return c.records.Save(ctx, kept)
}

// gone returns when what was deleted is no longer there, and neither are the pods that it ran.
func (c *Client) gone(ctx context.Context, namespace string, deleted []cluster.Change, s progress.Step) error {
	queries := []cluster.Query{{
		GroupVersionKind: core("Pod", "", "").GroupVersionKind,
		Namespace:        namespace,
		Selector: labels.SelectorFromSet(labels.Set{
			cluster.ManagedByLabel:      cluster.FieldManager,
			"app.kubernetes.io/part-of": "mlflow",
		}),
	}}
	for _, d := range deleted {
		if d.Action == cluster.Pruned {
			queries = append(queries, cluster.QueryOf(d.Ref))
		}
	}
	return c.absent(ctx, queries, s, anything)
}

// absent returns when no query finds anything that counts.
func (c *Client) absent(ctx context.Context, queries []cluster.Query, s progress.Step, counts func(*unstructured.Unstructured) bool) error {
	var left []string
	err := c.cluster.Observe(ctx, queries, func(objs []*unstructured.Unstructured) (bool, error) {
		left = nil
		for _, obj := range objs {
			if counts(obj) {
				left = append(left, cluster.RefOf(obj).String())
			}
		}
		if len(left) > 0 {
			s.Note(strings.Join(left, ", "))
		}
		return len(left) == 0, nil
	})
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &failure.Error{
			Class: failure.TimedOut, Reason: "StillThere",
			Message: fmt.Sprintf("deleted, but not gone yet: %s", strings.Join(left, ", ")),
			Hint:    "run it again; if it stays, something uses it or holds a finalizer: see kubectl describe",
			Err:     err,
		}
	}
	return err
}

func anything(*unstructured.Unstructured) bool { return true }

// running tells whether a pod runs something, or may yet. One that was evicted does not, and nobody takes it away: to its ReplicaSet it
// does not count.
func running(pod *unstructured.Unstructured) bool {
	phase, _, err := unstructured.NestedString(pod.Object, "status", "phase")
	return err != nil || phase != string(corev1.PodSucceeded) && phase != string(corev1.PodFailed)
}
