package render

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// setEnv replaces values in the text of an env file and leaves its other lines as they are. A key that the file has in a comment,
// "#KEY=", is one without a value so far.
func setEnv(file string, text []byte, values map[string]string) ([]byte, error) {
	lines := strings.Split(string(text), "\n")
	for _, key := range slices.Sorted(maps.Keys(values)) {
		value := values[key]
		if strings.ContainsAny(value, "\r\n") {
			return nil, &failure.Error{
				Class: failure.Invalid, Reason: "LineBreak", Object: file,
				Message: fmt.Sprintf("the value of %s has a line break", key),
				Hint:    "give it as one line",
			}
		}
		at := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(strings.TrimPrefix(line, "#"), key+"=") })
		if at < 0 {
			return nil, &failure.Error{
				Class: failure.Invalid, Reason: "UnknownKey", Object: file,
				Message: fmt.Sprintf("there is no key %s", key),
				Hint:    "its keys are: " + strings.Join(keys(lines), ", "),
			}
		}
		lines[at] = key + "=" + value
	}
	return []byte(strings.Join(lines, "\n")), nil
}

func keys(lines []string) []string {
	var found []string
	for _, line := range lines {
		if key, _, ok := strings.Cut(strings.TrimPrefix(line, "#"), "="); ok && !strings.ContainsRune(key, ' ') {
			found = append(found, key)
		}
	}
	return found
}
