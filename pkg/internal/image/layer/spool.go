package layer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// inMemory is how many bytes of one blob stay in memory; a larger blob moves to a file.
const inMemory = 4 << 20

// spool is written once and read many times.
type spool struct {
	scratch *Scratch
	buffer  bytes.Buffer
	file    *os.File
	size    int64
}

func (s *spool) Write(p []byte) (int, error) {
	if s.file == nil && s.buffer.Len()+len(p) > inMemory {
		f, err := s.scratch.create()
		if err != nil {
			return 0, err
		}
		s.file = f
		if _, err := s.buffer.WriteTo(f); err != nil {
			return 0, unwritten(err)
		}
		s.buffer = bytes.Buffer{}
	}
	var n int
	var err error
	if s.file != nil {
		n, err = s.file.Write(p)
	} else {
		n, err = s.buffer.Write(p)
	}
	s.size += int64(n)
	if err != nil {
		return n, unwritten(err)
	}
	return n, nil
}

// unwritten says what to do where there is no room for what is packed.
func unwritten(err error) error {
	if !errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("write a packed layer: %w", err)
	}
	full := &failure.Error{
		Class: failure.Diagnosed, Reason: "DiskFull", Message: "the disk is full: large layers are written there before they are sent",
		Hint: "make room, or name a directory on another disk in TMPDIR", Err: err,
	}
	if e, ok := errors.AsType[*os.PathError](err); ok {
		full.Object, full.Err = filepath.Dir(filepath.Dir(e.Path)), e.Err
	}
	return full
}

// done ends writing and returns a function that opens what was written.
func (s *spool) done() (func() (io.ReadCloser, error), error) {
	if s.file == nil {
		content := s.buffer.Bytes()
		return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }, nil
	}
	name := s.file.Name()
	if err := s.file.Close(); err != nil {
		return nil, fmt.Errorf("write a packed layer: %w", err)
	}
	return func() (io.ReadCloser, error) {
		f, err := os.Open(name) // #nosec G304 -- a file that create made
		if err != nil {
			return nil, fmt.Errorf("read a packed layer: %w", err)
		}
		return f, nil
	}, nil
}

// discard gives back what was written, after a failure.
func (s *spool) discard() error {
	if s.file == nil {
		return nil
	}
	return errors.Join(ignoreClosed(s.file.Close()), os.Remove(s.file.Name()))
}

func ignoreClosed(err error) error {
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}
