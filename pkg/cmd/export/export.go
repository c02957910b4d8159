// Package export is the verb that writes what install applies, for tools that apply it from Git.
package export

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/args"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/parameters"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/trackingserver"
)

// Exporter is the part of trackingserver.Client that this verb needs.
type Exporter interface {
	Export(p trackingserver.Parameters, dir string) (overlay string, err error)
}

// NewCommand makes the command.
func NewCommand(exporter Exporter, streams genericiooptions.IOStreams, talk *ui.Progress) *cobra.Command {
	command := &cobra.Command{
		Use:   "export DIR",
		Short: "Write the manifests that install applies as plain kustomize, for Git",
		Long: `Write what install applies for these flags into DIR, as a kustomization that kubectl apply -k,
Argo CD and Flux take, with a README beside it. It needs no cluster. What an earlier export wrote is
replaced; a directory with anything else in it is left alone.

Secrets are named and not written: install --secrets-only makes them.

Standard output is the directory to apply.`,
		Example: `  kubectl mlflow export ./mlflow --overlay gcp --artifacts-destination gs://my-bucket/mlflow
  kubectl mlflow install --secrets-only
  kubectl apply -k ./mlflow/overlays/gcp`,
		Args: args.Exactly("DIR"),
	}
	typed := parameters.Add(command.Flags())
	command.RunE = func(c *cobra.Command, words []string) error {
		p, notes, err := typed.Parameters(c.Flag("namespace").Value.String())
		if err != nil {
			return err
		}
		for _, note := range notes {
			talk.Say("%s", note)
		}
		overlay, err := exporter.Export(p, words[0])
		if err != nil {
			return err
		}
		if _, err := io.WriteString(streams.Out, overlay+"\n"); err != nil {
			return fmt.Errorf("printing the directory: %w", err)
		}
		talk.Say("First, once: %s", ui.Next(c, "install", "--secrets-only"))
		talk.Say("Then commit it, or: kubectl apply -k %s", ui.Quote(overlay))
		return nil
	}
	return command
}
