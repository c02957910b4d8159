//go:build api

package cluster

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/test/kit"
)

// quick is c with the times of a lock that a test has: what they are changes nothing but the length of the test.
func quick(c *Client) *Client {
	c.lock = lockTimes{duration: 2 * time.Second, renew: 300 * time.Millisecond, release: usualLockTimes().release}
	return c
}

func realLease(ns string) Ref {
	return Ref{GroupVersionKind: leaseKind(), Namespace: ns, Name: "mlflow"}
}

func readLease(t *testing.T, c *Client, ns string) *unstructured.Unstructured {
	t.Helper()
	lease, err := c.Get(t.Context(), realLease(ns))
	if err != nil {
		t.Fatal(err)
	}
	return lease
}

func TestRealLockOneOfTwo(t *testing.T) {
	_, ns := realAPI(t)
	type got struct {
		locked context.Context
		unlock func() error
		err    error
	}
	results := make(chan got, 6)
	var running sync.WaitGroup
	for range cap(results) {
		running.Go(func() {
			locked, unlock, err := New(realGetter(t)).Lock(t.Context(), ns, "mlflow", "install", func(string) {}) // with the usual times
			results <- got{locked, unlock, err}
		})
	}
	running.Wait()
	close(results)
	var unlock func() error
	held := 0
	for r := range results {
		if r.err != nil {
			wantFailure(t, r.err, failure.Refused, "LockHeld", "lease.coordination.k8s.io/mlflow: another run is at work here: install on ")
			continue
		}
		held++
		if r.locked.Err() != nil {
			t.Error(context.Cause(r.locked))
		}
		unlock = r.unlock
	}
	if held != 1 {
		t.Fatalf("%d hold the lock", held)
	}
	for range 2 {
		if err := unlock(); err != nil {
			t.Error(err)
		}
	}
	if _, err := New(realGetter(t)).Get(t.Context(), realLease(ns)); !apierrors.IsNotFound(err) {
		t.Errorf("after unlock: %v", err)
	}
}

// TestRealLockElsewhere is two machines: the Lease does not tell the second one which process has it.
func TestRealLockElsewhere(t *testing.T) {
	c, ns := realAPI(t)
	locked, unlock, err := quick(c).Lock(t.Context(), ns, "mlflow", "upgrade", quiet(t))
	if err != nil {
		t.Fatal(err)
	}
	for changed := false; !changed; {
		lease := readLease(t, c, ns)
		lease.SetAnnotations(map[string]string{operationKey: "upgrade"})
		_, err := c.Update(t.Context(), lease, false)
		if err != nil && !apierrors.IsConflict(err) { // a renewal came in between
			t.Fatal(err)
		}
		changed = err == nil
	}
	_, _, err = quick(New(realGetter(t))).Lock(t.Context(), ns, "mlflow", "install", func(string) {})
	wantFailure(t, err, failure.Refused, "LockHeld", "upgrade on "+holderOf(readLease(t, c, ns)).id)
	if locked.Err() != nil {
		t.Errorf("a foreign hand on the lease ended the lock: %v", context.Cause(locked))
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
}

func TestRealLockOfTheDead(t *testing.T) {
	t.Run("elsewhere", func(t *testing.T) {
		c, ns := realAPI(t)
		lease := foreignLease("far/1/A", "2126-01-01T00:00:00.000000Z")
		lease.SetNamespace(ns)
		lease.SetName("mlflow")
		lease.SetUID("")
		if _, err := c.Create(t.Context(), lease, false); err != nil {
			t.Fatal(err)
		}
		var noted []string
		began := time.Now()
		_, unlock, err := quick(c).Lock(t.Context(), ns, "mlflow", "install", func(text string) { noted = append(noted, text) })
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unlock() }()
		if d := time.Since(began); d < time.Second || d > 10*time.Second {
			t.Errorf("taken over after %s; the lease is for 1s", d)
		}
		if len(noted) != 1 || !strings.HasPrefix(noted[0], "upgrade on far/1/A, since 2026-01-01T00:00:00Z has the lock") {
			t.Errorf("noted %q", noted)
		}
	})
	t.Run("here", func(t *testing.T) {
		c, ns := realAPI(t)
		cmd := exec.Command(os.Args[0], "-test.run", "^TestRealLockAndWait$")
		cmd.Env = append(os.Environ(), "LOCK_NAMESPACE="+ns)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = cmd.Process.Kill() }()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := c.Observe(ctx, []Query{QueryOf(realLease(ns))}, func(objs []*unstructured.Unstructured) (bool, error) { return len(objs) > 0, nil }); err != nil {
			t.Fatal(err)
		}
		_, _, err := c.Lock(ctx, ns, "mlflow", "install", quiet(t))
		wantFailure(t, err, failure.Refused, "LockHeld", "sleep on ")
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		began := time.Now()
		_, unlock, err := c.Lock(ctx, ns, "mlflow", "install", quiet(t)) // it does not wait
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unlock() }()
		if d := time.Since(began); d > 5*time.Second {
			t.Errorf("it took %s", d)
		}
	})
}

