package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

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

// mostTries is how often an object is read again because somebody wrote it in between: about two seconds, with the pauses.
const mostTries = 10

// Change is what a write did, or would do, to one object.
type Change struct {
	Ref
	Action string    // Created, Configured, Unchanged, Pruned or Kept
	UID    types.UID // "" where the object does not exist: a dry run answers a UID that the object will not have
}

// ApplyOptions says how objects are applied. The zero value writes, as FieldManager, and without force.
type ApplyOptions struct {
	DryRun  bool   // changes nothing
	Force   bool   // takes fields over from other managers
	Manager string // "" is FieldManager
}

// Applied is a Change with the object as it was, nil where there was none, and as it is, or would be.
type Applied struct {
	Change
	Before, After *unstructured.Unstructured
}

// Apply applies objs in order. What was done before an error is returned with it. The errors are those of ApplyObject.
func (c *Client) Apply(ctx context.Context, objs []*unstructured.Unstructured, dryRun bool) ([]Change, error) {
	changes := make([]Change, 0, len(objs))
	for _, obj := range objs {
		applied, err := c.ApplyObject(ctx, obj, ApplyOptions{DryRun: dryRun})
		if err != nil {
			return changes, err
		}
		changes = append(changes, applied.Change)
	}
	return changes, nil
}

// ApplyObject sends obj by server-side apply, with strict field validation. Errors: failure.Refused names object, field and
// manager of a conflict, a field that cannot be changed, and an object that is being deleted; failure.Forbidden the verb
// that is missing; failure.Invalid what the server rejects.
func (c *Client) ApplyObject(ctx context.Context, obj *unstructured.Unstructured, opts ApplyOptions) (Applied, error) {
	r := RefOf(obj)
	before, err := c.Get(ctx, r)
	if err != nil && !apierrors.IsNotFound(err) {
		return Applied{}, err
	}
	if before != nil && before.GetDeletionTimestamp() != nil { // an apply would succeed, and be gone a moment later
		return Applied{}, &failure.Error{
			Class: failure.Refused, Reason: "BeingDeleted", Object: r.String(),
			Message: "it is being deleted", Hint: "run again when it is gone",
		}
	}
	after, err := c.patch(ctx, obj, opts)
	// Our own Scale or Update may hold fields: to the server, that is another manager than our apply. With the version that was
	// read, force takes from nobody else. That version is old as soon as a controller writes the status: then all over again.
	between := pause{retry: retry{first: c.retry.first / 10, most: c.retry.first}}
	for tries := 0; before != nil && ours(err, opts.Manager); tries++ {
		own := obj.DeepCopy()
		own.SetResourceVersion(before.GetResourceVersion())
		forced := opts
		forced.Force = true
		if after, err = c.patch(ctx, own, forced); !apierrors.IsConflict(err) || tries == mostTries {
			break
		}
		if stopped := sleep(ctx, between.step()); stopped != nil {
			return Applied{}, c.explain(ctx, stopped, "patch", r)
		}
		if before, err = c.Get(ctx, r); err == nil {
			after, err = c.patch(ctx, obj, opts)
		}
	}
	if err != nil {
		return Applied{}, err
	}
	done := Applied{Change: Change{Ref: r, Action: Configured, UID: after.GetUID()}, Before: before, After: after}
	switch {
	case before == nil:
		done.Action = Created
		if opts.DryRun {
			done.UID = ""
		}
	case same(before, after):
		done.Action = Unchanged
	}
	return done, nil
}

func (c *Client) patch(ctx context.Context, obj *unstructured.Unstructured, opts ApplyOptions) (*unstructured.Unstructured, error) {
	body, err := obj.MarshalJSON()
	if err != nil {
		return nil, err
	}
	r := RefOf(obj)
	return c.one(ctx, "patch", r, func(ctx context.Context, at dynamic.ResourceInterface) (*unstructured.Unstructured, error) {
		return at.Patch(ctx, r.Name, types.ApplyPatchType, body, metav1.PatchOptions{
			FieldManager: cmp.Or(opts.Manager, FieldManager), Force: &opts.Force, FieldValidation: metav1.FieldValidationStrict, DryRun: dry(opts.DryRun),
		})
	})
}

// ours tells whether err is a conflict of fields in which every other manager is ourselves, by another operation.
func ours(err error, manager string) bool {
	status, ok := errors.AsType[*apierrors.StatusError](err)
	if !ok || status.ErrStatus.Code != http.StatusConflict || !hasCause(status.ErrStatus, metav1.CauseTypeFieldManagerConflict) {
		return false
	}
	return !slices.ContainsFunc(status.ErrStatus.Details.Causes, func(c metav1.StatusCause) bool {
		return !strings.HasPrefix(c.Message, fmt.Sprintf("conflict with %q", FieldManager)) &&
			(manager == "" || !strings.HasPrefix(c.Message, fmt.Sprintf("conflict with %q", manager)))
	})
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
