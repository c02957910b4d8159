package cluster

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
)

// lockTimes are the times of a lock. Nobody's clock is compared with another one's: each side measures spans of its own.
type lockTimes struct {
	duration time.Duration // without a renewal for so long, the holder stops
	renew    time.Duration // between two renewals; others wait that much longer than duration
	release  time.Duration // for giving it back: a person who pressed Ctrl-C waits for it
}

func usualLockTimes() lockTimes {
	return lockTimes{duration: 30 * time.Second, renew: 5 * time.Second, release: 800 * time.Millisecond}
}

// lock is a Lease that this process holds, or wants to hold.
type lock struct {
	*Client
	lockTimes
	ref       Ref
	id        string // of this holder, and of no other
	operation string

	lease   *unstructured.Unstructured // as it was written last
	renewed time.Time                  // when that was sent
	tried   bool                       // one may have been written
	lost    bool                       // it is another one's, or gone
}

// Lock takes the Lease namespace/name for operation, and renews it until unlock. locked ends with ctx, with unlock, and with
// the cause failure.Refused (LockLost) when the Lease is lost or could not be renewed for its duration. unlock gives the Lease
// back, also after the end of ctx; more than one call does no harm.
//
// A Lease that is held is failure.Refused (LockHeld) as soon as its holder shows a sign of life; it is not waited for. The
// Lease of a holder that died is taken over: at once where it died on this machine, else when nothing was renewed for the
// Lease's duration. note, if there is one, is told what is waited for.
func (c *Client) Lock(ctx context.Context, namespace, name, operation string, note func(string)) (locked context.Context, unlock func() error, err error) {
	if note == nil {
		note = func(string) {}
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown-host"
	}
	l := &lock{
		Client: c, lockTimes: c.lock, ref: Ref{GroupVersionKind: leaseKind(), Namespace: namespace, Name: name},
		id: fmt.Sprintf("%s/%d/%s", host, os.Getpid(), rand.Text()[:6]), operation: operation,
	}
	err = l.acquire(ctx, note)
	l.Client = c.brisk()
	if err != nil {
		l.withdraw(ctx)
		return nil, nil, err
	}
	locked, end := context.WithCancelCause(ctx)
	var renewing sync.WaitGroup
	renewing.Go(func() { l.keep(locked, end) })
	unlock = sync.OnceValue(func() error {
		end(nil)
		renewing.Wait()
		return l.giveBack(ctx)
	})
	return locked, unlock, nil
}

// acquire returns nil when the Lease is ours.
func (l *lock) acquire(ctx context.Context, note func(string)) error {
	var seen *sighting
	for {
		live, err := l.Get(ctx, l.ref)
		if apierrors.IsNotFound(err) {
			err := l.create(ctx)
			if !apierrors.IsAlreadyExists(err) {
				return err
			}
			seen = &sighting{} // whoever has it now took it a moment ago
			continue
		}
		if err != nil {
			return err
		}
		now := holderOf(live)
		switch {
		case now.id == l.id: // the answer to our own try was lost on the way
		case seen == nil:
			seen = &sighting{holder: now, at: time.Now()}
		case seen.holder != now && now.id != "":
			return l.held(live)
		}
		if now.id != "" && now.id != l.id {
			gone, err := l.gone(ctx, live, seen, note)
			if err != nil {
				return err
			}
			if !gone {
				continue
			}
		}
		if err := l.update(ctx, live); !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
			return err
		}
	}
}

// sighting is a holder of the Lease, its last renewal, and since when that is all we have seen.
type sighting struct {
	holder
	at time.Time
}

// gone waits until it is known what became of the holder of live. A holder that lives is failure.Refused. Where it is not
// gone and there is no error either, the Lease is another one by now.
func (l *lock) gone(ctx context.Context, live *unstructured.Unstructured, seen *sighting, note func(string)) (bool, error) {
	switch seen.process.state() {
	case alive:
		return false, l.held(live)
	case dead:
		return true, nil
	}
	patience := cmp.Or(seen.duration, l.duration) + l.renew
	note(fmt.Sprintf("%s has the lock: waiting up to %s for a sign of life", seen.describe(), patience.Round(time.Second)))
	waiting, cancel := context.WithDeadlineCause(ctx, seen.at.Add(patience), errSilent)
	defer cancel()
	err := l.Observe(waiting, []Query{QueryOf(l.ref)}, func(objs []*unstructured.Unstructured) (bool, error) {
		if len(objs) == 0 {
			return true, nil
		}
		now := holderOf(objs[0])
		if now.id != "" && now != seen.holder {
			return true, l.held(objs[0])
		}
		return now.id == "", nil
	})
	if errors.Is(err, errSilent) && ctx.Err() == nil {
		return true, nil
	}
	return false, err
}

// errSilent ends the wait for a holder's sign of life.
var errSilent = errors.New("no sign of life")

func (l *lock) create(ctx context.Context) error {
	return l.write(ctx, "create", func(ctx context.Context, at dynamic.ResourceInterface) (*unstructured.Unstructured, error) {
		return at.Create(ctx, l.fill(nil), metav1.CreateOptions{FieldManager: FieldManager})
	})
}

// update makes live ours, or renews it, unless it has changed since it was read (apierrors.IsConflict).
func (l *lock) update(ctx context.Context, live *unstructured.Unstructured) error {
	return l.write(ctx, "update", func(ctx context.Context, at dynamic.ResourceInterface) (*unstructured.Unstructured, error) {
		return at.Update(ctx, l.fill(live), metav1.UpdateOptions{FieldManager: FieldManager})
	})
}

// write remembers when the request that succeeded was sent: the Lease is ours for its duration from then, and not from when
// the answer came.
func (l *lock) write(ctx context.Context, verb string, f func(context.Context, dynamic.ResourceInterface) (*unstructured.Unstructured, error)) error {
	var sent time.Time
	lease, err := l.one(ctx, verb, l.ref, func(ctx context.Context, at dynamic.ResourceInterface) (*unstructured.Unstructured, error) {
		sent, l.tried = time.Now(), true
		return f(ctx, at)
	})
	if err != nil {
		return err
	}
	l.lease, l.renewed = lease, sent
	return nil
}
