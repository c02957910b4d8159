package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestWhatTheDocsSayIsShownIs holds the tables of the docs whose last column is "shown by" to tests and stories that there are.
func TestWhatTheDocsSayIsShownIs(t *testing.T) {
	root := filepath.Join("..", "..")
	known := proofs(t, root)
	named := regexp.MustCompile("(story |golden )?`([^`]+)`")
	for page, least := range map[string]int{"docs/guide.md": 10, "docs/gcp.md": 10, "docs/moving-from-mlflow-knative.md": 10, "CONTRIBUTING.md": 3} {
		text, err := os.ReadFile(filepath.Join(root, page)) //nolint:gosec // of this repository
		if err != nil {
			t.Fatal(err)
		}
		rows, inTable := 0, false
		for line := range strings.Lines(string(text)) {
			cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
			last := strings.TrimSpace(cells[len(cells)-1])
			switch {
			case !strings.HasPrefix(line, "|"):
				inTable = false
			case last == "shown by":
				inTable = true
			case inTable && !strings.HasPrefix(line, "|---"):
				rows++
				proof := named.FindAllStringSubmatch(last, -1)
				if len(proof) == 0 {
					t.Errorf("%s: nothing shows %s", page, cells[0])
				}
				for _, p := range proof {
					if !known[p[1]+p[2]] {
						t.Errorf("%s: %s is shown by %s%s, which does not exist", page, cells[0], p[1], p[2])
					}
				}
			}
		}
		if rows < least {
			t.Errorf("%s: %d rows were found: is the table still there?", page, rows)
		}
	}
}

// proofs are the names of all tests, of all stories as "story NAME", and of all golden files as "golden NAME".
func proofs(t *testing.T, root string) map[string]bool {
	t.Helper()
	known := map[string]bool{}
	test := regexp.MustCompile(`(?m)^(?:func (Test\w+)|def (test_\w+))\(`)
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		name := entry.Name()
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (name == ".git" || name == "bin"):
			return filepath.SkipDir
		case strings.HasSuffix(name, "_test.go"), strings.HasPrefix(name, "test_") && strings.HasSuffix(name, ".py"):
			text, err := os.ReadFile(path) //nolint:gosec // of this repository
			if err != nil {
				return err
			}
			for _, found := range test.FindAllStringSubmatch(string(text), -1) {
				known[found[1]+found[2]] = true
			}
		case strings.HasSuffix(name, ".txtar"):
			known["story "+strings.TrimSuffix(name, ".txtar")] = true
		case strings.Contains(path, "testdata"):
			known["golden "+name] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return known
}
