package cluster

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// page is how many objects a list asks for at once: kubectl's number.
const page = 500

// Get reads one object. apierrors.IsNotFound recognises its absence.
func (c *Client) Get(ctx context.Context, r Ref) (*unstructured.Unstructured, error) {
	return c.one(ctx, "get", r, func(ctx context.Context, at dynamic.ResourceInterface) (*unstructured.Unstructured, error) {
		return at.Get(ctx, r.Name, metav1.GetOptions{})
	})
}

// Create creates obj, and fails where it is there already (apierrors.IsAlreadyExists).
func (c *Client) Create(ctx context.Context, obj *unstructured.Unstructured, dryRun bool) (*unstructured.Unstructured, error) {
	return c.one(ctx, "create", RefOf(obj), func(ctx context.Context, at dynamic.ResourceInterface) (*unstructured.Unstructured, error) {
		return at.Create(ctx, obj, metav1.CreateOptions{FieldManager: FieldManager, FieldValidation: metav1.FieldValidationStrict, DryRun: dry(dryRun)})
	})
}

// CreateOnce creates obj, or returns the one that is there, which it never changes. Not being allowed to look is
// failure.Forbidden, never "absent": a Secret that is there must not be made anew.
func (c *Client) CreateOnce(ctx context.Context, obj *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	live, err := c.Get(ctx, RefOf(obj))
	if !apierrors.IsNotFound(err) {
		return live, err
	}
	made, err := c.Create(ctx, obj, false)
	if apierrors.IsAlreadyExists(err) { // somebody was faster, or our own first try got through before the connection broke
		return c.Get(ctx, RefOf(obj))
	}
	return made, err
}

// Update replaces the object by obj, which carries the resourceVersion that was read. apierrors.IsConflict recognises
// that it has changed since: read again, and try again.
func (c *Client) Update(ctx context.Context, obj *unstructured.Unstructured, dryRun bool) (*unstructured.Unstructured, error) {
	return c.one(ctx, "update", RefOf(obj), func(ctx context.Context, at dynamic.ResourceInterface) (*unstructured.Unstructured, error) {
		return at.Update(ctx, obj, metav1.UpdateOptions{FieldManager: FieldManager, FieldValidation: metav1.FieldValidationStrict, DryRun: dry(dryRun)})
	})
}

// Delete deletes the object that has this UID, and what it owns in the background; with an empty uid, whichever object
// has the name. An object that is not there, or another one under the same name, is no error and stays as it is.
func (c *Client) Delete(ctx context.Context, r Ref, uid types.UID) error {
	background := metav1.DeletePropagationBackground
	opts := metav1.DeleteOptions{PropagationPolicy: &background}
	if uid != "" {
		opts.Preconditions = &metav1.Preconditions{UID: &uid}
	}
	_, err := c.one(ctx, "delete", r, func(ctx context.Context, at dynamic.ResourceInterface) (*unstructured.Unstructured, error) {
		return nil, at.Delete(ctx, r.Name, opts)
	})
	if apierrors.IsNotFound(err) || uid != "" && apierrors.IsConflict(err) {
		return nil
	}
	return err
}

// one makes a request about one object.
func (c *Client) one(ctx context.Context, verb string, r Ref, f func(context.Context, dynamic.ResourceInterface) (*unstructured.Unstructured, error)) (*unstructured.Unstructured, error) {
	res, err := c.resourceOf(ctx, r.GroupVersionKind)
	if errors.Is(err, ErrNotServed) {
		return nil, fmt.Errorf("%s: %w", r, err)
	}
	if err != nil { // the cluster's fault, not r's
		return nil, err
	}
	if res.namespaced && r.Namespace == "" {
		return nil, &failure.Error{Class: failure.Invalid, Reason: "NamespaceMissing", Object: r.String(), Message: "it has no namespace"}
	}
	var result *unstructured.Unstructured
	err = c.do(ctx, verb, r, func(ctx context.Context, conn *connection) error {
		got, err := f(ctx, conn.at(res, r.Namespace))
		result = got
		return err
	})
	if err != nil {
		return nil, err
	}
	return result, nil
}

// List reads the objects of a query.
func (c *Client) List(ctx context.Context, q Query) ([]*unstructured.Unstructured, error) {
	objs, _, err := c.list(ctx, q)
	return objs, err
}

// list also returns the resourceVersion from which a watch goes on.
func (c *Client) list(ctx context.Context, q Query) (objs []*unstructured.Unstructured, version string, err error) {
	version, err = c.pages(ctx, q, func(o *unstructured.Unstructured) error {
		objs = append(objs, o)
		return nil
	})
	if apierrors.IsResourceExpired(err) { // between two pages the first one became too old
		return c.listAtOnce(ctx, q)
	}
	if q.Optional && unreadable(err) {
		return nil, "", nil
	}
	return objs, version, err
}

// ListPages calls f for each object of a query, page by page, until f fails.
func (c *Client) ListPages(ctx context.Context, q Query, f func(*unstructured.Unstructured) error) error {
	_, err := c.pages(ctx, q, f)
	if q.Optional && unreadable(err) {
		return nil
	}
	return err
}

func (c *Client) pages(ctx context.Context, q Query, f func(*unstructured.Unstructured) error) (version string, err error) {
	for next := ""; ; {
		l, err := c.listOnce(ctx, q, metav1.ListOptions{Limit: page, Continue: next})
		if err != nil {
			return "", err
		}
		for i := range l.Items {
			if err := f(&l.Items[i]); err != nil {
				return "", err
			}
		}
		if next = l.GetContinue(); next == "" {
			return l.GetResourceVersion(), nil
		}
	}
}

func (c *Client) listAtOnce(ctx context.Context, q Query) (objs []*unstructured.Unstructured, version string, err error) {
	l, err := c.listOnce(ctx, q, metav1.ListOptions{})
	if err != nil {
		return nil, "", err
	}
	for i := range l.Items {
		objs = append(objs, &l.Items[i])
	}
	return objs, l.GetResourceVersion(), nil
}

func (c *Client) listOnce(ctx context.Context, q Query, opts metav1.ListOptions) (*unstructured.UnstructuredList, error) {
	res, err := c.resourceOf(ctx, q.GroupVersionKind)
	if err != nil {
		return nil, err
	}
	q.narrow(&opts)
	var l *unstructured.UnstructuredList
	err = c.do(ctx, "list", q.ref(), func(ctx context.Context, conn *connection) error {
		got, err := conn.at(res, q.Namespace).List(ctx, opts)
		l = got
		return err
	})
	return l, err
}

// narrow writes the query into the options of a list or a watch. By name it is a field selector: RBAC's resourceNames
// allow that, and a watch sees the object come.
func (q Query) narrow(opts *metav1.ListOptions) {
	if q.Name != "" {
		opts.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, q.Name).String()
	}
	if q.Selector != nil {
		opts.LabelSelector = q.Selector.String()
	}
}

func (q Query) ref() Ref {
	return Ref{GroupVersionKind: q.GroupVersionKind, Namespace: q.Namespace, Name: q.Name}
}

// unreadable tells that the kind may not be read, or that there is none: it will not change while we look.
func unreadable(err error) bool {
	return failure.ClassOf(err) == failure.Forbidden || errors.Is(err, ErrNotServed)
}

func dry(run bool) []string {
	if run {
		return []string{metav1.DryRunAll}
	}
	return nil
}
