package cluster

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// quiet is for locks that are to be had, or refused, without a wait.
func quiet(t *testing.T) func(string) {
	return func(text string) { t.Errorf("it waits: %s", text) }
}

func mustLock(t *testing.T, c *Client, note func(string)) (context.Context, func() error) {
	t.Helper()
	locked, unlock, err := c.Lock(t.Context(), "team", "l", "install", note)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unlock() })
	return locked, unlock
}

func TestLockIsALeaseWithAName(t *testing.T) {
	s := newLeaseStore(t)
	locked, unlock := mustLock(t, s.client(), quiet(t))
	lease, renewed := s.now()
	h := holderOf(lease)
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(h.id, host+"/") || h.operation != "install" || h.since == "" || h.duration != 2*time.Second || lease.GetLabels()[ManagedByLabel] != FieldManager {
		t.Errorf("lease = %v", lease.Object)
	}
	<-renewed
	again, _ := s.now()
	if h := holderOf(again); h.renewed == holderOf(lease).renewed || h.since != holderOf(lease).since {
		t.Errorf("renewed: %+v", h)
	}
	for range 2 {
		if err := unlock(); err != nil {
			t.Error(err)
		}
	}
	if lease, _ := s.now(); lease != nil {
		t.Errorf("after unlock: %v", lease.Object)
	}
	if !errors.Is(context.Cause(locked), context.Canceled) {
		t.Errorf("locked ends with %v", context.Cause(locked))
	}
}

func TestOneOfManyGetsTheLock(t *testing.T) {
	for name, foreign := range map[string]bool{"on one machine": false, "on many": true} {
		t.Run(name, func(t *testing.T) {
			s := newLeaseStore(t)
			s.foreign = foreign
			var got atomic.Int32
			var running sync.WaitGroup
			release := make(chan struct{})
			refused := make(chan error, 8)
			for range cap(refused) {
				running.Go(func() {
					_, unlock, err := s.client().Lock(t.Context(), "team", "l", "install", func(string) {})
					if err != nil {
						refused <- err
						return
					}
					got.Add(1)
					<-release
					if err := unlock(); err != nil {
						t.Error(err)
					}
				})
			}
			for range cap(refused) - 1 {
				wantFailure(t, <-refused, failure.Refused, "LockHeld", "lease.coordination.k8s.io/l: another run is at work here: install on ")
			}
			close(release)
			running.Wait()
			if got.Load() != 1 {
				t.Errorf("%d have the lock", got.Load())
			}
		})
	}
}

func TestAHolderElsewhereIsRefusedAtItsFirstSignOfLife(t *testing.T) {
	for name, next := range map[string]*unstructured.Unstructured{
		"it renews": foreignLease("far/1/A", "2026-01-01T00:00:05.000000Z"), "another one takes over": foreignLease("far/2/B", "2026-01-01T00:00:00.000000Z"),
	} {
		t.Run(name, func(t *testing.T) {
			s := newLeaseStore(t)
			s.set(foreignLease("far/1/A", "2026-01-01T00:00:00.000000Z"))
			var noted []string
			go func() {
				<-s.watching
				s.set(next)
			}()
			_, _, err := s.client().Lock(t.Context(), "team", "l", "install", func(text string) { noted = append(noted, text) })
			wantFailure(t, err, failure.Refused, "LockHeld", "upgrade on "+holderOf(next).id+", since 2026-01-01T00:00:00Z")
			if len(noted) != 1 || !strings.Contains(noted[0], "upgrade on far/1/A") {
				t.Errorf("noted %q", noted)
			}
			if hint := asFailure(err).Hint; !strings.Contains(hint, "kubectl delete lease l --namespace team") {
				t.Errorf("hint %q", hint)
			}
		})
	}
}

func TestASilentHolderIsTakenOver(t *testing.T) {
	s := newLeaseStore(t)
	s.set(foreignLease("far/1/A", "2126-01-01T00:00:00.000000Z")) // by a clock that is a century ahead
	go func() {
		<-s.watching
		labelled := foreignLease("far/1/A", "2126-01-01T00:00:00.000000Z") // that is no sign of the holder's life
		labelled.SetLabels(map[string]string{"a": "b"})
		s.set(labelled)
	}()
	began := time.Now()
	mustLock(t, s.client(), func(string) {})
	if d := time.Since(began); d < time.Second+50*time.Millisecond { // the lease's duration and a renewal's time
		t.Errorf("taken over after %s, while the holder may be at work", d)
	}
	if lease, _ := s.now(); lease.GetLabels()["a"] != "b" || lease.Object["spec"].(map[string]any)["leaseTransitions"] != int64(5) {
		t.Errorf("lease = %v", lease.Object)
	}
}

