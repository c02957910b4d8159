// Package upgrade is the verb that brings MLflow to another version.
package upgrade

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/manifests"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/args"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/parameters"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/trackingserver"
)

// Flags is what the user typed.
type Flags struct {
	Backup  bool
	Timeout time.Duration
	Output  string
}

// NewCommand makes the command.
func NewCommand(getter trackingserver.Getter, streams genericiooptions.IOStreams, talk *ui.Progress) *cobra.Command {
	flags := Flags{Timeout: 30 * time.Minute}
	command := &cobra.Command{
		Use:   "upgrade",
		Short: "Bring MLflow to this program's version, or to that of --image",
		Long: `Bring MLflow to the version that this program comes with, or to that of --image.

MLflow is away meanwhile: the server is stopped, the database is backed up where --backup says so,
its schema is migrated, and the new server is started. If the migration fails the old server's
Deployment is as it was, stopped, and the error says how to go on and how to go back. A schema does
not go back to an older version: a backup does.

Other parameters may be changed on the way, as with install.`,
		Example: `  # To the version of this program, with a backup first
  kubectl mlflow upgrade --backup

  # To a certain version
  kubectl mlflow upgrade --image ghcr.io/mlflow/mlflow:v3.17.2-full`,
		Args:        args.Exactly(),
		Annotations: map[string]string{ui.Interrupted: "the server may be stopped until the upgrade is complete"},
	}
	typed := parameters.Add(command.Flags())
	applying := parameters.AddApply(command.Flags())
	command.RunE = func(c *cobra.Command, _ []string) error {
		p, notes, err := typed.Parameters(c.Flag("namespace").Value.String())
		if err := errors.Join(err, ui.CheckObjectFormat(flags.Output), args.Positive("--timeout", flags.Timeout)); err != nil {
			return err
		}
		how, err := applying.Options(streams.In, func(line string) { talk.Say("%s", line) })
		if err != nil {
			return err
		}
		for _, note := range notes {
			talk.Say("%s", note)
		}
		o := &Options{Flags: flags, Parameters: p, How: how, Upgrader: trackingserver.New(getter, manifests.FS, talk), Streams: streams, Talk: talk}
		return o.Run(c.Context())
	}
	command.Flags().BoolVar(&flags.Backup, "backup", flags.Backup, "Back up the database first, while nothing writes to it")
	command.Flags().StringVarP(&flags.Output, "output", "o", flags.Output, "Print the objects as they are then: "+ui.ObjectFormats)
	command.Flags().DurationVar(&flags.Timeout, "timeout", flags.Timeout, "How long all of it may take")
	return command
}

// Upgrader is the part of trackingserver.Client that this verb needs.
type Upgrader interface {
	Upgrade(ctx context.Context, p trackingserver.Parameters, backup bool, o trackingserver.Options) ([]trackingserver.Change, error)
}

// Options is what the verb needs.
type Options struct {
	Flags
	Upgrader   Upgrader
	Parameters trackingserver.Parameters
	How        trackingserver.Options
	Streams    genericiooptions.IOStreams
	Talk       *ui.Progress
}

// Run upgrades. What was done is printed also where it fails: it stays on the cluster.
func (o *Options) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	changes, err := o.Upgrader.Upgrade(ctx, o.Parameters, o.Backup, o.How)
	if err = errors.Join(err, ui.PrintChanges(o.Streams.Out, o.Output, "", changes)); err != nil {
		return err
	}
	o.Talk.Say("MLflow is upgraded and answers.")
	return nil
}
