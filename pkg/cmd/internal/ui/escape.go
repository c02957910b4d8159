package ui

import (
	"strconv"
	"strings"
	"unicode"
)

// Escape makes one line of text safe to print on a terminal. Text from a cluster may hold whatever someone put into an
// annotation or a log: control characters, line breaks, escape sequences and direction marks are shown as \x1b, \n, \u202e.
func Escape(s string) string {
	if strings.IndexFunc(s, unsafe) < 0 && validText(s) {
		return s
	}
	var b strings.Builder
	for _, r := range strings.ToValidUTF8(s, string(unicode.ReplacementChar)) {
		switch {
		case r == '\t':
			b.WriteString("    ")
		case unsafe(r):
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

func unsafe(r rune) bool { return !unicode.IsPrint(r) }

func validText(s string) bool { return strings.ToValidUTF8(s, "") == s }

// lines splits text into escaped lines without trailing space or empty ones.
func lines(s string) []string {
	var out []string
	for line := range strings.SplitSeq(s, "\n") {
		if line = strings.TrimRight(line, " \t\r"); line != "" {
			out = append(out, Escape(line))
		}
	}
	return out
}
