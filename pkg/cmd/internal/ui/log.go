package ui

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"
)

// Log prints lines of logs, each after where it comes from: in colours on a terminal, one for each group, and plain elsewhere.
type Log struct {
	w      io.Writer
	color  bool
	colors map[string]string // by group, in the order of their first lines
	Bare   bool              // leave out where a line comes from
	Times  bool              // print when it was written
}

// NewLog makes a Log that prints to w, which is data: not the place for talk.
func NewLog(w io.Writer) *Log {
	return &Log{w: w, color: inspect(w, runtime.GOOS, os.LookupEnv).color, colors: map[string]string{}}
}

// Line prints one line. What is not fit for a terminal is shown as Escape does.
func (l *Log) Line(source, group string, at time.Time, text string) error {
	var b strings.Builder
	if !l.Bare {
		label := "[" + Escape(source) + "]"
		if l.color {
			label = l.of(group) + label + "\x1b[0m"
		}
		b.WriteString(label + " ")
	}
	if l.Times {
		b.WriteString(at.UTC().Format("2006-01-02T15:04:05.000Z") + " ")
	}
	b.WriteString(Escape(text) + "\n")
	if _, err := io.WriteString(l.w, b.String()); err != nil {
		return fmt.Errorf("printing the log: %w", err)
	}
	return nil
}

// of is the colour of a group: not red, which is for what is wrong.
func (l *Log) of(group string) string {
	color, ok := l.colors[group]
	if !ok {
		palette := []string{"\x1b[36m", "\x1b[33m", "\x1b[35m", "\x1b[32m", "\x1b[34m"}
		color = palette[len(l.colors)%len(palette)]
		l.colors[group] = color
	}
	return color
}
