package filelock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// held is a lock that somebody has.
func held(t *testing.T) (path string, holder Lock) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "a.lock")
	holder = On(path)
	if has, err := holder.Try(); !has || err != nil {
		t.Fatalf("a free lock: %t, %v", has, err)
	}
	return path, holder
}

func TestLockIsOnesAtATime(t *testing.T) {
	path, holder := held(t)
	second := On(path)
	if has, err := second.Try(); has || err != nil {
		t.Errorf("a lock that somebody has: %t, %v", has, err)
	}
	got := make(chan error, 1)
	go func() { got <- second.Wait(t.Context()) }()
	select {
	case err := <-got:
		t.Fatalf("the wait ended before the lock was given back: %v", err)
	default:
	}
	if err := holder.Unlock(); err != nil {
		t.Error(err)
	}
	if err := <-got; err != nil {
		t.Error(err)
	}
	if has, err := holder.Try(); has || err != nil {
		t.Errorf("the lock that was waited for: %t, %v", has, err)
	}
	if err := second.Unlock(); err != nil {
		t.Error(err)
	}
}

// Who no longer waits does not keep the lock that comes later.
func TestWaitThatIsCalledOffHoldsNobodyUp(t *testing.T) {
	path, holder := held(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	cancel(enough)
	if err := On(path).Wait(ctx); !errors.Is(err, enough) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
	if err := holder.Unlock(); err != nil {
		t.Fatal(err)
	}
	third := On(path)
	if err := third.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	if err := third.Unlock(); err != nil {
		t.Error(err)
	}
}

func TestWhereThereAreNoLocks(t *testing.T) {
	for err, want := range map[error]bool{
		fmt.Errorf("lock: %w", syscall.ENOLCK):                    true,
		&os.PathError{Op: "flock", Err: syscall.ENOSYS}:           true,
		&os.PathError{Op: "open", Err: syscall.EACCES}:            false,
		&os.PathError{Op: "open", Err: syscall.ENOENT, Path: "a"}: false,
	} {
		if Unsupported(err) != want {
			t.Errorf("%v: %t, want %t", err, !want, want)
		}
	}
	nowhere := On(filepath.Join(t.TempDir(), "none", "a.lock"))
	if has, err := nowhere.Try(); has || err == nil {
		t.Errorf("in a directory that is not there: %t, %v", has, err)
	}
}
