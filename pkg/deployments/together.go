package deployments

import (
	"context"
	"errors"
	"sync"
)

// together runs fs at once and ends the others when one fails. It returns the failures in the order of fs, without those that are
// only echoes of the end.
func together(ctx context.Context, fs ...func(ctx context.Context) error) error {
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	failures := make([]error, len(fs))
	var running sync.WaitGroup
	for i, f := range fs {
		running.Go(func() {
			if failures[i] = f(inner); failures[i] != nil {
				cancel()
			}
		})
	}
	running.Wait()
	var genuine []error
	for _, err := range failures {
		if err != nil && (ctx.Err() != nil || !errors.Is(err, context.Canceled)) {
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
