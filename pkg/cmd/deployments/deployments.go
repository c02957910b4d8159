// Package deployments is the group of commands that MLflow knows as `mlflow deployments`.
package deployments

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/args"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/deployments"
)

// Client is the part of deployments.Client that these verbs need.
type Client interface {
	List(ctx context.Context, namespace string) ([]deployments.Deployment, error)
	Delete(ctx context.Context, namespace, name string) error
}

// NewCommand makes the group; group is what it does when no subcommand is named.
func NewCommand(getter deployments.Getter, streams genericiooptions.IOStreams, talk *ui.Progress, group func(*cobra.Command, []string) error) *cobra.Command {
	command := &cobra.Command{
		Use:   "deployments",
		Short: "List, await and delete deployed models, and read their logs",
		Args:  cobra.ArbitraryArgs,
		RunE:  group,
	}
	command.AddCommand(newList(getter, streams, talk), newWait(getter, talk), newLogs(getter, streams, talk), newDelete(getter, streams, talk))
	return command
}

func newList(getter deployments.Getter, streams genericiooptions.IOStreams, talk *ui.Progress) *cobra.Command {
	var output string
	var all bool
	command := &cobra.Command{
		Use:   "list",
		Short: "List deployed models",
		Example: `  kubectl mlflow deployments list
  kubectl mlflow deployments list -A -o json`,
		Args: args.Exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := ui.CheckFormat(output); err != nil {
				return err
			}
			namespace := ""
			if !all {
				var err error
				if namespace, _, err = getter.ToRawKubeConfigLoader().Namespace(); err != nil {
					return fmt.Errorf("reading the kubeconfig: %w", err)
				}
			}
			return list(c.Context(), deployments.New(getter, talk), namespace, output, streams)
		},
	}
	command.Flags().BoolVarP(&all, "all-namespaces", "A", all, "List those of all namespaces")
	command.Flags().StringVarP(&output, "output", "o", output, "Output format: "+ui.Formats)
	return command
}

// list prints what is deployed in namespace, or everywhere where it is "".
func list(ctx context.Context, client Client, namespace, output string, streams genericiooptions.IOStreams) error {
	found, err := client.List(ctx, namespace)
	if err != nil {
		return err
	}
	if len(found) == 0 && output == "" {
		where := "in namespace " + namespace
		if namespace == "" {
			where = "in any namespace"
		}
		_, err := fmt.Fprintf(streams.ErrOut, "No deployed models %s.\n", ui.Escape(where))
		return err
	}
	var items struct {
		Items []deployments.Deployment `json:"items"`
	}
	items.Items = append([]deployments.Deployment{}, found...)
	return ui.Print(streams.Out, output, items, table(found, namespace == ""))
}

func table(found []deployments.Deployment, namespaces bool) string {
	header := []string{"NAME", "MODEL", "READY", "URL"}
	if namespaces {
		header = append([]string{"NAMESPACE"}, header...)
	}
	rows := make([][]string, 0, len(found))
	for _, d := range found {
		ready := "True"
		if !d.Ready {
			ready = strings.TrimSpace("False " + d.Reason)
		}
		row := []string{d.Name, d.ModelURI, ready, d.URL}
		if namespaces {
			row = append([]string{d.Namespace}, row...)
		}
		rows = append(rows, row)
	}
	return ui.Table(header, rows)
}

func newDelete(getter deployments.Getter, streams genericiooptions.IOStreams, talk *ui.Progress) *cobra.Command {
	return &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete a deployed model",
		Long:  "Delete a deployed model. Its images stay in their repository, and the model stays in MLflow.",
		Args:  args.Exactly("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			namespace, _, err := getter.ToRawKubeConfigLoader().Namespace()
			if err != nil {
				return fmt.Errorf("reading the kubeconfig: %w", err)
			}
			return remove(c.Context(), deployments.New(getter, talk), namespace, args[0], streams.Out)
		},
	}
}

func remove(ctx context.Context, client Client, namespace, name string, out io.Writer) error {
	if err := client.Delete(ctx, namespace, name); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "service.serving.knative.dev/%s deleted\n", ui.Escape(name))
	return err
}