func TestALeaseThatIsGivenBackIsTaken(t *testing.T) {
	for name, next := range map[string]*unstructured.Unstructured{"deleted": nil, "without a holder": foreignLease("", "")} {
		t.Run(name, func(t *testing.T) {
			s := newLeaseStore(t)
			lease := foreignLease("far/1/A", "x")
			lease.Object["spec"].(map[string]any)["leaseDurationSeconds"] = int64(60)
			s.set(lease)
			go func() {
				<-s.watching
				s.set(next)
			}()
			began := time.Now()
			mustLock(t, s.client(), func(string) {})
			if d := time.Since(began); d > 10*time.Second {
				t.Errorf("it took %s", d)
			}
		})
	}
}

func TestALostLeaseEndsTheWork(t *testing.T) {
	for name, next := range map[string]*unstructured.Unstructured{"deleted": nil, "taken": foreignLease("far/1/A", "x")} {
		t.Run(name, func(t *testing.T) {
			s := newLeaseStore(t)
			locked, unlock := mustLock(t, s.client(), quiet(t))
			s.set(next)
			<-locked.Done()
			wantFailure(t, context.Cause(locked), failure.Refused, "LockLost", "somebody else took the lock, or removed it")
			if err := unlock(); err != nil {
				t.Error(err)
			}
			if lease, _ := s.now(); next != nil && holderOf(lease).id != "far/1/A" {
				t.Error("the other one's lease was removed")
			}
		})
	}
}

func TestTroublesOfRenewing(t *testing.T) {
	busy := refuse(429, metav1.StatusReasonTooManyRequests, "busy", nil)
	t.Run("that pass", func(t *testing.T) {
		for name, trouble := range map[string]http.HandlerFunc{
			"429": busy, "503": refuse(503, metav1.StatusReasonServiceUnavailable, "starting", nil), "connection": hangUp,
			"leader": refuse(500, metav1.StatusReasonInternalError, "etcdserver: leader changed", nil), "401": refuse(401, metav1.StatusReasonUnauthorized, "", nil),
		} {
			t.Run(name, func(t *testing.T) {
				s := newLeaseStore(t)
				c := s.client()
				c.retry.budget = time.Minute
				locked, _ := mustLock(t, c, quiet(t))
				var met atomic.Int32
				s.disturb(func(w http.ResponseWriter, r *http.Request) {
					met.Add(1)
					trouble(w, r)
				}, nil)
				time.AfterFunc(500*time.Millisecond, func() { s.disturb(nil, nil) })
				for n := 0; n < 3; n++ { // renewals after that
					_, changed := s.now()
					select {
					case <-changed:
					case <-locked.Done():
						t.Fatal(context.Cause(locked))
					}
				}
				if met.Load() == 0 {
					t.Error("no request met the trouble")
				}
			})
		}
	})
	for name, trouble := range map[string]http.HandlerFunc{"busy": busy, "silence": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }} {
		t.Run("that stay, "+name, func(t *testing.T) {
			s := newLeaseStore(t)
			locked, unlock := mustLock(t, s.client(), quiet(t))
			began := time.Now()
			s.disturb(trouble, nil)
			<-locked.Done()
			wantFailure(t, context.Cause(locked), failure.Refused, "LockLost", "could not be renewed for 2s")
			if d := time.Since(began); d > 3*time.Second {
				t.Errorf("it ended %s after the last renewal", d)
			}
			began = time.Now()
			if err := unlock(); err == nil || time.Since(began) > time.Second {
				t.Errorf("unlock: %v after %s, want an error in time", err, time.Since(began))
			}
		})
	}
	t.Run("another hand on our lease", func(t *testing.T) {
		s := newLeaseStore(t)
		locked, _ := mustLock(t, s.client(), quiet(t))
		for range 3 {
			lease, changed := s.now()
			lease.SetLabels(map[string]string{"a": "b"})
			s.set(lease)
			<-changed
		}
		_, changed := s.now()
		select {
		case <-changed:
		case <-locked.Done():
			t.Error(context.Cause(locked))
		}
	})
}

