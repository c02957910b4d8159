package node

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// supervisor keeps the components of one node alive.
type supervisor struct {
	spec  Spec
	talk  io.Writer
	procs *processes

	mu     sync.Mutex
	state  State
	failed error
}

// Run keeps the components of the spec alive until ctx ends, then ends them in reverse order. It tells what it does to
// talk, and writes its State to the spec's folder. The error is the first that made supervision itself impossible.
func Run(ctx context.Context, spec Spec, talk io.Writer) error {
	if err := spec.Validate(); err != nil {
		return err
	}
	if err := os.MkdirAll(spec.LogFolder(), 0o700); err != nil {
		return err
	}
	// Processes are started and collected until the last of them has ended, which is after ctx.
	alive, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	s := &supervisor{spec: spec, talk: talk, procs: newProcesses(alive), state: newState(spec)}
	if err := s.state.write(spec.Folder); err != nil {
		return err
	}

	keepers := make([]*keeper, len(spec.Components))
	var all sync.WaitGroup
	for i, c := range spec.Components {
		keepers[i] = newKeeper(alive, s, c)
		all.Go(keepers[i].run)
	}
	<-ctx.Done()
	s.say("stopping")
	// All are told at once not to start anything again, then they end one by one.
	for _, k := range keepers {
		k.retire()
	}
	for _, k := range slices.Backward(keepers) {
		k.stop()
	}
	all.Wait()
	s.say("stopped")
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// LogFolder is where every component has its log, named by it.
func (s Spec) LogFolder() string { return filepath.Join(s.Folder, "log") }

func (s Spec) logOf(component string) string {
	return filepath.Join(s.LogFolder(), component+".log")
}

func (s *supervisor) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// What cannot be logged cannot be complained about either.
	_, _ = fmt.Fprintf(s.talk, "%s "+format+"\n", append([]any{time.Now().UTC().Format("15:04:05.000")}, args...)...)
}

// change edits the state of one component, and writes the whole state where that changed it.
func (s *supervisor) change(component string, edit func(*ComponentState)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.state.Components, func(c ComponentState) bool { return c.Name == component })
	before := s.state.Components[i]
	edit(&s.state.Components[i])
	if s.state.Components[i] == before {
		return
	}
	if err := s.state.write(s.spec.Folder); err != nil && s.failed == nil {
		s.failed = err
	}
}
