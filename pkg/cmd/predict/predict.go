// Package predict is the verb that asks a deployed model.
package predict

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/args"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/modelflags"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/deployments"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// Flags is what the user typed.
type Flags struct {
	File    string
	Input   string
	Example bool
	Via     string
	Timeout time.Duration
}

// NewCommand makes the command.
// getenv is os.Getenv.
func NewCommand(getter deployments.Getter, streams genericiooptions.IOStreams, talk *ui.Progress, getenv func(string) string) *cobra.Command {
	flags := NewFlags()
	command := &cobra.Command{
		Use:   "predict NAME (-f FILE | --input JSON | --example)",
		Short: "Send a request to a deployed model and print the answer",
		Long: `Send a request to a deployed model and print the answer.

The request is what MLflow's /invocations takes. It goes through the API server to Knative's
gateway, so it works wherever kubectl works; '--via url' sends it to the deployment's own URL.
A model that is scaled to zero starts first.

With --example, the request is the input example that the model was logged with. It is read as 'deploy'
reads the model: from the server that MLFLOW_TRACKING_URI names, else from the MLflow on the cluster.`,
		Example: `  kubectl mlflow predict iris --example
  kubectl mlflow predict iris --input '{"inputs": [[5.1, 3.5, 1.4, 0.2]]}'
  kubectl mlflow predict iris -f request.json
  generate-requests | kubectl mlflow predict iris -f -`,
		Args: args.Exactly("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			o, err := flags.ToOptions(args[0], streams.In, getenv)
			if err != nil {
				return err
			}
			o.Client, o.Out = modelflags.Client(getter, talk, getenv), streams.Out
			return o.Run(c.Context())
		},
	}
	flags.Add(command.Flags())
	return command
}

// NewFlags is what is taken where nothing is typed.
func NewFlags() Flags { return Flags{Via: deployments.ViaGateway, Timeout: 2 * time.Minute} }

// Add defines the flags.
func (f *Flags) Add(flags *pflag.FlagSet) {
	flags.StringVarP(&f.File, "filename", "f", f.File, "File with the request; - is standard input; a name that ends with .csv is sent as text/csv")
	flags.StringVar(&f.Input, "input", f.Input, "The request itself, as JSON")
	flags.BoolVar(&f.Example, "example", f.Example, "Send the input example that the model was logged with")
	flags.StringVar(&f.Via, "via", f.Via, "The way to the model: "+deployments.ViaGateway+" or "+deployments.ViaURL)
	flags.DurationVar(&f.Timeout, "timeout", f.Timeout, "How long the answer may take")
}

// ToOptions reads the request.
func (f *Flags) ToOptions(name string, in io.Reader, getenv func(string) string) (*Options, error) {
	if f.Via != deployments.ViaGateway && f.Via != deployments.ViaURL {
		return nil, &failure.Error{Class: failure.Invalid, Reason: "UnknownWay", Object: "--via",
			Message: fmt.Sprintf("%q is no way to a model", f.Via), Hint: "use " + deployments.ViaGateway + " or " + deployments.ViaURL}
	}
	if err := args.Positive("--timeout", f.Timeout); err != nil {
		return nil, err
	}
	o := &Options{Timeout: f.Timeout, Prediction: deployments.Prediction{Name: name, Via: f.Via, ContentType: "application/json"}}
	if f.Example {
		if f.File != "" || f.Input != "" {
			return nil, &failure.Error{Class: failure.Invalid, Reason: "TwoInputs", Message: "--example and another request are given", Hint: "give one of them"}
		}
		o.Example = &deployments.Request{Name: name, TrackingURI: getenv(modelflags.TrackingURI), TrackingURIFrom: modelflags.TrackingURI}
		return o, nil
	}
	source, err := f.read(o, in)
	if err != nil {
		return nil, err
	}
	if o.Prediction.ContentType == "application/json" && !json.Valid(o.Prediction.Body) {
		var value any
		return nil, &failure.Error{Class: failure.Invalid, Reason: "NotJSON", Object: source,
			Message: "the request is not JSON", Hint: `MLflow takes {"inputs": …} or {"dataframe_split": …}`, Err: json.Unmarshal(o.Prediction.Body, &value)}
	}
	return o, nil
}

// read fills in the body and returns the name of where it comes from.
func (f *Flags) read(o *Options, in io.Reader) (source string, err error) {
	switch {
	case f.File != "" && f.Input != "":
		return "", &failure.Error{Class: failure.Invalid, Reason: "TwoInputs", Message: "both -f and --input are given", Hint: "give one of them"}
	case f.Input != "":
		source, o.Prediction.Body = "--input", []byte(f.Input)
	case f.File == "-":
		source = "standard input"
		o.Prediction.Body, err = io.ReadAll(in)
	case f.File != "":
		source = f.File
		o.Prediction.Body, err = os.ReadFile(f.File)
		if filepath.Ext(f.File) == ".csv" {
			o.Prediction.ContentType = "text/csv"
		}
	default:
		return "", &failure.Error{Class: failure.Invalid, Reason: "NoInput", Message: "there is no request to send",
			Hint: "give it with -f FILE, with -f - from standard input, or with --input JSON; --example sends the model's own"}
	}
	if err != nil {
		return "", &failure.Error{Class: failure.Invalid, Reason: "UnreadableInput", Message: "cannot read the request", Hint: "check the name after -f", Err: err}
	}
	return source, nil
}

// Client is the part of deployments.Client that this verb needs.
type Client interface {
	Predict(ctx context.Context, p deployments.Prediction) ([]byte, error)
	Example(ctx context.Context, r deployments.Request) ([]byte, error)
}

// Options is what the verb needs.
type Options struct {
	Client     Client
	Prediction deployments.Prediction
	Example    *deployments.Request // for the body, where that is the model's own; else nil
	Timeout    time.Duration
	Out        io.Writer
}

// Run asks the model and prints its answer.
func (o *Options) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	if o.Example != nil {
		example, err := o.Client.Example(ctx, *o.Example)
		if err != nil {
			return err
		}
		o.Prediction.Body = example
	}
	answer, err := o.Client.Predict(ctx, o.Prediction)
	if err != nil {
		return err
	}
	return ui.Data(o.Out, answer)
}
