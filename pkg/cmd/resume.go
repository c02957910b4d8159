package cmd

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
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
		words = append(words, ui.Quote(arg))
	}
	return strings.Join(words, " ")
}
