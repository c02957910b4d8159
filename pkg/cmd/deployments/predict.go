package deployments

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/args"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/modelflags"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/predict"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

func newPredict(g Group) *cobra.Command {
	flags, spelled := predict.NewFlags(), mlflowFlags{}
	var input, output string
	command := &cobra.Command{
		Use:   "predict NAME (-f FILE | --input JSON | --example)",
		Short: "Send a request to a deployed model and print the answer",
		Long: `Send a request to a deployed model and print the answer: 'kubectl mlflow predict'. It takes the flags
of 'mlflow deployments predict' for the target knative, too.`,
		Example: `  kubectl mlflow deployments predict iris -f request.json

  # In MLflow's words
  kubectl mlflow deployments predict -t knative:/my-cluster --name iris -I request.json -O answer.json`,
		Args: args.AtMost(1),
		RunE: func(c *cobra.Command, typed []string) error {
			typed, err := words(typed, []string{"NAME"}, spelled.Name)
			if err != nil {
				return err
			}
			if flags.File != "" && input != "" {
				return &failure.Error{Class: failure.Invalid, Reason: "TwoInputs", Message: "both -f and -I are given", Hint: "give one of them"}
			}
			if input != "" {
				flags.File = input
			}
			o, err := flags.ToOptions(typed[0], g.Streams.In, g.Getenv)
			if err != nil {
				return err
			}
			if err := g.use(c, spelled); err != nil {
				return err
			}
			o.Client = modelflags.Client(g.Getter, g.Talk, g.Getenv)
			return predictTo(c.Context(), o, output, g.Streams.Out)
		},
	}
	flags.Add(command.Flags())
	spelled.target(command)
	command.Flags().StringVarP(&input, "input-path", "I", input, "As of mlflow deployments: --filename")
	command.Flags().StringVarP(&output, "output-path", "O", output, "As of mlflow deployments: the file that the answer is written to. Default: standard output")
	return command
}

// predictTo writes the answer to a file, or to out where none is named. A file is written when the answer is there, and not before.
func predictTo(ctx context.Context, o *predict.Options, file string, out io.Writer) error {
	if file == "" {
		o.Out = out
		return o.Run(ctx)
	}
	var answer bytes.Buffer
	o.Out = &answer
	if err := o.Run(ctx); err != nil {
		return err
	}
	if err := os.WriteFile(file, answer.Bytes(), 0o644); err != nil { //nolint:gosec // an answer is no secret; the user's umask decides
		return fmt.Errorf("write the answer: %w", err)
	}
	return nil
}
