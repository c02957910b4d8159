package ui

import (
	"context"
	"sync"
)

// Warnings prints the API server's warnings, each once. It is a rest.WarningHandlerWithContext.
type Warnings struct {
	talk *Progress

	mu   sync.Mutex
	seen map[string]bool
}

// NewWarnings prints among talk's steps.
func NewWarnings(talk *Progress) *Warnings {
	return &Warnings{talk: talk, seen: map[string]bool{}}
}

// HandleWarningHeaderWithContext prints text. 299 is the code of all that an API server has to say.
func (w *Warnings) HandleWarningHeaderWithContext(_ context.Context, code int, _ string, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if code != 299 || text == "" || w.seen[text] {
		return
	}
	w.seen[text] = true
	w.talk.Say("warning: %s", text)
}
