// Package backup is the verb that makes backups of MLflow's database and lists them.
package backup

import (
	"context"
	"errors"
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
	List    bool
	Output  string
	Timeout time.Duration
}

// NewCommand makes the command.
func NewCommand(getter trackingserver.Getter, streams genericiooptions.IOStreams, talk *ui.Progress) *cobra.Command {
	flags := Flags{Timeout: 30 * time.Minute}
	command := &cobra.Command{
		Use:   "backup",
		Short: "Back up MLflow's database now, or list the backups",
		Long: `Back up MLflow's database now, wait for it, and print the backup's name. MLflow goes on answering
meanwhile. It is the backup that a schedule would make: a Job of the CronJob mlflow-backup, with the
users of basic-auth in it where there are some. Artifacts are not in it.

Backups are there where MLflow is installed with --backup-schedule, which may be manual. They are on a
volume of their own, or where --backup-destination says; the oldest go, as --backup-keep says.`,
		Example: `  kubectl mlflow backup

  # Those that there are
  kubectl mlflow backup --list

  # Let there be backups, at two in the night and whenever you say
  kubectl mlflow install --backup-schedule '0 2 * * *'`,
		Args:        args.Exactly(),
		Annotations: map[string]string{ui.Interrupted: "a backup that has begun goes on without you"},
		RunE: func(c *cobra.Command, _ []string) error {
			if err := flags.check(); err != nil {
				return err
			}
			o := &Options{Flags: flags, Keeper: trackingserver.New(getter, manifests.FS, talk), Streams: streams, Talk: talk, Make: ui.Next(c, "backup")}
			return o.Run(c.Context())
		},
	}
	command.Flags().BoolVar(&flags.List, "list", flags.List, "List the backups and make none")
	command.Flags().StringVarP(&flags.Output, "output", "o", flags.Output, "Format of the list: "+ui.Formats)
	command.Flags().DurationVar(&flags.Timeout, "timeout", flags.Timeout, "How long it may take")
	return command
}

// check needs no network.
func (f *Flags) check() error {
	var output error
	if f.Output != "" && !f.List {
		output = &failure.Error{Class: failure.Invalid, Reason: "UnknownOutput", Object: "--output",
			Message: "only a list has a format: a new backup is its name", Hint: "leave it out, or give --list too"}
	}
	return errors.Join(output, ui.CheckFormat(f.Output), args.Positive("--timeout", f.Timeout))
}

// Keeper is the part of trackingserver.Client that this verb needs.
type Keeper interface {
	Backup(ctx context.Context) (string, error)
	Backups(ctx context.Context) ([]trackingserver.Backup, error)
}

// Options is what the verb needs.
type Options struct {
	Flags
	Keeper  Keeper
	Streams genericiooptions.IOStreams
	Talk    *ui.Progress
	Make    string // command line that makes a backup
}

// Run backs up, or lists.
func (o *Options) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	if o.List {
		return o.list(ctx)
	}
	name, err := o.Keeper.Backup(ctx)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(o.Streams.Out, ui.Escape(name))
	return err
}

func (o *Options) list(ctx context.Context) error {
	found, err := o.Keeper.Backups(ctx)
	if err != nil {
		return err
	}
	if len(found) == 0 && o.Output == "" {
		o.Talk.Say("There are no backups yet. To make one: %s", o.Make)
		return nil
	}
	var items struct {
		Items []trackingserver.Backup `json:"items"`
	}
	items.Items = append([]trackingserver.Backup{}, found...)
	rows := make([][]string, 0, len(found))
	for _, b := range found {
		rows = append(rows, []string{b.Name, b.Time.Format(time.RFC3339), ui.Size(b.Size)})
	}
	return ui.Print(o.Streams.Out, o.Output, items, ui.Table([]string{"NAME", "BEGUN", "SIZE"}, rows))
}
