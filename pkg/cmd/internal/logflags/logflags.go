// Package logflags is what the verbs about logs have in common on the command line. The names are kubectl's.
package logflags

import (
	"errors"
	"io"
	"time"

	"github.com/spf13/pflag"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// usualTail is how many lines of each container are read where nothing is said about that: those of weeks are no answer.
const usualTail = 100

// Flags is what the user typed.
type Flags struct {
	Follow     bool
	Previous   bool
	Since      time.Duration
	Tail       int64
	Timestamps bool
	NoPrefix   bool
}

// Add defines the flags.
func Add(flags *pflag.FlagSet) *Flags {
	f := &Flags{Tail: usualTail}
	flags.BoolVarP(&f.Follow, "follow", "f", f.Follow, "Go on with what is written, also by the pods that follow these, until interrupted")
	flags.BoolVarP(&f.Previous, "previous", "p", f.Previous, "Of the runs before the containers' last restarts")
	flags.DurationVar(&f.Since, "since", f.Since, "No lines older than this, for instance 10m; then all of them, unless --tail is given")
	flags.Int64Var(&f.Tail, "tail", f.Tail, "Last lines of each container; -1 for all")
	flags.BoolVar(&f.Timestamps, "timestamps", f.Timestamps, "Print when each line was written")
	flags.BoolVar(&f.NoPrefix, "no-prefix", f.NoPrefix, "Do not print where each line comes from")
	return f
}

// Check needs no network.
func (f *Flags) Check() error {
	var errs []error
	if f.Follow && f.Previous {
		errs = append(errs, invalid("--follow", "a run that is over says nothing more", "leave out --previous or --follow"))
	}
	if f.Since < 0 {
		errs = append(errs, invalid("--since", "that is in the future", "give a duration such as 10m"))
	}
	return errors.Join(errs...)
}

// Begin is from when on lines are wanted, and how many of them at most; zeros are all. typed tells whether --tail was given.
func (f *Flags) Begin(now time.Time, typed bool) (since time.Time, tail int64) {
	if f.Since > 0 {
		since = now.Add(-f.Since)
	}
	if f.Since > 0 && !typed {
		return since, 0
	}
	return since, max(f.Tail, 0)
}

// Log prints to w as the flags say.
func (f *Flags) Log(w io.Writer) *ui.Log {
	log := ui.NewLog(w)
	log.Bare, log.Times = f.NoPrefix, f.Timestamps
	return log
}

func invalid(flag, message, hint string) error {
	return &failure.Error{Class: failure.Invalid, Reason: "BadFlag", Object: flag, Message: message, Hint: hint}
}
