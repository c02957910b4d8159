package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/artifacts"
	"github.com/kubectl-mlflow/kubectl-mlflow/hack/lab/internal/node"
)

const (
	// stopTimeout is what the supervisor has to end its components one after the other.
	stopTimeout = 20 * time.Second
	// goneTimeout is what the kernel has to take away what belonged to the node.
	goneTimeout = 20 * time.Second
)

// Lock keeps other lab commands from working on the same cluster until unlock is called. It waits for one that does;
// waiting is called first.
func (l Layout) Lock(ctx context.Context, waiting func()) (unlock func() error, err error) {
	if err := os.MkdirAll(filepath.Dir(l.lock()), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(l.lock(), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for told := false; ; told = true {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f.Close, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("%s: %w", l.lock(), err), f.Close())
		}
		if !told {
			waiting()
		}
		if !node.Wait(ctx, 200*time.Millisecond) {
			return nil, errors.Join(fmt.Errorf("another lab command works on %s: %w", l, ctx.Err()), f.Close())
		}
	}
}

// Down ends the cluster and removes what it left: processes, interface, cgroups, files. A cluster that is down already
// is no error. The artifacts stay.
func (l Layout) Down(ctx context.Context) error {
	if err := l.stop(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, goneTimeout)
	defer cancel()
	if l.Profile == artifacts.Full && os.Geteuid() == 0 {
		err := checkOwner(l.Run())
		if errors.Is(err, errOtherCache) {
			// What there is on this machine is the other's.
			return removeAll(ctx, l.Run())
		}
		if err != nil {
			return err
		}
		if err := unlinkNode(ctx); err != nil {
			return err
		}
		if err := node.RemoveCgroup(ctx, cgroupRoot); err != nil {
			return err
		}
	}
	return removeAll(ctx, l.Run())
}

// stop ends the supervisor, and with it everything that it runs.
func (l Layout) stop(ctx context.Context) error {
	var pid int
	for _, step := range []struct {
		signal  syscall.Signal
		timeout time.Duration
	}{{syscall.SIGTERM, stopTimeout}, {syscall.SIGKILL, goneTimeout}} {
		var err error
		if pid, err = node.Alive(l.Run()); err != nil || pid == 0 {
			return err
		}
		if err := syscall.Kill(pid, step.signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("end the supervisor of %s, pid %d: %w", l, pid, err)
		}
		if ended, err := l.awaitEnd(ctx, step.timeout); err != nil || ended {
			return err
		}
	}
	return fmt.Errorf("the supervisor of %s, pid %d, does not end", l, pid)
}

// awaitEnd tells whether the supervisor ended within the timeout.
func (l Layout) awaitEnd(ctx context.Context, timeout time.Duration) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		if pid, err := node.Alive(l.Run()); err != nil || pid == 0 {
			return err == nil, err
		}
		if !node.Wait(ctx, 50*time.Millisecond) {
			return false, nil
		}
	}
}

// removeAll removes a folder, as soon as the last mount of it is gone with the node's mount namespace.
func removeAll(ctx context.Context, folder string) error {
	for {
		err := os.RemoveAll(folder)
		if err == nil {
			if _, err = os.Lstat(folder); errors.Is(err, fs.ErrNotExist) {
				return nil
			}
		}
		if !node.Wait(ctx, 100*time.Millisecond) {
			return fmt.Errorf("remove %s: %w", folder, errors.Join(ctx.Err(), err))
		}
	}
}
