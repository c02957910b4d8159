package ui

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/cli-runtime/pkg/printers"
	"sigs.k8s.io/yaml"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// Formats are the values of -o that Print knows.
const Formats = "json or yaml"

// CheckFormat is for before the work: failure.Invalid where Print will not know the format.
func CheckFormat(format string) error {
	switch format {
	case "", "json", "yaml":
		return nil
	}
	return &failure.Error{Class: failure.Invalid, Reason: "UnknownOutput",
		Object: "--output", Message: fmt.Sprintf("%q is not a format", format), Hint: "use " + Formats + ", or leave it out"}
}

// Print writes v as JSON or YAML by its json tags, or, where format is "", text.
func Print(w io.Writer, format string, v any, text string) error {
	out := []byte(text)
	var err error
	switch format {
	case "json":
		out, err = json.MarshalIndent(v, "", "  ")
		out = append(out, '\n')
	case "yaml":
		out, err = yaml.Marshal(v)
	}
	if err != nil {
		return fmt.Errorf("printing as %s: %w", format, err)
	}
	_, err = w.Write(out)
	return err
}

// Table lines rows up under their header, as kubectl does. An empty cell is shown as <none>.
func Table(header []string, rows [][]string) string {
	var b strings.Builder
	w := printers.GetNewTabWriter(&b)
	for _, row := range append([][]string{header}, rows...) {
		cells := make([]string, len(row))
		for i, cell := range row {
			if cell == "" {
				cell = "<none>"
			}
			cells[i] = Escape(cell)
		}
		_, _ = w.Write([]byte(strings.Join(cells, "\t") + "\n")) // what w writes to is memory
	}
	_ = w.Flush()
	return b.String()
}

// Ready is a condition's status for a table, with the first words of the reason where it is not met.
func Ready(ready bool, reason string) string {
	if ready {
		return "True"
	}
	short, _, _ := strings.Cut(reason, ": ")
	return strings.TrimSpace("False " + cut(short, 40))
}

// Age is how long ago that was, as kubectl says it; "" where it is not known.
func Age(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return duration.HumanDuration(time.Since(t))
}

// Data writes what somebody else made, as it is and with a line break at the end; on a terminal its control characters are shown.
func Data(w io.Writer, data []byte) error {
	if printers.IsTerminal(w) {
		escaped := make([]string, 0, bytes.Count(data, []byte("\n"))+1)
		for line := range strings.Lines(string(data)) {
			escaped = append(escaped, Escape(strings.TrimRight(line, "\r\n")))
		}
		data = []byte(strings.Join(escaped, "\n"))
	}
	if !bytes.HasSuffix(data, []byte("\n")) {
		data = append(bytes.Clone(data), '\n')
	}
	_, err := w.Write(data)
	return err
}
