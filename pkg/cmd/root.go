// Package cmd is the command line: it makes the commands, runs one, and turns its failure into text and an exit code.
package cmd

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/rest"

	// Kubeconfigs may name any of the credential plugins that kubectl knows.
	_ "k8s.io/client-go/plugin/pkg/client/auth"

	files "github.com/kubectl-mlflow/kubectl-mlflow/manifests"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/backup"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/build"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/check"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/completion"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/deploy"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/deployments"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/diff"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/export"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/gcp"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/install"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/complete"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/kubeconfig"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/logs"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/manifests"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/portforward"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/predict"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/registry"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/restore"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/status"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/traffic"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/uninstall"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/upgrade"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/version"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/wait"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/trackingserver"
)

// Main runs one command line, without the program's name, and returns the exit code. It prints all that is printed about
// a failure. release is the program's version, "" where it was built without one.
func Main(ctx context.Context, release string, args []string, streams genericiooptions.IOStreams) int {
	config := kubeconfig.New()
	talk := ui.NewProgress(streams.ErrOut)
	root := newCommand(config, release, streams, talk)
	root.SetArgs(args)
	if len(args) > 0 && strings.HasPrefix(args[0], cobra.ShellCompRequestCmd) {
		complete.New(config, os.Getenv).Register(root) // which merges the flags of all commands: a tenth of the time that a start takes
	}
	command, err := root.ExecuteContextC(ctx)
	talk.Close()
	return report(ctx, outcome{command: command, args: args, err: err}, streams.ErrOut)
}

// NewCommand is the tree of all commands, for those who print its documentation.
func NewCommand(streams genericiooptions.IOStreams) *cobra.Command {
	return newCommand(kubeconfig.New(), "", streams, ui.NewProgress(streams.ErrOut))
}

func newCommand(config *kubeconfig.Flags, release string, streams genericiooptions.IOStreams, talk *ui.Progress) *cobra.Command {
	warnings := ui.NewWarnings(talk)
	config.Wrap = func(c *rest.Config) *rest.Config {
		c.UserAgent = rest.DefaultKubernetesUserAgent()
		c.WarningHandlerWithContext = warnings
		return c
	}

	root := &cobra.Command{
		Use:   "kubectl-mlflow",
		Short: "Run MLflow on Kubernetes and its models on Knative",
		Long: `Run MLflow on Kubernetes and its models on Knative.

install puts an MLflow tracking server with its database and its artifact store on the
cluster. deploy makes an image of a model version and a Knative Service of the image.`,
		Example: `  # MLflow on the cluster of the current context, and its web page on http://127.0.0.1:5000
  kubectl mlflow install
  kubectl mlflow port-forward

  # Version 3 of the registered model iris, as a URL
  kubectl mlflow deploy iris models:/iris/3 --image-repository registry.example.com/models/iris
  kubectl mlflow predict iris --input '{"inputs": [[5.1, 3.5, 1.4, 0.2]]}'`,
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl mlflow"},
		Args:          cobra.ArbitraryArgs,
		RunE:          helpOrUnknown,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.ErrOut)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return &usageError{c, err} })
	root.SetHelpCommand(newHelp())
	config.AddFlags(root.PersistentFlags())
	addVerbosity(root, talk)

	root.AddGroup(&cobra.Group{ID: "server", Title: "MLflow on the cluster:"}, &cobra.Group{ID: "models", Title: "Models:"})
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("server",
		install.NewCommand(config, streams, talk),
		upgrade.NewCommand(config, streams, talk),
		diff.NewCommand(config, streams, talk),
		manifests.NewCommand(trackingserver.New(config, files.FS, talk), streams, talk),
		export.NewCommand(trackingserver.New(config, files.FS, talk), streams, talk),
		wait.NewCommand(config, talk),
		status.NewCommand(config, version.Of(release), streams, talk),
		logs.NewCommand(config, streams, talk),
		portforward.NewCommand(config, streams, talk),
		check.NewCommand(config, streams, talk, os.Getenv),
		backup.NewCommand(config, streams, talk),
		restore.NewCommand(config, streams, talk),
		uninstall.NewCommand(config, streams, talk),
		gcp.NewCommand(config, streams, talk, os.Getenv, helpOrUnknown),
	)
	add("models",
		deploy.NewCommand(config, streams, talk, os.Getenv),
		build.NewCommand(config, streams, talk, os.Getenv),
		predict.NewCommand(config, streams, talk, os.Getenv),
		traffic.NewCommand(config, streams, talk),
		traffic.NewRollbackCommand(config, streams, talk),
		deployments.NewCommand(deployments.Group{
			Getter: config, Streams: streams, Talk: talk, Getenv: os.Getenv, Context: config.UseContext,
		}, helpOrUnknown),
		registry.NewCommand(streams, talk, os.Getenv, helpOrUnknown),
	)
	add("",
		completion.NewCommand(streams, talk, os.Getenv, helpOrUnknown),
		version.NewCommand(release, streams),
	)
	argumentErrorsAreUsageErrors(root)
	return root
}

// helpOrUnknown is what a command does that has only subcommands: without words it prints its help, with words none of
// which is a subcommand it fails and says which ones are near.
func helpOrUnknown(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return c.Help()
	}
	message := fmt.Sprintf("unknown command %q", args[0])
	c.SuggestionsMinimumDistance = 2
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		message += fmt.Sprintf("; did you mean %s?", strings.Join(near, " or "))
	}
	return &usageError{c, fmt.Errorf("%s", message)}
}

// newHelp is cobra's help command, but one that fails where there is nothing to help with.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Help about any command",
		Args:  cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			target, rest, err := c.Root().Find(args)
			if err != nil {
				return &usageError{c.Root(), err}
			}
			if len(rest) > 0 {
				return helpOrUnknown(target, rest)
			}
			target.InitDefaultHelpFlag()
			return target.Help()
		},
	}
}

// argumentErrorsAreUsageErrors wraps the Args of c and of all commands below it.
func argumentErrorsAreUsageErrors(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return &usageError{c, err}
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		argumentErrorsAreUsageErrors(sub)
	}
}

// usageError is a command line that cannot be understood.
type usageError struct {
	command *cobra.Command
	err     error
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }
