package ui

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestLog(t *testing.T) {
	at := time.Date(2026, 11, 26, 12, 0, 0, 123456789, time.UTC)
	for _, c := range []struct {
		name string
		edit func(*Log)
		want string
	}{
		{"plain", func(*Log) {}, "[server-1/x] one    two\\x1b[31m\n[database-0] three\n"},
		{"bare, with times", func(l *Log) { l.Bare, l.Times = true, true },
			"2026-11-26T12:00:00.123Z one    two\\x1b[31m\n2026-11-26T12:00:00.123Z three\n"},
		{"on a terminal", func(l *Log) { l.color = true }, "\x1b[36m[server-1/x]\x1b[0m one    two\\x1b[31m\n\x1b[33m[database-0]\x1b[0m three\n"},
	} {
		var b strings.Builder
		l := NewLog(&b)
		c.edit(l)
		if err := errors.Join(l.Line("server-1/x", "server", at, "one\ttwo\x1b[31m"), l.Line("database-0", "database", at, "three")); err != nil {
			t.Fatal(err)
		}
		if b.String() != c.want {
			t.Errorf("%s: printed %q, want %q", c.name, b.String(), c.want)
		}
	}
}
