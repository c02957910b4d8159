package ui

import (
	"io"
	"strings"
)

// Failure is what a person reads when a command failed: what is wrong, what to do, and what shows it.
type Failure struct {
	Message  string
	Hint     string
	Evidence []string
	See      string // the command whose help says more, or ""
}

// PrintFailure writes f. Line breaks of a message become indented lines. Where w cannot be written to, nobody reads, and
// the exit code has to do.
func PrintFailure(w io.Writer, f Failure) {
	var b strings.Builder
	paragraph(&b, "error: ", f.Message)
	if f.Hint != "" {
		paragraph(&b, "hint: ", f.Hint)
	}
	for _, e := range f.Evidence {
		for _, line := range lines(e) {
			b.WriteString("  " + line + "\n")
		}
	}
	if f.See != "" {
		b.WriteString("See '" + Escape(f.See) + " -h' for help and examples\n")
	}
	_, _ = io.WriteString(w, b.String())
}

// PrintInterrupted says what stands after an interrupt, and how to go on.
func PrintInterrupted(w io.Writer, stands, resume string) {
	_, _ = io.WriteString(w, "interrupted: "+stands+"; to go on: "+Escape(resume)+"\n")
}

func paragraph(b *strings.Builder, label, text string) {
	ls := lines(text)
	if len(ls) == 0 {
		ls = []string{"(no message)"}
	}
	b.WriteString(label + ls[0] + "\n")
	for _, line := range ls[1:] {
		b.WriteString("  " + line + "\n")
	}
}

// Interrupted is the key of a command's annotation that says what stands when it is interrupted: "what was applied stays
// on the cluster". Where a command has none, it ends without a word.
const Interrupted = "mlflow.kubectl/interrupted"
