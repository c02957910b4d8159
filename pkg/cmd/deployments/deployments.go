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

// NewCommand makes the group; alone is what it does when no subcommand is named.
func NewCommand(g Group, alone func(*cobra.Command, []string) error) *cobra.Command {
	command := &cobra.Command{
		Use:   "deployments",
		Short: "Create, update, show, await and delete deployed models, and read their logs",
		Args:  cobra.ArbitraryArgs,
		RunE:  alone,
	}
	command.AddCommand(newCreate(g), newUpdate(g), newPredict(g), newGet(g), newList(g), newWait(g.Getter, g.Talk),
		newLogs(g.Getter, g.Streams, g.Talk), newDelete(g), newHelp(command))
	return command
}

// newHelp is what MLflow asks a target for.
func newHelp(group *cobra.Command) *cobra.Command {
	spelled := mlflowFlags{}
	command := &cobra.Command{
		Use:    "help",
		Short:  "Show what this target does, as mlflow deployments help",
		Hidden: true,
		Args:   args.Exactly(),
		RunE:   func(*cobra.Command, []string) error { return group.Help() },
	}
	spelled.target(command)
	return command
}

func newList(g Group) *cobra.Command {
	var output string
	var all bool
	spelled := mlflowFlags{}
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
			if err := g.use(c, spelled); err != nil {
				return err
			}
			namespace := ""
			if !all {
				var err error
				if namespace, _, err = g.Getter.ToRawKubeConfigLoader().Namespace(); err != nil {
					return fmt.Errorf("reading the kubeconfig: %w", err)
				}
			}
			return list(c.Context(), deployments.New(g.Getter, g.Talk), namespace, output, g.Streams)
		},
	}
	command.Flags().StringVarP(&spelled.Target, "target", "t", spelled.Target, "As of mlflow deployments: knative:/CONTEXT, which is --context CONTEXT")
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
	header := []string{"NAME", "MODEL", "READY", "TRAFFIC", "AGE", "URL"}
	if namespaces {
		header = append([]string{"NAMESPACE"}, header...)
	}
	rows := make([][]string, 0, len(found))
	for _, d := range found {
		row := []string{d.Name, d.ModelURI, ui.Ready(d.Ready, d.Reason), split(d), ui.Age(d.Created), d.URL}
		if namespaces {
			row = append([]string{d.Namespace}, row...)
		}
		rows = append(rows, row)
	}
	return ui.Table(header, rows)
}

// split is who gets the requests, in short.
func split(d deployments.Deployment) string {
	parts := make([]string, 0, len(d.Traffic))
	for _, s := range d.Traffic {
		parts = append(parts, fmt.Sprintf("%s=%d%%", s.Revision, s.Percent))
	}
	return strings.Join(parts, ",")
}

func newDelete(g Group) *cobra.Command {
	spelled := mlflowFlags{}
	command := &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete a deployed model",
		Long:  "Delete a deployed model. Its images stay in their repository, and the model stays in MLflow.",
		Args:  args.AtMost(1),
		RunE: func(c *cobra.Command, typed []string) error {
			typed, err := words(typed, []string{"NAME"}, spelled.Name)
			if err != nil {
				return err
			}
			if err := g.use(c, spelled); err != nil {
				return err
			}
			namespace, _, err := g.Getter.ToRawKubeConfigLoader().Namespace()
			if err != nil {
				return fmt.Errorf("reading the kubeconfig: %w", err)
			}
			return remove(c.Context(), deployments.New(g.Getter, g.Talk), namespace, typed[0], g.Streams.Out)
		},
	}
	spelled.target(command)
	return command
}

func remove(ctx context.Context, client Client, namespace, name string, out io.Writer) error {
	if err := client.Delete(ctx, namespace, name); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "service.serving.knative.dev/%s deleted\n", ui.Escape(name))
	return err
}
