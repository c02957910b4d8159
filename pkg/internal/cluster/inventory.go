package cluster

import (
	"context"
	"errors"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// Inventory is the set of objects that a tool owns, in the order in which they were applied. An item has no UID before it
// is written.
type Inventory struct{ Items []Change }

// Prune deletes what is in old and not in now, last first. An item is deleted by its UID or, where it has none yet, if it
// bears ManagedByLabel. What is marked with KeepKey stays and is reported as Kept; what is not there is not reported.
// An empty now is failure.Refused: it is a mistake, not a wish to delete everything.
func (c *Client) Prune(ctx context.Context, old, now Inventory) ([]Change, error) {
	if len(now.Items) == 0 {
		return nil, &failure.Error{
			Class: failure.Refused, Reason: "EmptyInventory",
			Message: "nothing is rendered, so everything would be deleted", Hint: "to remove all of it, uninstall",
		}
	}
	stays := make(map[identity]bool, len(now.Items))
	for _, item := range now.Items {
		stays[identityOf(item.Ref)] = true
	}
	gone := slices.DeleteFunc(slices.Clone(old.Items), func(item Change) bool { return stays[identityOf(item.Ref)] })
	return c.DeleteInventory(ctx, Inventory{Items: gone}, false)
}

// DeleteInventory deletes the items of inv, last first, under the rules of Prune; evenKept takes what is marked with
// KeepKey too. What was done before an error is returned with it.
func (c *Client) DeleteInventory(ctx context.Context, inv Inventory, evenKept bool) ([]Change, error) {
	var changes []Change
	for _, item := range slices.Backward(inv.Items) {
		live, err := c.Get(ctx, item.Ref)
		if apierrors.IsNotFound(err) || errors.Is(err, ErrNotServed) {
			continue
		}
		if err != nil {
			return changes, err
		}
		change := Change{Ref: item.Ref, Action: Kept, UID: live.GetUID()}
		if owned(item, live) && (evenKept || !keep(live)) {
			if err := c.Delete(ctx, item.Ref, live.GetUID()); err != nil {
				return changes, err
			}
			change.Action = Pruned
		}
		changes = append(changes, change)
	}
	return changes, nil
}

// owned tells whether live is the item, and not another object that came to have its name.
func owned(item Change, live *unstructured.Unstructured) bool {
	if item.UID != "" {
		return item.UID == live.GetUID()
	}
	return live.GetLabels()[ManagedByLabel] == FieldManager
}

func keep(live *unstructured.Unstructured) bool {
	return live.GetLabels()[KeepKey] == "true" || live.GetAnnotations()[KeepKey] == "true"
}

// identity is a Ref without the version: the same object is served in several.
type identity struct {
	schema.GroupKind
	namespace, name string
}

func identityOf(r Ref) identity {
	return identity{GroupKind: r.GroupKind(), namespace: r.Namespace, name: r.Name}
}
