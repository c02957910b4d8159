package deployments

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/args"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/deployments"
)

func newWait(getter deployments.Getter, talk *ui.Progress) *cobra.Command {
	timeout := deployments.DefaultTimeout
	command := &cobra.Command{
		Use:   "wait NAME",
		Short: "Wait until a deployed model is ready, or say why it will not be",
		Long: `Wait until the newest version of a deployed model is ready to serve, with pods or scaled to zero. Where
waiting will not help it ends early and says why, long before Knative does.`,
		Example: `  kubectl mlflow deployments wait iris --timeout 2m`,
		Args:    args.Exactly("NAME"),
		RunE: func(c *cobra.Command, words []string) error {
			if err := args.Positive("--timeout", timeout); err != nil {
				return err
			}
			namespace, _, err := getter.ToRawKubeConfigLoader().Namespace()
			if err != nil {
				return fmt.Errorf("reading the kubeconfig: %w", err)
			}
			return wait(c.Context(), deployments.New(getter, talk), namespace, words[0], timeout, talk)
		},
	}
	command.Flags().DurationVar(&timeout, "timeout", timeout, "How long to wait")
	return command
}

// waiter is the part of deployments.Client that this verb needs.
type waiter interface {
	Wait(ctx context.Context, namespace, name string) error
}

func wait(ctx context.Context, on waiter, namespace, name string, timeout time.Duration, talk *ui.Progress) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := on.Wait(ctx, namespace, name); err != nil {
		return err
	}
	talk.Say("%s is ready.", name)
	return nil
}
