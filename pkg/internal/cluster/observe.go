package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// steady is how long a watch must have lived for the next pause to be a short one again.
const steady = 10 * time.Second

// Observe lists, then watches, and calls f with all objects of the queries, in the order of the queries and then by name,
// at each change until f is done or fails. Calls of f do not overlap; the objects are shared and must not be changed.
// An object that is not there yet is an absence in the slice, not an error. It lists again on 410 and on a lost watch, and
// bears with a server that goes away after the first list as long as ctx lives; not being allowed to list or to watch is
// failure.Forbidden at once.
func (c *Client) Observe(ctx context.Context, qs []Query, f func([]*unstructured.Unstructured) (done bool, err error)) error {
	inner, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()

	seen := make([]*view, len(qs))
	changed := make(chan struct{}, 1)
	failed := make(chan error, len(qs))
	for i, q := range qs {
		seen[i] = &view{changed: changed}
		running.Go(func() {
			if err := c.follow(inner, q, seen[i]); err != nil {
				failed <- err
			}
		})
	}
	if len(qs) == 0 {
		changed <- struct{}{}
	}
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("observing: %w", context.Cause(ctx))
		case err := <-failed:
			return err
		case <-changed:
		}
		objs, listed := collect(seen)
		if !listed {
			continue
		}
		if done, err := f(objs); done || err != nil {
			return err
		}
	}
}

// follow keeps v true to q until ctx ends. It returns an error that no waiting mends.
func (c *Client) follow(ctx context.Context, q Query, v *view) error {
	p := pause{retry: c.retry}
	for listed := false; ; {
		objs, version, err := c.list(ctx, q)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && (!listed || fatal(err)):
			return err
		case err == nil && version == "": // optional, and not to be read
			v.replace(nil)
			return nil
		case err == nil:
			listed = true
			v.replace(objs)
			began := time.Now()
			if err := c.watch(ctx, q, version, v); fatal(err) {
				if q.Optional {
					return nil
				}
				return err
			}
			if time.Since(began) >= steady {
				p.reset()
			}
		}
		if sleep(ctx, p.step()) != nil {
			return nil
		}
	}
}

// fatal tells which errors end an observation that has begun. All others are the server's passing troubles.
func fatal(err error) bool {
	return failure.ClassOf(err) == failure.Forbidden || errors.Is(err, ErrNotServed)
}

// watch brings v up to date until the watch is lost, for whatever reason: the caller lists again.
func (c *Client) watch(ctx context.Context, q Query, version string, v *view) error {
	res, err := c.resourceOf(ctx, q.GroupVersionKind)
	if err != nil {
		return err
	}
	opts := metav1.ListOptions{ResourceVersion: version}
	q.narrow(&opts)
	var w watch.Interface
	err = c.do(ctx, "watch", q.ref(), func(ctx context.Context, conn *connection) error {
		got, err := conn.at(res, q.Namespace).Watch(ctx, opts)
		w = got
		return err
	})
	if err != nil {
		return err
	}
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e, open := <-w.ResultChan():
			if !open {
				return nil
			}
			if e.Type == watch.Error {
				return apierrors.FromObject(e.Object) // 410 Gone, or the server shuts down
			}
			if obj, ok := e.Object.(*unstructured.Unstructured); ok {
				v.change(e.Type, obj)
			}
		}
	}
}

// view is what is known of one query's objects.
type view struct {
	changed chan<- struct{} // holds one: many changes are one call

	mu     sync.Mutex
	listed bool
	objs   map[types.NamespacedName]*unstructured.Unstructured
}

func (v *view) replace(objs []*unstructured.Unstructured) {
	m := make(map[types.NamespacedName]*unstructured.Unstructured, len(objs))
	for _, o := range objs {
		m[nameOf(o)] = o
	}
	v.mu.Lock()
	v.listed, v.objs = true, m
	v.mu.Unlock()
	v.tell()
}

func (v *view) change(t watch.EventType, o *unstructured.Unstructured) {
	v.mu.Lock()
	switch t {
	case watch.Added, watch.Modified:
		v.objs[nameOf(o)] = o
	case watch.Deleted:
		delete(v.objs, nameOf(o))
	}
	v.mu.Unlock()
	v.tell()
}

func (v *view) tell() {
	select {
	case v.changed <- struct{}{}:
	default:
	}
}

// collect returns all objects, and whether each query has been listed.
func collect(views []*view) (objs []*unstructured.Unstructured, listed bool) {
	for _, v := range views {
		v.mu.Lock()
		if !v.listed {
			v.mu.Unlock()
			return nil, false
		}
		part := slices.Collect(maps.Values(v.objs))
		v.mu.Unlock()
		slices.SortFunc(part, func(a, b *unstructured.Unstructured) int {
			return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
		})
		objs = append(objs, part...)
	}
	return objs, true
}

func nameOf(o *unstructured.Unstructured) types.NamespacedName {
	return types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
}
