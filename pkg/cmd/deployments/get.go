package deployments

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/args"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/deployments"
)

func newGet(g Group) *cobra.Command {
	spelled, output := mlflowFlags{}, ""
	command := &cobra.Command{
		Use:   "get NAME",
		Short: "Show one deployed model",
		Example: `  kubectl mlflow deployments get iris
  kubectl mlflow deployments get iris -o json`,
		Args: args.AtMost(1),
		RunE: func(c *cobra.Command, typed []string) error {
			if err := ui.CheckFormat(output); err != nil {
				return err
			}
			typed, err := words(typed, []string{"NAME"}, spelled.Name)
			if err != nil {
				return err
			}
			if err := g.use(c, spelled); err != nil {
				return err
			}
			return get(c.Context(), deployments.New(g.Getter, g.Talk), typed[0], output, g.Streams)
		},
	}
	spelled.target(command)
	command.Flags().StringVarP(&output, "output", "o", output, "Output format: "+ui.Formats)
	return command
}

// getter is the part of deployments.Client that get needs.
type getter interface {
	Get(ctx context.Context, namespace, name string) (*deployments.Deployment, error)
}

func get(ctx context.Context, client getter, name, output string, streams genericiooptions.IOStreams) error {
	d, err := client.Get(ctx, "", name)
	if err != nil {
		return err
	}
	return ui.Print(streams.Out, output, d, ui.Table([]string{"NAMESPACE", "NAME", "MODEL", "RUN", "READY", "TRAFFIC", "GENERATION", "AGE", "URL", "IMAGE"},
		[][]string{{
			d.Namespace, d.Name, d.ModelURI, d.RunID, ui.Ready(d.Ready, d.Reason), split(*d), strconv.FormatInt(d.Generation, 10),
			ui.Age(d.Created), d.URL, d.Image,
		}}))
}
