package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd"
)

// TestTheDocsCommandsAreCommands parses what README and the docs tell people to type: commands, flags and arguments are those of the
// program. The end-to-end test TestDocs runs them.
func TestTheDocsCommandsAreCommands(t *testing.T) {
	for page, text := range pages(t) {
		blocks, spans := shellOf(text)
		for _, words := range commandsIn(blocks) {
			if err := parses(words, true); err != nil {
				t.Errorf("%s: kubectl mlflow %s: %v", page, strings.Join(words, " "), err)
			}
		}
		for _, words := range commandsIn(spans) {
			if err := parses(words, false); err != nil {
				t.Errorf("%s: kubectl mlflow %s: %v", page, strings.Join(words, " "), err)
			}
		}
	}
}

// TestMarksOfBlocksAreKnown holds the comments above the docs' blocks against the table of CONTRIBUTING.md, as TestDocs does a cluster later.
func TestMarksOfBlocksAreKnown(t *testing.T) {
	contributing, err := os.ReadFile("../../CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	mark := regexp.MustCompile("(?m)^(<!-- .* -->)\n```")
	known := regexp.MustCompile(`^<!-- (exits: \d+|file: [\w.-]+) -->$`)
	found := 0
	for page, text := range pages(t) {
		for _, comment := range mark.FindAllStringSubmatch(text, -1) {
			found++
			if !known.MatchString(comment[1]) && !strings.Contains(string(contributing), "\n| `"+comment[1]+"` |") {
				t.Errorf("%s: the mark %s is none of CONTRIBUTING.md's", page, comment[1])
			}
		}
	}
	if found == 0 {
		t.Error("no block has a mark: are they written in another way now?")
	}
}

// pages are the texts of README and the docs, by their names.
func pages(t *testing.T) map[string]string {
	t.Helper()
	paths, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(paths) == 0 {
		t.Fatalf("there are no docs: %v", err)
	}
	texts := map[string]string{}
	for _, path := range append(paths, "../../README.md") {
		text, err := os.ReadFile(path) //nolint:gosec // of this repository
		if err != nil {
			t.Fatal(err)
		}
		texts[filepath.Base(path)] = string(text)
	}
	return texts
}

func TestTheExamplesOfHelpAreCommands(t *testing.T) {
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		for _, words := range commandsIn(c.Example) {
			if err := parses(words, true); err != nil {
				t.Errorf("%s --help: kubectl mlflow %s: %v", c.CommandPath(), strings.Join(words, " "), err)
			}
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(tree())
}

func TestWhatIsNoCommandIsSeen(t *testing.T) {
	page := "```console\n$ A=1 kubectl mlflow deploy iris \\\n    models:/iris/3 --input '{\"a\": 1}' > out # why\nkubectl mlflow is what it prints\n```\n`kubectl mlflow wait`\n```yaml\nkubectl mlflow\n```\n"
	blocks, spans := shellOf(page)
	if got, want := commandsIn(blocks), [][]string{{"deploy", "iris", "models:/iris/3", "--input", `{"a": 1}`}}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("in the block: %q, want %q", got, want)
	}
	if got := commandsIn(spans); fmt.Sprint(got) != "[[wait]]" {
		t.Errorf("in the text: %q, want wait", got)
	}
	for line, wrong := range map[string]bool{
		"install --overlay gcp": false, "isntall": true, "install --overlya gcp": true, "deployments lits": true, "deploy iris": true, "wait --timeout soon": true,
	} {
		if err := parses(strings.Fields(line), true); (err != nil) != wrong {
			t.Errorf("%s: %v, want an error: %t", line, err, wrong)
		}
	}
}

// shellOf are the commands of a page's console and sh blocks, and of those that do not say what they are, and what stands between backquotes outside of blocks.
// In a console block with prompts the other lines are what is printed.
func shellOf(page string) (blocks, spans string) {
	span := regexp.MustCompile("`([^`]+)`")
	var shell, text strings.Builder
	language, inBlock := "", false
	page = strings.ReplaceAll(page, "\\\n", " ")
	prompts := false
	for line := range strings.Lines(page) {
		fence, isFence := strings.CutPrefix(line, "```")
		command, prompted := strings.CutPrefix(line, "$ ")
		switch {
		case isFence:
			inBlock, language, prompts = !inBlock, strings.TrimSpace(fence), false
		case !inBlock:
			for _, found := range span.FindAllStringSubmatch(line, -1) {
				text.WriteString(strings.ReplaceAll(found[1], `\|`, "|") + "\n")
			}
		case !slices.Contains([]string{"console", "sh", ""}, language):
		case prompted || !prompts:
			prompts = prompts || prompted
			shell.WriteString(command)
		}
	}
	return shell.String(), text.String()
}

// commandsIn are the words after each "kubectl mlflow" of some lines of shell, to the end of that command. It knows quotes, pipes,
// redirections, comments and continued lines, and leaves out the dots of what is left out.
func commandsIn(shell string) [][]string {
	token := regexp.MustCompile(`(?:'[^']*'|"[^"]*"|[^\s'"|&;<>()])+|[|&;<>()]|\n`)
	quotes := strings.NewReplacer(`'`, "", `"`, "")
	var all [][]string
	comment := regexp.MustCompile(`(?m)(^|\s)#.*$`)
	words := token.FindAllString(comment.ReplaceAllString(strings.ReplaceAll(shell, "\\\n", " "), ""), -1)
	for i, word := range words {
		if word != "kubectl" || i+1 == len(words) || words[i+1] != "mlflow" {
			continue
		}
		command := words[i+2:]
		if end := slices.IndexFunc(command, func(w string) bool { return strings.Contains("|&;<>()\n", w) }); end >= 0 {
			command = command[:end]
		}
		var plain []string
		for _, w := range command {
			switch {
			case w == "…" || w == "...":
			case strings.HasPrefix(w, "'"):
				plain = append(plain, strings.Trim(w, "'"))
			default:
				plain = append(plain, quotes.Replace(w))
			}
		}
		all = append(all, plain)
	}
	return all
}

// parses holds a command line against the real commands; whole, its arguments too.
func parses(words []string, whole bool) error {
	c, rest, err := tree().Find(words)
	if err != nil {
		return err
	}
	c.InitDefaultHelpFlag()
	if err := c.ParseFlags(rest); err != nil {
		return err
	}
	if arguments := c.Flags().Args(); c.HasSubCommands() && len(arguments) > 0 {
		return errors.New("there is no command " + arguments[0])
	}
	if !whole {
		return nil
	}
	return c.ValidateArgs(c.Flags().Args())
}

// tree is new for each command line: flags keep what was parsed.
func tree() *cobra.Command { return cmd.NewCommand(genericiooptions.NewTestIOStreamsDiscard()) }
