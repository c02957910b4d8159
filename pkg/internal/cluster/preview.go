package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// atOnce is how many requests are under way where many objects are asked about.
const atOnce = 8

// Preview is a dry run of objs: what ApplyObject would do to each, in their order. Unlike Apply it does not stop at an
// error, so that a person learns of all that is wrong: the failures are joined, in the order of objs, each told once.
// Where no call can succeed, the cluster out of reach or ctx over, there is that one error.
func (c *Client) Preview(ctx context.Context, objs []*unstructured.Unstructured, opts ApplyOptions) ([]Applied, error) {
	opts.DryRun = true
	applied := make([]Applied, len(objs))
	errs := make([]error, len(objs))
	if err := each(ctx, len(objs), func(ctx context.Context, i int) error {
		applied[i], errs[i] = c.ApplyObject(ctx, objs[i], opts)
		if hopeless(errs[i]) {
			return errs[i]
		}
		return nil
	}); err != nil {
		return nil, err
	}
	if err := joined(errs); err != nil {
		return nil, err
	}
	return applied, nil
}

// each calls f for 0 to n-1, atOnce at a time, until one fails or ctx ends.
func each(ctx context.Context, n int, f func(ctx context.Context, i int) error) error {
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i := range n {
		group.Go(func() error {
			if inner.Err() != nil {
				return nil // it is over; why is known already
			}
			return f(inner, i)
		})
	}
	err := group.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// joined joins errors, the same only once.
func joined(errs []error) error {
	var told []string
	return errors.Join(slices.DeleteFunc(errs, func(err error) bool {
		if err == nil || slices.Contains(told, gist(err)) {
			return true
		}
		told = append(told, gist(err))
		return false
	})...)
}

// gist is what a failure says that another object's does not: a namespace or a right that is missing is missing once,
// however many objects need it.
func gist(err error) string {
	f, ok := errors.AsType[*failure.Error](err)
	if ok && slices.Contains([]string{"Forbidden", "NamespaceNotFound", "NamespaceTerminating", "KindNotServed"}, f.Reason) {
		return fmt.Sprint(f.Reason, f.Message)
	}
	return err.Error()
}
