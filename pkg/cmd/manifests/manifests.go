// Package manifests is the verb that prints what install applies.
package manifests

import (
	"errors"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/args"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/parameters"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/trackingserver"
)

// Renderer is the part of trackingserver.Client that this verb needs.
type Renderer interface {
	Render(p trackingserver.Parameters) ([]*unstructured.Unstructured, error)
}

// NewCommand makes the command.
func NewCommand(renderer Renderer, streams genericiooptions.IOStreams, talk *ui.Progress) *cobra.Command {
	output := "yaml"
	command := &cobra.Command{
		Use:   "manifests",
		Short: "Print the manifests that install applies",
		Long: `Print the manifests that install applies for these flags. It needs no cluster, and so knows nothing of
what an earlier install recorded. The Secrets are not among them: install --secrets-only makes them.`,
		Example: `  kubectl mlflow manifests
  kubectl mlflow manifests --overlay gcp --artifacts-destination gs://my-bucket/mlflow | less`,
		Args: args.Exactly(),
	}
	typed := parameters.Add(command.Flags())
	command.RunE = func(c *cobra.Command, _ []string) error {
		p, notes, err := typed.Parameters(c.Flag("namespace").Value.String())
		if err := errors.Join(err, ui.CheckFormat(output)); err != nil {
			return err
		}
		for _, note := range notes {
			talk.Say("%s", note)
		}
		objs, err := renderer.Render(p)
		if err != nil {
			return err
		}
		return ui.PrintObjects(streams.Out, output, objs)
	}
	command.Flags().StringVarP(&output, "output", "o", output, "Output format: "+ui.Formats)
	return command
}
