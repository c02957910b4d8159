//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// page is README, or one of the tutorials.
type page struct {
	name   string
	blocks []block
	shell  int // blocks to be typed, however they are written
}

// block is what stands between two fences.
type block struct {
	language string
	line     int    // of its fence
	mark     string // what an HTML comment on the line before says
	lines    []string
}

func (l *lab) page(t *testing.T, name string) page {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(l.root, name))
	if err != nil {
		t.Fatal(err)
	}
	p := page{name: name, shell: len(regexp.MustCompile("(?m)^\\s*(```|~~~)\\s*(sh|shell|bash|console)\\b").FindAll(text, -1))}
	comment := regexp.MustCompile(`^<!-- (.*) -->$`)
	open, before := false, ""
	for i, line := range strings.Split(string(text), "\n") {
		language, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && !open:
			b := block{language: language, line: i + 1}
			if mark := comment.FindStringSubmatch(before); mark != nil {
				b.mark = mark[1]
			}
			p.blocks, open = append(p.blocks, b), true
		case fence:
			open = false
		case open:
			b := &p.blocks[len(p.blocks)-1]
			b.lines = append(b.lines, line)
		}
		before = line
	}
	if open {
		t.Fatalf("%s: the block of line %d has no end", name, p.blocks[len(p.blocks)-1].line)
	}
	return p
}

// pages are README and the tutorials, README first: the others stand on what it has shown.
func (l *lab) pages(t *testing.T) []page {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(l.root, "docs/*.md"))
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no docs: %v", err)
	}
	all := []page{l.page(t, "README.md")}
	for _, file := range files {
		all = append(all, l.page(t, filepath.Join("docs", filepath.Base(file))))
	}
	return all
}

func (b block) isShell() bool { return b.language == "sh" || b.language == "console" }

// typed are the lines that a person types. Where some of a console's have a prompt, the others are what is printed.
func (b block) typed() (typed, printed []string) {
	prompts := slices.ContainsFunc(b.lines, func(line string) bool { return strings.HasPrefix(line, "$ ") })
	if b.language != "console" || !prompts {
		return b.lines, nil
	}
	goesOn := false
	for _, line := range b.lines {
		command, prompted := strings.CutPrefix(line, "$ ")
		if !prompted && !goesOn {
			printed = append(printed, line)
			continue
		}
		typed, goesOn = append(typed, command), strings.HasSuffix(command, `\`)
	}
	return typed, printed
}

// typed are the lines of all of the page's blocks.
func (p page) typed() []string {
	var all []string
	for _, b := range p.blocks {
		if b.isShell() {
			typed, _ := b.typed()
			all = append(all, typed...)
		}
	}
	return all
}

// elsewhere are the marks of blocks that are not run as they stand, with what is run instead: a table of CONTRIBUTING.md.
func (l *lab) elsewhere(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(l.root, "CONTRIBUTING.md"))
	if err != nil {
		t.Fatal(err)
	}
	marks := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `<!-- (.*) -->` \\| .* \\| (.*) \\|$").FindAllStringSubmatch(string(text), -1) {
		marks[row[1]] = row[2]
	}
	if len(marks) == 0 {
		t.Fatal("CONTRIBUTING.md has no table of marks")
	}
	return marks
}
