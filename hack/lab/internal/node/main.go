package node

import (
	"context"
	"errors"
	"io"
	"time"
)

// Main is the life of a supervisor: it locks the folder, isolates itself where the spec says so, and runs the components
// until ctx ends. What it does goes to talk.
func Main(ctx context.Context, specFile string, talk io.Writer) (err error) {
	spec, err := ReadSpec(specFile)
	if err != nil {
		return err
	}
	lock, err := Lock(spec.Folder)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if spec.Isolation != nil {
		if err := isolate(ctx, *spec.Isolation); err != nil {
			return err
		}
		// With PID 1 everything ends anyway; this gives it the chance to end by itself.
		defer endAll(time.Second)
	}
	return Run(ctx, spec, talk)
}
