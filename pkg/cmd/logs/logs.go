// Package logs is the verb that prints what MLflow's containers write.
package logs

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/manifests"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/logflags"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/trackingserver"
)

// postgres is what the guide calls the component database.
const postgres = "postgres"

// NewCommand makes the command.
func NewCommand(getter trackingserver.Getter, streams genericiooptions.IOStreams, talk *ui.Progress) *cobra.Command {
	all := trackingserver.LogComponents()
	command := &cobra.Command{
		Use:   "logs [COMPONENT...]",
		Short: "Print the logs of MLflow, its database and its migration",
		Long: `Print what the containers of MLflow have written, in the order of time, each line after where it comes
from. With --follow it goes on with what they write, over restarts and with the pods that replace these,
and no line comes twice.

The components are ` + strings.Join(all[:4], ", ") + ` (all four unless some are named) and
those of the Jobs: ` + strings.Join(all[4:], ", ") + `. The last 100 lines of each container are
printed, unless --since or --tail says otherwise.`,
		Example: `  kubectl mlflow logs
  kubectl mlflow logs server --follow
  kubectl mlflow logs server database --since 10m

  # Why it was started again
  kubectl mlflow logs server --previous`,
		Args:      cobra.ArbitraryArgs,
		ValidArgs: all,
	}
	typed := logflags.Add(command.Flags())
	command.RunE = func(c *cobra.Command, words []string) error {
		o := trackingserver.LogOptions{Follow: typed.Follow, Previous: typed.Previous, Say: func(line string) { talk.Say("%s", line) }}
		for _, word := range words {
			if word == postgres {
				word = "database"
			}
			o.Components = append(o.Components, word)
		}
		if err := errors.Join(typed.Check(), trackingserver.CheckLogComponents(o.Components)); err != nil {
			return err
		}
		o.Since, o.Tail = typed.Begin(time.Now(), c.Flags().Changed("tail"))
		return run(c.Context(), trackingserver.New(getter, manifests.FS, talk), o, typed.Log(streams.Out))
	}
	return command
}

// logger is the part of trackingserver.Client that this verb needs.
type logger interface {
	Logs(ctx context.Context, o trackingserver.LogOptions, show func(trackingserver.LogLine) error) error
}

func run(ctx context.Context, from logger, o trackingserver.LogOptions, to *ui.Log) error {
	return from.Logs(ctx, o, func(l trackingserver.LogLine) error { return to.Line(l.Source, l.Component, l.Time, l.Text) })
}
