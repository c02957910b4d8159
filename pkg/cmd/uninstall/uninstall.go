// Package uninstall is the verb that takes MLflow away.
package uninstall

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/manifests"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/args"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/trackingserver"
)

// Flags is what the user typed.
type Flags struct {
	DeleteData bool
	Timeout    time.Duration
}

// NewCommand makes the command.
func NewCommand(getter trackingserver.Getter, streams genericiooptions.IOStreams, talk *ui.Progress) *cobra.Command {
	flags := Flags{Timeout: 5 * time.Minute}
	command := &cobra.Command{
		Use:   "uninstall",
		Short: "Take MLflow off the cluster; its data stays unless --delete-data is given",
		Long: `Take MLflow off the cluster. Volumes and passwords stay: the next install finds all experiments and
models again. With --delete-data they are deleted too. What install did not make stays in any case.`,
		Example: `  kubectl mlflow uninstall

  # All experiments, models and artifacts too: there is no way back
  kubectl mlflow uninstall --delete-data`,
		Args:        args.Exactly(),
		Annotations: map[string]string{ui.Interrupted: "what is deleted stays deleted"},
		RunE: func(c *cobra.Command, _ []string) error {
			if err := args.Positive("--timeout", flags.Timeout); err != nil {
				return err
			}
			o := &Options{
				Flags: flags, Uninstaller: trackingserver.New(getter, manifests.FS, talk), Streams: streams, Talk: talk,
				Again: ui.Next(c, "install"), Delete: ui.Next(c, "uninstall", "--delete-data"),
			}
			return o.Run(c.Context())
		},
	}
	command.Flags().BoolVar(&flags.DeleteData, "delete-data", flags.DeleteData, "Delete the volumes and the passwords too")
	command.Flags().DurationVar(&flags.Timeout, "timeout", flags.Timeout, "How long it may take")
	return command
}

// Uninstaller is the part of trackingserver.Client that this verb needs.
type Uninstaller interface {
	Uninstall(ctx context.Context, deleteData bool) ([]trackingserver.Change, error)
}

// Options is what the verb needs.
type Options struct {
	Flags
	Uninstaller Uninstaller
	Streams     genericiooptions.IOStreams
	Talk        *ui.Progress
	Again       string // command line that brings MLflow back
	Delete      string // command line that deletes what was kept
}

// Run uninstalls.
func (o *Options) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	changes, err := o.Uninstaller.Uninstall(ctx, o.DeleteData)
	if err = errors.Join(err, ui.PrintChanges(o.Streams.Out, "", "", inWordsOfDeletion(changes))); err != nil {
		return err
	}
	if o.DeleteData {
		o.Talk.Say("MLflow and its data are gone.")
		return nil
	}
	o.Talk.Say("MLflow is gone; its data is kept.")
	o.Talk.Say("To bring it back: %s", o.Again)
	o.Talk.Say("To delete the data: %s", o.Delete)
	return nil
}

// inWordsOfDeletion says deleted, as kubectl does, where install says pruned.
func inWordsOfDeletion(changes []trackingserver.Change) []trackingserver.Change {
	said := slices.Clone(changes)
	for i := range said {
		if said[i].Action == "pruned" {
			said[i].Action = "deleted"
		}
	}
	return said
}
