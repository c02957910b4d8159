package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// brisk is c with short pauses, for what must succeed soon or not at all.
func (c *Client) brisk() *Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	times := c.retry
	times.most = min(times.most, time.Second)
	return &Client{getter: c.getter, retry: times, lock: c.lock, conn: c.conn}
}

// keep renews the Lease until ctx ends or the Lease is lost, which is the cause that end is given.
func (l *lock) keep(ctx context.Context, end context.CancelCauseFunc) {
	for sleep(ctx, time.Until(l.renewed.Add(l.renew))) == nil {
		over := l.renewed.Add(l.duration)
		inTime, cancel := context.WithDeadline(ctx, over)
		err := l.again(inTime)
		for err != nil && !l.lost && sleep(inTime, min(l.renew, time.Second)) == nil { // even 401 and 403 may pass: a token is renewed too
			err = l.again(inTime)
		}
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case l.lost:
			end(l.failed("somebody else took the lock, or removed it", nil))
			return
		case err != nil:
			end(l.failed(fmt.Sprintf("the lock could not be renewed for %s", l.duration), err))
			return
		}
	}
}

// again renews the Lease. A change that somebody else made to our Lease, or our own one whose answer was lost, is no loss.
func (l *lock) again(ctx context.Context) error {
	err := l.update(ctx, l.lease)
	if apierrors.IsConflict(err) {
		if err = l.reread(ctx); err == nil {
			err = l.update(ctx, l.lease)
		}
	}
	if apierrors.IsNotFound(err) {
		l.lost = true
	}
	return err
}

var errNotOurs = errors.New("it has another holder")

// reread reads the Lease anew, if it is still ours.
func (l *lock) reread(ctx context.Context) error {
	live, err := l.Get(ctx, l.ref)
	switch {
	case apierrors.IsNotFound(err):
		l.lost = true
		return err
	case err != nil:
		return err
	case holderOf(live).id != l.id:
		l.lost = true
		return fmt.Errorf("%s: %w", l.ref, errNotOurs)
	}
	l.lease = live
	return nil
}

// withdraw gives back what a write that was broken off has made ours, if it has.
func (l *lock) withdraw(ctx context.Context) {
	if ctx.Err() == nil || !l.tried {
		return
	}
	later, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.release)
	defer cancel()
	if l.reread(later) == nil {
		_ = l.giveBack(later) // why there is no lock is known, and the Lease ends by itself
	}
}

// giveBack deletes the Lease, if it is still ours.
func (l *lock) giveBack(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.release)
	defer cancel()
	for !l.lost {
		uid, version := l.lease.GetUID(), l.lease.GetResourceVersion()
		err := l.deleteExactly(ctx, uid, version)
		if apierrors.IsConflict(err) { // a renewal was under way when it was stopped
			err = l.reread(ctx)
			if err == nil {
				continue
			}
		}
		if err == nil || l.lost || apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("giving the lock back, which ends by itself in %s: %w", l.duration+l.renew, err)
	}
	return nil
}

func (l *lock) deleteExactly(ctx context.Context, uid types.UID, version string) error {
	_, err := l.one(ctx, "delete", l.ref, func(ctx context.Context, at dynamic.ResourceInterface) (*unstructured.Unstructured, error) {
		return nil, at.Delete(ctx, l.ref.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &version}})
	})
	return err
}

func (l *lock) failed(message string, err error) error {
	return &failure.Error{
		Class: failure.Refused, Reason: "LockLost", Object: l.ref.String(), Message: message,
		Hint: "nothing more was changed; run the command again", Err: err,
	}
}