func TestLostAnswersDoNotLoseTheLock(t *testing.T) {
	s := newLeaseStore(t)
	var cuts atomic.Int32
	s.disturb(nil, func(r *http.Request) bool { return r.Method != http.MethodGet && cuts.Add(1)%3 == 1 }) // every third write
	locked, unlock := mustLock(t, s.client(), quiet(t))
	for range 5 {
		_, changed := s.now()
		select {
		case <-changed:
		case <-locked.Done():
			t.Fatal(context.Cause(locked))
		}
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
	if lease, _ := s.now(); lease != nil {
		t.Errorf("after unlock: %v", lease.Object)
	}
}

func TestAnInterruptGivesTheLockBack(t *testing.T) {
	t.Run("while it is held", func(t *testing.T) {
		s := newLeaseStore(t)
		ctx, cancel := context.WithCancel(t.Context())
		_, unlock, err := s.client().Lock(ctx, "team", "l", "install", quiet(t))
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := unlock(); err != nil {
			t.Error(err)
		}
		if lease, _ := s.now(); lease != nil {
			t.Error("the lease stays")
		}
	})
	for _, method := range []string{http.MethodPost, http.MethodPut} {
		t.Run("while it is taken by "+method, func(t *testing.T) {
			s := newLeaseStore(t)
			if method == http.MethodPut {
				s.set(foreignLease("", ""))
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			interrupted := errors.New("interrupted")
			s.disturb(nil, func(r *http.Request) bool {
				if r.Method == method {
					cancel(interrupted)
					<-r.Context().Done()
				}
				return false
			})
			_, _, err := s.client().Lock(ctx, "team", "l", "install", quiet(t))
			if !errors.Is(err, interrupted) {
				t.Errorf("err = %v", err)
			}
			if lease, _ := s.now(); lease != nil {
				t.Errorf("the lease stays: %v", lease.Object)
			}
		})
	}
	t.Run("while it waits", func(t *testing.T) {
		s := newLeaseStore(t)
		s.set(foreignLease("far/1/A", "x"))
		ctx, cancel := context.WithCancelCause(t.Context())
		interrupted := errors.New("interrupted")
		_, _, err := s.client().Lock(ctx, "team", "l", "install", func(string) { cancel(interrupted) })
		if !errors.Is(err, interrupted) {
			t.Errorf("err = %v", err)
		}
		if lease, _ := s.now(); holderOf(lease).id != "far/1/A" {
			t.Error("the other one's lease was touched")
		}
	})
}

func TestNotBeingAllowedToLock(t *testing.T) {
	for _, verb := range []string{"get", "create", "update"} {
		t.Run(verb, func(t *testing.T) {
			s := newLeaseStore(t)
			if verb == "update" {
				s.set(foreignLease("", ""))
			}
			method := map[string]string{"get": "GET " + leases + "/l", "create": "POST " + leases, "update": "PUT " + leases + "/l"}[verb]
			s.handlers[method] = refuse(403, metav1.StatusReasonForbidden, `User "eve" cannot `+verb+` resource "leases"`, &metav1.StatusDetails{Kind: "leases"})
			_, _, err := s.client().Lock(t.Context(), "team", "l", "install", quiet(t))
			wantFailure(t, err, failure.Forbidden, "Forbidden", "you may not "+verb+" leases.coordination.k8s.io in namespace team")
			if len(s.history) > 0 {
				t.Errorf("written: %v", s.history)
			}
		})
	}
}

func TestTheUsualTimesOfALock(t *testing.T) {
	c := New(nil)
	if c.lock.duration+c.lock.renew > 60*time.Second {
		t.Errorf("a dead holder keeps the lock for %s", c.lock.duration+c.lock.renew)
	}
	if trouble := 20*time.Second + 2*c.lock.renew; c.lock.duration < trouble { // just before and just after a renewal
		t.Errorf("a lease of %s does not outlive a server that is away for 20s", c.lock.duration)
	}
	if c.lock.release >= time.Second {
		t.Errorf("who interrupts waits for %s", c.lock.release)
	}
}
