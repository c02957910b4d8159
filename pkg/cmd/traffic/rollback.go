package traffic

import (
	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/args"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/deployments"
)

// NewRollbackCommand makes the verb rollback.
func NewRollbackCommand(getter deployments.Getter, streams genericiooptions.IOStreams, talk *ui.Progress) *cobra.Command {
	o := Options{Rollback: true, Timeout: deployments.DefaultTimeout}
	command := &cobra.Command{
		Use:   "rollback NAME",
		Short: "Give the requests back to the version that had them before",
		Long: `Give the requests of a deployed model back to the version, or the versions, that had them before the
last deployment. Nothing is built, and no request is lost. A second rollback takes the first back.

Where the last deployment has no requests yet, they stay where they are, and its tag 'candidate' is
taken away; the next rollback is to the version before the one that serves.`,
		Example:     `  kubectl mlflow rollback iris`,
		Args:        args.Exactly("NAME"),
		Annotations: map[string]string{ui.Interrupted: "the gateway may still change over; see who gets the requests: kubectl mlflow traffic"},
		RunE: func(c *cobra.Command, typed []string) error {
			o.Name = typed[0]
			if err := o.check(); err != nil {
				return err
			}
			o.Client, o.Out = deployments.New(getter, talk), streams.Out
			return o.Run(c.Context())
		},
	}
	o.add(command)
	return command
}
