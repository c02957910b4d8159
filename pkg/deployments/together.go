package deployments

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// grace is what the others get when one has failed: all that is wrong is told at once, in an order that no race decides.
const grace = 5 * time.Second

// together runs fs at once, and ends the others some time after one has failed. It returns the failures in the order of fs, without
// those that are only echoes of the end.
func together(ctx context.Context, fs ...func(ctx context.Context) error) error {
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	failures := make([]error, len(fs))
	var running sync.WaitGroup
	var ending sync.Once
	var end *time.Timer
	for i, f := range fs {
		running.Go(func() {
			if failures[i] = f(inner); failures[i] != nil {
				ending.Do(func() { end = time.AfterFunc(grace, cancel) })
			}
		})
	}
	running.Wait()
	if end != nil {
		end.Stop()
	}
	var genuine []error
	for _, err := range failures {
		said := func(other error) bool { return other.Error() == err.Error() } // two have met the same wall
		if err != nil && (ctx.Err() != nil || !errors.Is(err, context.Canceled)) && !slices.ContainsFunc(genuine, said) {
			genuine = append(genuine, err)
		}
	}
	switch len(genuine) {
	case 0:
		return errors.Join(failures...)
	case 1:
		return genuine[0]
	default:
		return errors.Join(genuine...)
	}
}
