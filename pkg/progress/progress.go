// Package progress is how long work tells what it does. It prints nothing; pkg/cmd/internal/ui does.
package progress

import "fmt"

// Reporter is told of steps. It is safe for concurrent use.
type Reporter interface {
	// Start begins a step, in the present participle: "Pushing model layers".
	Start(name string) Step
}

// Step is one step under way.
type Step interface {
	// Note says what is awaited now and why; the next note replaces it.
	Note(text string)
	// Bytes reports n of total bytes done; total is -1 where it is not known.
	Bytes(n, total int64)
	// End closes the step: nil is success.
	End(err error)
}

// Do runs f as one step and ends it with f's error.
func Do(r Reporter, name string, f func(Step) error) error {
	s := r.Start(name)
	err := f(s)
	s.End(err)
	return err
}

// Say tells a sentence that stays, where a Note would be replaced by the next. A Reporter without a Say has no place for it.
func Say(r Reporter, format string, args ...any) {
	if r, ok := r.(interface {
		Say(format string, args ...any)
	}); ok {
		r.Say(format, args...)
	}
}

// Prefixed is r, where every step and sentence begins with prefix.
func Prefixed(r Reporter, prefix string) Reporter { return prefixed{r, prefix} }

type prefixed struct {
	to     Reporter
	prefix string
}

func (p prefixed) Start(name string) Step { return p.to.Start(p.prefix + name) }

func (p prefixed) Say(format string, args ...any) {
	Say(p.to, "%s", p.prefix+fmt.Sprintf(format, args...))
}

// Discard is a Reporter that nobody listens to.
type Discard struct{}

// Start returns a step that nobody listens to.
func (Discard) Start(string) Step { return discarded{} }

type discarded struct{}

func (discarded) Note(string)        {}
func (discarded) Bytes(int64, int64) {}
func (discarded) End(error)          {}
