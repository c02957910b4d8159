// Package restore is the verb that gives MLflow's database what a backup holds.
package restore

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/manifests"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/args"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/trackingserver"
)

// Flags is what the user typed.
type Flags struct {
	FromFile string
	Replace  bool
	NoBackup bool
	Timeout  time.Duration
}

// NewCommand makes the command.
func NewCommand(getter trackingserver.Getter, streams genericiooptions.IOStreams, talk *ui.Progress) *cobra.Command {
	flags := Flags{Timeout: 2 * time.Hour}
	command := &cobra.Command{
		Use:   "restore (BACKUP | --from-file=FILE)",
		Short: "Give MLflow's database what a backup or a dump holds",
		Long: `Give MLflow's database what a backup holds, or the newest of them: latest.

First it is looked whether the backup is whole and of a schema that this MLflow knows, and whether the
database holds something: then --replace has to say that it may go. MLflow is away from then on: the
server is stopped, what the database holds is backed up, the backup is restored, all or nothing, its
schema is brought to MLflow's, and the server is started. If it is interrupted, the same command goes on.
The name of the restored backup is printed.

--from-file is the way for the data of another MLflow: a file that pg_dump --format=custom wrote. It
becomes a backup, while MLflow still answers, and is restored then. Users of basic-auth stay those that
there are. Artifacts are not in a backup: they have to be where the runs say.`,
		Example: `  # The newest backup, in place of what the database holds now
  kubectl mlflow restore latest --replace

  # One of those that kubectl mlflow backup --list names
  kubectl mlflow restore mlflow-20261126T020000Z --replace

  # The data of another MLflow, into a new one
  pg_dump --format=custom --file=mlflow.dump mlflowdb
  kubectl mlflow install --namespace new --backup-schedule manual
  kubectl mlflow restore --namespace new --from-file mlflow.dump`,
		Args:        args.AtMost(1),
		Annotations: map[string]string{ui.Interrupted: "the server may be stopped until the restore is complete; what the database held is in a backup"},
		RunE: func(c *cobra.Command, words []string) error {
			r, err := flags.restoration(c.Context(), words)
			if err != nil {
				return err
			}
			o := &Options{
				Flags: flags, Restoration: r, Restorer: trackingserver.New(getter, manifests.FS, talk), Streams: streams, Talk: talk,
			}
			return o.Run(c.Context())
		},
	}
	command.Flags().StringVar(&flags.FromFile, "from-file", flags.FromFile, "File that pg_dump --format=custom wrote of a database of MLflow's")
	command.Flags().BoolVar(&flags.Replace, "replace", flags.Replace, "Replace what the database holds")
	command.Flags().BoolVar(&flags.NoBackup, "no-backup", flags.NoBackup, "Do not back up first what is replaced: it is lost then")
	command.Flags().DurationVar(&flags.Timeout, "timeout", flags.Timeout, "How long all of it may take")
	return command
}

// restoration needs no network.
func (f *Flags) restoration(ctx context.Context, words []string) (trackingserver.Restoration, error) {
	r := trackingserver.Restoration{Replace: f.Replace, NoBackup: f.NoBackup}
	if err := args.Positive("--timeout", f.Timeout); err != nil {
		return r, err
	}
	switch {
	case len(words) > 0 && f.FromFile != "":
		return r, which("a backup and --from-file are given", "leave one of them out")
	case len(words) > 0:
		r.Backup = words[0]
		return r, trackingserver.CheckBackupName(r.Backup)
	case f.FromFile == "":
		return r, which("neither a backup nor --from-file is given", "name one of those of kubectl mlflow backup --list, or say latest")
	}
	var err error
	r.Dump, err = openDump(ctx, f.FromFile)
	return r, err
}

func which(message, hint string) error {
	return &failure.Error{Class: failure.Invalid, Reason: "WhatToRestore", Message: message, Hint: hint}
}

// Restorer is the part of trackingserver.Client that this verb needs.
type Restorer interface {
	Restore(ctx context.Context, r trackingserver.Restoration, o trackingserver.Options) (trackingserver.Restored, error)
}

// Options is what the verb needs.
type Options struct {
	Flags
	Restoration trackingserver.Restoration
	Restorer    Restorer
	Streams     genericiooptions.IOStreams
	Talk        *ui.Progress
}

// Run restores. Where what there was is kept is said before, too: whatever happens from there on, it can be found.
func (o *Options) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	restored, err := o.Restorer.Restore(ctx, o.Restoration, trackingserver.Options{Say: func(line string) { o.Talk.Say("%s", line) }})
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(o.Streams.Out, ui.Escape(restored.Backup)); err != nil {
		return err
	}
	if restored.Before == "" {
		o.Talk.Say("MLflow is restored and answers.")
		return nil
	}
	o.Talk.Say("MLflow is restored and answers. The way back: kubectl mlflow restore %s --replace", restored.Before)
	return nil
}
