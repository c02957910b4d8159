package deployments

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/args"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/logflags"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/deployments"
)

// logger is the part of deployments.Client that this verb needs.
type logger interface {
	Logs(ctx context.Context, namespace, name string, o deployments.LogOptions, show func(deployments.LogLine) error) error
}

func newLogs(getter deployments.Getter, streams genericiooptions.IOStreams, talk *ui.Progress) *cobra.Command {
	all := false
	command := &cobra.Command{
		Use:   "logs NAME",
		Short: "Print the logs of a deployed model",
		Long: `Print what the pods of a deployed model have written, in the order of time, each line after the revision
and the pod that it comes from. With --follow it goes on with what they write, over restarts and with
the pods that come.`,
		Example: `  kubectl mlflow deployments logs iris --follow

  # Why it was started again
  kubectl mlflow deployments logs iris --previous`,
		Args: args.Exactly("NAME"),
	}
	typed := logflags.Add(command.Flags())
	command.Flags().BoolVar(&all, "all-containers", all, "Those that Knative adds, too")
	command.RunE = func(c *cobra.Command, words []string) error {
		if err := typed.Check(); err != nil {
			return err
		}
		namespace, _, err := getter.ToRawKubeConfigLoader().Namespace()
		if err != nil {
			return fmt.Errorf("reading the kubeconfig: %w", err)
		}
		o := deployments.LogOptions{AllContainers: all, Follow: typed.Follow, Previous: typed.Previous, Say: func(line string) { talk.Say("%s", line) }}
		o.Since, o.Tail = typed.Begin(time.Now(), c.Flags().Changed("tail"))
		return logs(c.Context(), deployments.New(getter, talk), namespace, words[0], o, typed.Log(streams.Out))
	}
	return command
}

func logs(ctx context.Context, from logger, namespace, name string, o deployments.LogOptions, to *ui.Log) error {
	return from.Logs(ctx, namespace, name, o, func(l deployments.LogLine) error { return to.Line(l.Source, l.Revision, l.Time, l.Text) })
}
