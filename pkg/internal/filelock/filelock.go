// Package filelock keeps the processes of one machine out of each other's way. A lock ends with the process that has it, however that ends.
package filelock

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/gofrs/flock"
)

// Lock is one on a file, which is made where it is missing and stays.
type Lock struct{ file *flock.Flock }

// On is the lock of the file at path.
func On(path string) Lock { return Lock{flock.New(path)} }

// Try takes the lock where nobody has it. On a file system without locks, of a network perhaps, everybody has them.
func (l Lock) Try() (bool, error) {
	has, err := l.file.TryLock()
	if Unsupported(err) {
		return true, nil
	}
	return has, l.explain(err)
}

// Wait returns with the lock, or with the cause of ctx's end.
func (l Lock) Wait(ctx context.Context) error {
	locked := make(chan error, 1)
	go func() { locked <- l.file.Lock() }()
	select {
	case err := <-locked:
		return l.explain(err)
	case <-ctx.Done():
		// A wait for a lock cannot be called off: it is given back as soon as it comes.
		go func() {
			if <-locked == nil {
				_ = l.file.Unlock() // nobody is left to be told
			}
		}()
		return l.explain(context.Cause(ctx))
	}
}

// Unlock gives it back.
func (l Lock) Unlock() error { return l.explain(l.file.Unlock()) }

func (l Lock) explain(err error) error {
	if err != nil {
		return fmt.Errorf("lock %s: %w", l.file.Path(), err)
	}
	return nil
}

// Unsupported tells whether err says that a file system has no locks.
func Unsupported(err error) bool {
	return errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.ENOLCK)
}
