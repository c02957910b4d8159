package cluster

import (
	"context"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// What can happen to an object.
const (
	Created    = "created"
	Configured = "configured"
	Unchanged  = "unchanged"
	Pruned     = "pruned"
	Kept       = "kept"
)

// Change is what a write did, or would do, to one object.
type Change struct {
	Ref
	Action string    // Created, Configured, Unchanged, Pruned or Kept
	UID    types.UID // "" where the object does not exist: a dry run answers a UID that the object will not have
}

// Apply sends objs by server-side apply, in order, without force and with strict field validation; dryRun changes nothing.
// What was done before an error is returned with it. Errors: failure.Refused names object, field and manager of a conflict
// and an object that is being deleted, failure.Forbidden the verb that is missing, failure.Invalid what the server rejects.
func (c *Client) Apply(ctx context.Context, objs []*unstructured.Unstructured, dryRun bool) ([]Change, error) {
	changes := make([]Change, 0, len(objs))
	for _, obj := range objs {
		change, err := c.apply(ctx, obj, dryRun)
		if err != nil {
			return changes, err
		}
		changes = append(changes, change)
	}
	return changes, nil
}

func (c *Client) apply(ctx context.Context, obj *unstructured.Unstructured, dryRun bool) (Change, error) {
	r := RefOf(obj)
	before, err := c.Get(ctx, r)
	if err != nil && !apierrors.IsNotFound(err) {
		return Change{}, err
	}
	if before != nil && before.GetDeletionTimestamp() != nil { // an apply would succeed, and be gone a moment later
		return Change{}, &failure.Error{
			Class: failure.Refused, Reason: "BeingDeleted", Object: r.String(),
			Message: "it is being deleted", Hint: "run again when it is gone",
		}
	}
	body, err := obj.MarshalJSON()
	if err != nil {
		return Change{}, err
	}
	force := false
	after, err := c.one(ctx, "patch", r, func(ctx context.Context, at dynamic.ResourceInterface) (*unstructured.Unstructured, error) {
		return at.Patch(ctx, r.Name, types.ApplyPatchType, body, metav1.PatchOptions{
			FieldManager: FieldManager, Force: &force, FieldValidation: metav1.FieldValidationStrict, DryRun: dry(dryRun),
		})
	})
	if err != nil {
		return Change{}, err
	}
	switch {
	case before == nil && dryRun:
		return Change{Ref: r, Action: Created}, nil
	case before == nil:
		return Change{Ref: r, Action: Created, UID: after.GetUID()}, nil
	case same(before, after):
		return Change{Ref: r, Action: Unchanged, UID: after.GetUID()}, nil
	}
	return Change{Ref: r, Action: Configured, UID: after.GetUID()}, nil
}

// same tells whether an apply left an object as it was. The resourceVersion alone does not tell: a dry run keeps it, and a
// controller that writes the status in between moves it.
func same(before, after *unstructured.Unstructured) bool {
	return equality.Semantic.DeepEqual(meaning(before), meaning(after))
}

// meaning is obj without what its controllers and the server's own bookkeeping write.
func meaning(obj *unstructured.Unstructured) map[string]any {
	o := obj.DeepCopy()
	o.SetManagedFields(nil)
	o.SetResourceVersion("")
	o.SetGeneration(0)
	delete(o.Object, "status")
	return o.Object
}
