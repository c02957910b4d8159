// Command gendocs writes the reference of all commands as Markdown into the folder named, one page each:
//
//	go run ./hack/gendocs docs/reference
//
// What a page says is what --help says: there is no other source.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: gendocs FOLDER")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "gendocs:", err)
		os.Exit(1)
	}
}

func run(folder string) error {
	// The default of --cache-dir holds the home of whoever runs this.
	if err := os.Unsetenv("KUBECACHEDIR"); err != nil {
		return err
	}
	if err := os.Setenv("HOME", "$HOME"); err != nil {
		return err
	}
	root := cmd.NewCommand(genericiooptions.NewTestIOStreamsDiscard())
	if err := os.MkdirAll(folder, 0o750); err != nil {
		return err
	}
	for name, page := range pages(root) {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(page), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// pages are all pages by file name.
func pages(root *cobra.Command) map[string]string {
	out := map[string]string{}
	var index strings.Builder
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			if !sub.IsAvailableCommand() {
				continue
			}
			out[fileName(sub)] = page(sub)
			fmt.Fprintf(&index, "| [%s](%s) | %s |\n", sub.CommandPath(), fileName(sub), sub.Short)
			walk(sub)
		}
	}
	walk(root)
	var b strings.Builder
	b.WriteString(mark)
	fmt.Fprintf(&b, "# %s\n\n%s\n\n", root.CommandPath(), root.Long)
	fence(&b, root.Example)
	b.WriteString("## Commands\n\n| command | what it does |\n|---|---|\n" + index.String() + "\n")
	b.WriteString("## Global flags\n\nAll commands take the flags that kubectl has for choosing a cluster. They stand after `kubectl mlflow`.\n\n")
	table(&b, root.PersistentFlags())
	b.WriteString("[Exit codes](../exit-codes.md)\n")
	out["kubectl-mlflow.md"] = b.String()
	return out
}

const mark = "<!-- Written by `make generate` from what --help says. -->\n\n"

// fileName is install.md, deployments_list.md.
func fileName(c *cobra.Command) string {
	path := strings.TrimPrefix(c.CommandPath(), c.Root().CommandPath()+" ")
	return strings.ReplaceAll(path, " ", "_") + ".md"
}

func page(c *cobra.Command) string {
	var b strings.Builder
	text := c.Long
	if text == "" {
		text = c.Short + "."
	}
	fmt.Fprintf(&b, "%s# %s\n\n%s\n\n", mark, c.CommandPath(), text)
	c.InheritedFlags() // merges them: a usage line names flags that there are
	fence(&b, c.UseLine())
	if c.Example != "" {
		b.WriteString("## Examples\n\n")
		fence(&b, c.Example)
	}
	if c.HasAvailableSubCommands() {
		b.WriteString("## Commands\n\n| command | what it does |\n|---|---|\n")
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() {
				fmt.Fprintf(&b, "| [%s](%s) | %s |\n", sub.CommandPath(), fileName(sub), sub.Short)
			}
		}
		b.WriteString("\n")
	}
	if c.HasAvailableLocalFlags() {
		b.WriteString("## Flags\n\n")
		table(&b, c.LocalNonPersistentFlags())
	}
	b.WriteString("Besides these it takes the [global flags](kubectl-mlflow.md#global-flags).\n")
	return b.String()
}

func table(b *strings.Builder, flags *pflag.FlagSet) {
	b.WriteString("| flag | default | meaning |\n|---|---|---|\n")
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		name := "`--" + f.Name + "`"
		if f.Shorthand != "" {
			name = "`-" + f.Shorthand + "`, " + name
		}
		value := f.DefValue
		switch value {
		case "", "[]", "false":
			value = ""
		default:
			value = "`" + value + "`"
		}
		fmt.Fprintf(b, "| %s | %s | %s |\n", name, value, strings.ReplaceAll(f.Usage, "|", `\|`))
	})
	b.WriteString("\n")
}

// fence sets text off as shell, without the indentation that --help gives it.
func fence(b *strings.Builder, text string) {
	b.WriteString("```sh\n")
	for line := range strings.SplitSeq(strings.Trim(text, "\n"), "\n") {
		b.WriteString(strings.TrimPrefix(line, "  ") + "\n")
	}
	b.WriteString("```\n\n")
}
