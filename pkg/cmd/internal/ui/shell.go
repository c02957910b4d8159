package ui

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Next is a command line to type after c: the words, and the flags with which c was told the cluster and the namespace.
func Next(c *cobra.Command, words ...string) string {
	line := append([]string{c.Root().DisplayName()}, words...)
	choosing := []string{"kubeconfig", "context", "cluster", "user", "server", "namespace"}
	c.Flags().Visit(func(f *pflag.Flag) {
		if !slices.Contains(choosing, f.Name) {
			return
		}
		name := "--" + f.Name
		if f.Name == "namespace" {
			name = "-n"
		}
		line = append(line, name, Quote(f.Value.String()))
	})
	return strings.Join(line, " ")
}

// Quote writes a word for a POSIX shell. It leaves it as it is where no shell would read it otherwise.
func Quote(word string) string {
	plain := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-_=+:,./@%", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
