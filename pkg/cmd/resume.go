package cmd

import (
	"strings"

	"github.com/spf13/cobra"
)

// resume is the command line to type to go on, quoted for a POSIX shell. What the user typed as a credential is left out.
func resume(c *cobra.Command, args []string) string {
	words := []string{c.Root().DisplayName()}
	secret := false
	for _, arg := range args {
		name, _, inline := strings.Cut(arg, "=")
		switch {
		case secret:
			arg, secret = "...", false
		case name == "--token" || name == "--password":
			secret = !inline
			arg = name
			if inline {
				arg += "=..."
			}
		}
		words = append(words, quote(arg))
	}
	return strings.Join(words, " ")
}

// quote leaves a word as it is where no shell would read it otherwise.
func quote(word string) string {
	plain := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-_=+:,./@%", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
