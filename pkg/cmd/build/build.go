// Package build is the verb that makes a model's image and deploys nothing.
package build

import (
	"context"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/args"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/modelflags"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/deployments"
)

// Flags is what the user typed.
type Flags struct {
	modelflags.Flags
	Output string
}

// NewCommand makes the command. getenv is os.Getenv.
func NewCommand(getter deployments.Getter, streams genericiooptions.IOStreams, talk *ui.Progress, getenv func(string) string) *cobra.Command {
	flags := Flags{}
	command := &cobra.Command{
		Use:   "build NAME MODEL_URI",
		Short: "Make and push the image of a model, for CI and GitOps",
		Long: `Make the image that 'kubectl mlflow deploy' would deploy as NAME, and push it. Nothing on the cluster
is changed. An image that the repository has already is neither built nor pushed.

With --platform, --image-repository and a tracking server that is named, no cluster is needed.

Standard output is the image by its digest, and nothing else.`,
		Example: `  # The image of version 3 of the registered model iris
  kubectl mlflow build iris models:/iris/3 --image-repository registry.example.com/models/iris

  # In a pipeline that knows no cluster
  export MLFLOW_TRACKING_URI=https://mlflow.example.com
  export KUBECTL_MLFLOW_IMAGE_REPOSITORY=registry.example.com/models/iris
  kubectl mlflow build iris models:/iris@champion --platform linux/amd64`,
		Args:        args.Exactly("NAME", "MODEL_URI"),
		Annotations: map[string]string{ui.Interrupted: "images that were sent stay in the repository"},
		RunE: func(c *cobra.Command, typed []string) error {
			o, err := flags.ToOptions(typed, getenv)
			if err != nil {
				return err
			}
			o.Client, o.Streams, o.Talk = modelflags.Client(getter, talk, getenv), streams, talk
			return o.Run(c.Context())
		},
	}
	flags.Add(command.Flags())
	command.Flags().StringVarP(&flags.Output, "output", "o", flags.Output, "Output format: "+ui.Formats)
	return command
}

// ToOptions checks what needs no network.
func (f *Flags) ToOptions(typed []string, getenv func(string) string) (*Options, error) {
	if err := ui.CheckFormat(f.Output); err != nil {
		return nil, err
	}
	o := &Options{Request: f.Request(typed, getenv), Output: f.Output}
	return o, o.Request.Validate()
}

// Client is the part of deployments.Client that this verb needs.
type Client interface {
	Build(ctx context.Context, r deployments.Request) (*deployments.Built, error)
}

// Options is what the verb needs.
type Options struct {
	Client  Client
	Request deployments.Request
	Output  string
	Streams genericiooptions.IOStreams
	Talk    *ui.Progress
}

// Run builds and prints the image.
func (o *Options) Run(ctx context.Context) error {
	built, err := o.Client.Build(ctx, o.Request)
	if err != nil {
		return err
	}
	o.Talk.Say("%s for %s: %s", built.ModelURI, built.Platform, modelflags.Timings(built.Timings))
	return ui.Print(o.Streams.Out, o.Output, built, ui.Escape(built.Image)+"\n")
}