// TestRealLockAndWait is the other program of the test above.
func TestRealLockAndWait(t *testing.T) {
	ns := os.Getenv("LOCK_NAMESPACE")
	if ns == "" {
		return
	}
	if _, _, err := New(realGetter(t)).Lock(t.Context(), ns, "mlflow", "sleep", func(string) {}); err != nil {
		t.Fatal(err)
	}
	<-time.After(time.Minute) // it is killed
}

func TestRealLockIsRenewedAndLost(t *testing.T) {
	c, ns := realAPI(t)
	locked, unlock, err := quick(c).Lock(t.Context(), ns, "mlflow", "install", quiet(t))
	if err != nil {
		t.Fatal(err)
	}
	first := holderOf(readLease(t, c, ns))
	seen := map[string]bool{}
	if err := c.Observe(locked, []Query{QueryOf(realLease(ns))}, func(objs []*unstructured.Unstructured) (bool, error) {
		if now := holderOf(objs[0]); now.id != first.id || now.since != first.since {
			t.Errorf("the holder changes: %+v", now)
		}
		seen[holderOf(objs[0]).renewed] = true
		return len(seen) >= 10, nil // in more than the lease's duration
	}); err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(t.Context(), realLease(ns), ""); err != nil {
		t.Fatal(err)
	}
	<-locked.Done()
	wantFailure(t, context.Cause(locked), failure.Refused, "LockLost", "somebody else took the lock, or removed it")
	_, err = c.ApplyObject(locked, realConfigMap(ns, "c", ""), ApplyOptions{})
	wantFailure(t, err, failure.Refused, "LockLost", "lease.coordination.k8s.io/mlflow: somebody else")
	if err := unlock(); err != nil {
		t.Error(err)
	}
}

func TestRealLockOutlivesATroubledServer(t *testing.T) {
	for name, fault := range troubles() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, ns := realAPI(t)
			proxy, c := between(t)
			locked, unlock, err := quick(c).Lock(t.Context(), ns, "mlflow", "install", quiet(t))
			if err != nil {
				t.Fatal(err)
			}
			proxy.Fail(kit.During(500*time.Millisecond, fault))
			select {
			case <-locked.Done():
				t.Error(context.Cause(locked))
			case <-time.After(3 * time.Second): // longer than the lease's duration: it has been renewed
			}
			if err := unlock(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("but not for ever", func(t *testing.T) {
		t.Parallel()
		_, ns := realAPI(t)
		proxy, c := between(t)
		locked, unlock, err := quick(c).Lock(t.Context(), ns, "mlflow", "install", quiet(t))
		if err != nil {
			t.Fatal(err)
		}
		proxy.Fail(kit.Unavailable())
		<-locked.Done()
		wantFailure(t, context.Cause(locked), failure.Refused, "LockLost", "could not be renewed for 2s")
		began := time.Now()
		if err := unlock(); err == nil || time.Since(began) > time.Second {
			t.Errorf("unlock: %v after %s", err, time.Since(began))
		}
	})
}

func TestRealLockIsGivenBackAfterAnInterrupt(t *testing.T) {
	c, ns := realAPI(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	locked, unlock, err := c.Lock(ctx, ns, "mlflow", "install", quiet(t))
	if err != nil {
		t.Fatal(err)
	}
	interrupted := errors.New("interrupted")
	cancel(interrupted)
	began := time.Now()
	if err := unlock(); err != nil || time.Since(began) > time.Second {
		t.Errorf("unlock: %v after %s", err, time.Since(began))
	}
	if !errors.Is(context.Cause(locked), interrupted) {
		t.Errorf("locked ends with %v", context.Cause(locked))
	}
	if _, err := c.Get(t.Context(), realLease(ns)); !apierrors.IsNotFound(err) {
		t.Errorf("after an interrupt: %v", err)
	}
}

func TestRealLockNeedsRightsAndANamespace(t *testing.T) {
	_, ns := realAPI(t)
	_, _, err := New(impersonated{realGetter(t), "nobody"}).Lock(t.Context(), ns, "mlflow", "install", quiet(t))
	wantFailure(t, err, failure.Forbidden, "Forbidden", "you may not get leases.coordination.k8s.io in namespace "+ns)
	_, _, err = New(realGetter(t)).Lock(t.Context(), "no-such-namespace", "mlflow", "install", nil)
	wantFailure(t, err, failure.Invalid, "NamespaceNotFound", "namespace no-such-namespace does not exist")
}
