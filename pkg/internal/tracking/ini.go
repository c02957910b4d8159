package tracking

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// option is the place of a value.
type option struct{ section, key string }

// options are the values of an ini file, as they are written. A section is there with an empty key.
type options map[option]string

// parseINI reads what Python's configparser reads, which is what MLflow reads its file with: only whole lines are comments, quotes
// are part of a value, and a value goes on in lines that are indented deeper. Libraries for Go read other dialects, in which a
// password with a # or a ; ends there. Errors name the line, and nothing of what is in it.
func parseINI(text string) (options, error) {
	found := options{}
	var at option // that a deeper line goes on with; its key is empty after a section's header
	inside := false
	depth := 0
	text = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text)
	for i, line := range strings.Split(text, "\n") {
		value := strings.TrimSpace(line)
		indent := len(line) - len(strings.TrimLeftFunc(line, unicode.IsSpace))
		switch {
		case strings.HasPrefix(value, "#") || strings.HasPrefix(value, ";"):
			continue
		case value == "" || at.key != "" && indent > depth:
			if at.key != "" {
				found[at] += "\n" + value
			}
			continue
		}
		depth = indent
		if name, ok := header(value); ok {
			at, inside = option{section: name}, true
			if _, twice := found[at]; twice && name != "DEFAULT" {
				return nil, fmt.Errorf("line %d: a section for the second time", i+1)
			}
			found[at] = ""
			continue
		}
		if !inside {
			return nil, fmt.Errorf("line %d: there is no [section] before it", i+1)
		}
		end := strings.IndexAny(value, "=:")
		if end <= 0 {
			return nil, fmt.Errorf("line %d: it is not KEY = VALUE", i+1)
		}
		at.key = strings.ToLower(strings.TrimSpace(value[:end]))
		if _, twice := found[at]; twice {
			return nil, fmt.Errorf("line %d: a key for the second time", i+1)
		}
		found[at] = strings.TrimSpace(value[end+1:])
	}
	return found, nil
}

// header is the name in a line like [name].
func header(line string) (string, bool) {
	end := strings.LastIndex(line, "]")
	if !strings.HasPrefix(line, "[") || end < 2 {
		return "", false
	}
	return line[1:end], true
}

// get is a value of section, else of DEFAULT, else "". A percent sign is written twice.
func (o options) get(section, key string) (string, error) {
	if _, there := o[option{section: section}]; !there {
		return "", nil // what is in DEFAULT is for the sections that there are
	}
	value, ok := o[option{section, key}]
	if !ok {
		value = o[option{"DEFAULT", key}]
	}
	value = strings.TrimRightFunc(value, unicode.IsSpace)
	if strings.Contains(strings.ReplaceAll(value, "%%", ""), "%") {
		return "", errors.New(key + " has a percent sign that is not doubled")
	}
	return strings.ReplaceAll(value, "%%", "%"), nil
}
