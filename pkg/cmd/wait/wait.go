// Package wait is the verb that returns when MLflow answers.
package wait

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/kubectl-mlflow/kubectl-mlflow/manifests"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/args"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/trackingserver"
)

// NewCommand makes the command.
func NewCommand(getter trackingserver.Getter, talk *ui.Progress) *cobra.Command {
	timeout := 10 * time.Minute
	command := &cobra.Command{
		Use:   "wait",
		Short: "Wait until MLflow answers, or say why it will not",
		Long: `Wait until the pods of MLflow and of its database are ready, and until MLflow answers a question
that only its database can answer. Where waiting will not help it ends early and says why.`,
		Example: `  kubectl mlflow wait --timeout 2m`,
		Args:    args.Exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := args.Positive("--timeout", timeout); err != nil {
				return err
			}
			o := &Options{Waiter: trackingserver.New(getter, manifests.FS, talk), Timeout: timeout, Talk: talk}
			return o.Run(c.Context())
		},
	}
	command.Flags().DurationVar(&timeout, "timeout", timeout, "How long to wait")
	return command
}

// Waiter is the part of trackingserver.Client that this verb needs.
type Waiter interface {
	Wait(ctx context.Context) error
}

// Options is what the verb needs.
type Options struct {
	Waiter  Waiter
	Timeout time.Duration
	Talk    *ui.Progress
}

// Run waits.
func (o *Options) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	if err := o.Waiter.Wait(ctx); err != nil {
		return err
	}
	o.Talk.Say("MLflow answers.")
	return nil
}
