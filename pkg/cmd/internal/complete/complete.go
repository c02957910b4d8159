// Package complete answers the TAB key: it says of each argument and flag what may stand there. What it cannot learn in a moment, it leaves out.
package complete

import (
	"context"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/deployments"
)

// patience is how long a user who has pressed TAB is kept waiting.
const patience = 3 * time.Second

// Completer knows where to ask.
type Completer struct {
	getter deployments.Getter
	getenv func(string) string
}

// New makes a Completer that asks the cluster of getter. getenv is os.Getenv.
func New(getter deployments.Getter, getenv func(string) string) *Completer {
	return &Completer{silent{getter}, getenv}
}

// silent makes clients that say nothing on the terminal and ask nothing there: the user is in the middle of a line.
type silent struct{ deployments.Getter }

func (s silent) ToRESTConfig() (*rest.Config, error) {
	config, err := s.Getter.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	config.WarningHandler, config.WarningHandlerWithContext = rest.NoWarnings{}, nil
	config.Timeout = patience
	if config.ExecProvider != nil {
		provider := *config.ExecProvider
		provider.StdinUnavailable, provider.StdinUnavailableMessage = true, "the line is being completed"
		config.ExecProvider = &provider
	}
	return config, nil
}

// values names what may stand at a place where typed stands, in the order to show it in.
type values func(ctx context.Context, c *cobra.Command, typed string) []string

// Register teaches all commands of root. A place of which nothing is known gets no file names, unless it is one for files.
func (k *Completer) Register(root *cobra.Command) {
	flags := k.flags()
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		k.arguments(c)
		c.LocalFlags().VisitAll(func(f *pflag.Flag) { register(c, f, flags[f.Name]) })
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
}

// register binds a flag to its values. One that takes no word (a switch) is never asked for.
func register(c *cobra.Command, f *pflag.Flag, v values) {
	if isPath(f.Name) || f.NoOptDefVal != "" {
		return
	}
	complete := cobra.NoFileCompletions
	if v != nil {
		complete = func(c *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return answer(c, v, typed), cobra.ShellCompDirectiveNoFileComp
		}
	}
	// The one error is that of a flag that has values already: those of who made the command stay.
	_ = c.RegisterFlagCompletionFunc(f.Name, complete)
}

// arguments binds the words after c to their values.
func (k *Completer) arguments(c *cobra.Command) {
	if c.ValidArgs != nil || c.ValidArgsFunction != nil || c.HasSubCommands() {
		return
	}
	path := strings.TrimPrefix(c.CommandPath(), c.Root().CommandPath()+" ")
	if slices.Contains([]string{"export", "port-forward"}, path) { // a directory, and a command line
		return
	}
	positions := k.positions(path)
	c.ValidArgsFunction = func(c *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) >= len(positions) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return positions[len(args)](c, typed)
	}
}

// answer asks for values for a moment, and leaves out what is not what was typed, and what a shell would not take for a word.
func answer(c *cobra.Command, v values, typed string) []cobra.Completion {
	ctx, cancel := context.WithTimeout(c.Context(), patience)
	defer cancel()
	return slices.DeleteFunc(v(ctx, c, typed), func(s string) bool { return !strings.HasPrefix(s, typed) || strings.ContainsFunc(s, unsafe) })
}

// unsafe tells what means something to a shell or to a terminal. The words come from servers.
func unsafe(r rune) bool {
	return r == ' ' || !unicode.IsPrint(r) || strings.ContainsRune("\"'`$\\;&|<>()*?!#", r)
}
