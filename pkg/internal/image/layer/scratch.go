// Package layer packs files into reproducible image layers: the same files give the same bytes, on any machine and on any day.
//
// Names are sorted, times are zero, owners are root, modes are 0644 and 0755. Content is streamed: what is packed lies in memory
// while it is small, and in a private temporary directory else.
package layer

import (
	"fmt"
	"os"
	"sync"
)

// Scratch holds packed layers until they are pushed. It is safe for concurrent use.
type Scratch struct {
	parent string

	mu  sync.Mutex
	dir string
}

// NewScratch makes a Scratch that puts large layers under parent, or under the system's temporary directory where parent is "".
// It creates nothing until the first large layer.
func NewScratch(parent string) *Scratch { return &Scratch{parent: parent} }

// Close removes all that was packed; the layers cannot be read afterwards.
func (s *Scratch) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dir == "" {
		return nil
	}
	dir := s.dir
	s.dir = ""
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove packed layers: %w", err)
	}
	return nil
}

// create makes an empty file. The directory is readable by its owner alone.
func (s *Scratch) create() (*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dir == "" {
		dir, err := os.MkdirTemp(s.parent, "kubectl-mlflow-layers-")
		if err != nil {
			return nil, fmt.Errorf("make a directory for packed layers: %w", err)
		}
		s.dir = dir
	}
	f, err := os.CreateTemp(s.dir, "blob-")
	if err != nil {
		return nil, fmt.Errorf("make a file for a packed layer: %w", err)
	}
	return f, nil
}
