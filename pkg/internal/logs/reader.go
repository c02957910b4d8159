package logs

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"time"
)

// longest is how long a piece of a line may be, in bytes.
const longest = 64 << 10

// reader reads a log whose lines begin with their times.
type reader struct {
	source Source
	log    io.ReadCloser
	buffer *bufio.Reader
	last   time.Time // of the line before
	within bool      // of a line whose beginning was read
	whole  bool      // a line without its end at the end of the log is none: the connection broke, and it will come again
}

func newReader(s Source, log io.ReadCloser) *reader {
	return &reader{source: s, log: log, buffer: bufio.NewReaderSize(log, longest)}
}

// next is the next line, or a piece of one. io.EOF is the end.
func (r *reader) next() (Line, error) {
	text, err := r.buffer.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		err = nil
	case errors.Is(err, io.EOF) && len(text) > 0 && !r.whole:
		err = nil
	case err != nil:
		return Line{}, err
	}
	if !r.within {
		if stamp, rest, found := bytes.Cut(text, []byte(" ")); found {
			if at, err := time.Parse(time.RFC3339Nano, string(stamp)); err == nil {
				r.last, text = at, rest
			}
		}
	}
	line := bytes.TrimSuffix(text, []byte("\n"))
	r.within = len(line) == len(text) // there was no end
	return Line{Source: r.source, Time: r.last, Text: string(bytes.TrimSuffix(line, []byte("\r")))}, err
}
