// Package report tells a person what is being done, how long it usually takes, and how long it took.
package report

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// Lines reports one line when a step begins and one when it ends, each with the time since the start. Steps may overlap.
type Lines struct {
	mu    sync.Mutex
	out   io.Writer
	began time.Time
}

// New reports to out; the clock starts now.
func New(out io.Writer) *Lines { return &Lines{out: out, began: time.Now()} }

// Step tells that something begins; done tells how it ended.
func (l *Lines) Step(name string, usual time.Duration) (done func(err error)) {
	hint := ""
	if usual >= time.Second {
		hint = fmt.Sprintf(" (usually %s)", usual.Round(time.Second))
	}
	l.line("%s ...%s", name, hint)
	began := time.Now()
	return func(err error) {
		end := "done"
		if err != nil {
			end = "FAILED"
		}
		l.line("%s: %s after %.1f s", name, end, time.Since(began).Seconds())
	}
}

// Write passes what others say through, line by line with the steps.
func (l *Lines) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(text)
}

func (l *Lines) line(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// There is nowhere to complain about a stderr that is gone.
	_, _ = fmt.Fprintf(l.out, "[%6.1f s] "+format+"\n", append([]any{time.Since(l.began).Seconds()}, args...)...)
}
