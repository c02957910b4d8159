// Package gcp is the group of commands that prepare Google Cloud.
package gcp

import (
	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/trackingserver"
)

// NewCommand makes the group; group is what it does when no subcommand is named, getenv reads the guide's shell variables.
func NewCommand(getter trackingserver.Getter, streams genericiooptions.IOStreams, talk *ui.Progress, getenv func(string) string,
	group func(*cobra.Command, []string) error,
) *cobra.Command {
	command := &cobra.Command{
		Use:   "gcp",
		Short: "Prepare Google Cloud for MLflow",
		Args:  cobra.ArbitraryArgs,
		RunE:  group,
	}
	command.AddCommand(newSetup(getter, streams, talk, getenv))
	return command
}
