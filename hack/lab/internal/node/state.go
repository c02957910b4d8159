package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const (
	lockFile  = "node.lock"
	stateFile = "state.json"
)

// State is what the supervisor tells about its node.
type State struct {
	Key        string           `json:"key"`
	Started    time.Time        `json:"started"`
	Components []ComponentState `json:"components"`
}

// ComponentState is what is known of one component. PID counts in the node's own PID namespace, 0 while nothing runs.
type ComponentState struct {
	Name     string    `json:"name"`
	PID      int       `json:"pid"`
	Started  time.Time `json:"started"`
	Restarts int       `json:"restarts"`
	Ready    bool      `json:"ready"`
	// Waiting is what the component, or its being ready, waits for.
	Waiting string `json:"waiting,omitempty"`
	// LastExit is how its process ended last.
	LastExit string `json:"lastExit,omitempty"`
}

func newState(spec Spec) State {
	s := State{Key: spec.Key, Started: time.Now().UTC()}
	for _, c := range spec.Components {
		s.Components = append(s.Components, ComponentState{Name: c.Name})
	}
	return s
}

// Unready returns the components that are not ready.
func (s State) Unready() []ComponentState {
	var list []ComponentState
	for _, c := range s.Components {
		if !c.Ready {
			list = append(list, c)
		}
	}
	return list
}

// write replaces the state file as a whole, so that a reader never sees half of it.
func (s State) write(folder string) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	file := filepath.Join(folder, stateFile)
	if err := os.WriteFile(file+".new", append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("state of the node: %w", err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		return fmt.Errorf("state of the node: %w", err)
	}
	return nil
}

// ReadState returns what the supervisor of a folder last told; fs.ErrNotExist where it has told nothing yet.
func ReadState(folder string) (State, error) {
	var s State
	text, err := os.ReadFile(filepath.Join(folder, stateFile)) // #nosec G304 -- a file of the lab's own
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("state of the node in %s: %w", folder, err)
	}
	return s, nil
}

// Lock marks the calling process as the supervisor of a folder, for as long as it lives and the file is open: the kernel
// takes the mark away with the process, however that ends.
func Lock(folder string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(folder, lockFile), os.O_CREATE|os.O_RDWR, 0o600) // #nosec G304 -- a file of the lab's own
	if err != nil {
		return nil, err
	}
	whole := syscall.Flock_t{Type: syscall.F_WRLCK}
	if err := syscall.FcntlFlock(f.Fd(), syscall.F_SETLK, &whole); err != nil {
		return nil, errors.Join(fmt.Errorf("%s has another supervisor: %w", folder, err), f.Close())
	}
	return f, nil
}

// Alive returns the pid of a folder's supervisor as the caller counts processes, or 0 where none lives.
func Alive(folder string) (int, error) {
	f, err := os.OpenFile(filepath.Join(folder, lockFile), os.O_RDWR, 0) // #nosec G304 -- a file of the lab's own
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	// The kernel answers with the lock that stands in the way, and with its owner's pid in our own PID namespace.
	other := syscall.Flock_t{Type: syscall.F_WRLCK}
	err = syscall.FcntlFlock(f.Fd(), syscall.F_GETLK, &other)
	if err := errors.Join(err, f.Close()); err != nil {
		return 0, fmt.Errorf("lock of %s: %w", folder, err)
	}
	if other.Type == syscall.F_UNLCK {
		return 0, nil
	}
	return int(other.Pid), nil
}
