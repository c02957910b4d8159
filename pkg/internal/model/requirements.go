package model

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// requirementLines normalises a requirements file as pip reads it (pip._internal.req.req_file): continued lines are joined,
// comments and empty lines go. Option lines (-c, --extra-index-url) stay.
func requirementLines(file string, text []byte) ([]string, error) {
	comment := regexp.MustCompile(`(^|\s)#.*$`)
	var lines []string
	var joined strings.Builder
	flush := func() {
		line := strings.TrimSpace(comment.ReplaceAllString(joined.String(), ""))
		joined.Reset()
		if line != "" {
			lines = append(lines, line)
		}
	}
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		line = strings.TrimRight(line, "\r\n")
		if !utf8.ValidString(line) || strings.ContainsFunc(line, isControl) {
			return nil, invalid(file, number, "holds a character that is no text")
		}
		isComment := strings.HasPrefix(strings.TrimSpace(line), "#")
		if isComment {
			line = " " + strings.TrimSpace(line) // within a continued requirement it must still be a comment
		}
		head, continued := strings.CutSuffix(line, `\`)
		if continued && !isComment {
			joined.WriteString(head)
			continue
		}
		joined.WriteString(line)
		flush()
	}
	flush()
	return lines, nil
}

func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }
