// Package predict is the verb that asks a deployed model.
package predict

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"path/filepath"
	"slices"
	"strings"
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
	File        string
	Input       string
	Example     bool
	ContentType string
	Protocol    string
	Output      string
	Way         Way
	Timeout     time.Duration
}

// NewCommand makes the command.
// getenv is os.Getenv.
func NewCommand(getter deployments.Getter, streams genericiooptions.IOStreams, talk *ui.Progress, getenv func(string) string) *cobra.Command {
	flags := NewFlags()
	command := &cobra.Command{
		Use:   "predict NAME (-f FILE | --input JSON | --example)",
		Short: "Send a request to a deployed model and print the answer",
		Long: `Send a request to a deployed model and print the answer.

The request is what MLflow's /invocations takes, or one of the Open Inference Protocol (V2), which is
told by its tensors. It goes through the API server to Knative's gateway, so it works wherever kubectl
works; '--via url' sends it to the deployment's own URL. A model that is scaled to zero starts first.

Where gateway or server ask for a bearer token, it is read from a file, or from the environment:
--token-file, ` + tokenVariable + `.

With --example, the request is the input example that the model was logged with. It is read as 'deploy'
reads the model: from the server that MLFLOW_TRACKING_URI names, else from the MLflow on the cluster.`,
		Example: `  kubectl mlflow predict iris --example
  kubectl mlflow predict iris --input '{"inputs": [[5.1, 3.5, 1.4, 0.2]]}'
  kubectl mlflow predict iris -f request.json --output table
  kubectl mlflow predict iris -f - --content-type text/csv < requests.csv
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
func NewFlags() Flags {
	return Flags{Protocol: protocolAuto, Output: outputJSON, Way: Way{Via: deployments.ViaGateway}, Timeout: 2 * time.Minute}
}

const (
	protocolAuto = "auto"
	outputJSON   = "json"
	outputTable  = "table"
	jsonType     = "application/json"
)

// Add defines the flags.
func (f *Flags) Add(flags *pflag.FlagSet) {
	flags.StringVarP(&f.File, "filename", "f", f.File, "File with the request; - is standard input; a name that ends with .csv is sent as text/csv")
	flags.StringVar(&f.Input, "input", f.Input, "The request itself, as JSON")
	flags.BoolVar(&f.Example, "example", f.Example, "Send the input example that the model was logged with")
	flags.StringVar(&f.ContentType, "content-type", f.ContentType, "What the request is, as text/csv. Default: application/json, or what the file's name says")
	flags.StringVar(&f.Protocol, "protocol", f.Protocol, "Protocol of the request: auto, "+deployments.ProtocolInvocations+" (MLflow's own) or "+deployments.ProtocolV2+"; auto is that of the request's form")
	flags.StringVarP(&f.Output, "output", "o", f.Output, "Output format: json, the answer as it came, or table, its predictions")
	f.Way.add(flags)
	flags.DurationVar(&f.Timeout, "timeout", f.Timeout, "How long the answer may take")
}

// ToOptions reads the request.
func (f *Flags) ToOptions(name string, in io.Reader, getenv func(string) string) (*Options, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	o := &Options{Timeout: f.Timeout, Table: f.Output == outputTable, Prediction: deployments.Prediction{Name: name, ContentType: jsonType}}
	if f.Protocol != protocolAuto {
		o.Prediction.Protocol = f.Protocol
	}
	if err := f.Way.fill(&o.Prediction, getenv); err != nil {
		return nil, err
	}
	if f.Example {
		o.Example = &deployments.Request{Name: name, TrackingURI: getenv(modelflags.TrackingURI), TrackingURIFrom: modelflags.TrackingURI}
		return o, nil
	}
	source, err := f.read(o, in)
	if err != nil {
		return nil, err
	}
	if f.ContentType != "" {
		o.Prediction.ContentType = f.ContentType
	}
	if kind, _, err := mime.ParseMediaType(o.Prediction.ContentType); err == nil && kind == jsonType && !json.Valid(o.Prediction.Body) {
		var value any
		return nil, &failure.Error{
			Class: failure.Invalid, Reason: "NotJSON", Object: source, Message: "the request is not JSON",
			Hint: `MLflow takes {"inputs": …} or {"dataframe_split": …}; CSV is sent with --content-type text/csv`, Err: json.Unmarshal(o.Prediction.Body, &value),
		}
	}
	return o, nil
}

// check tells what is wrong before anything is read.
func (f *Flags) check() error {
	if err := args.Positive("--timeout", f.Timeout); err != nil {
		return err
	}
	if f.Example && (f.File != "" || f.Input != "" || f.ContentType != "") {
		return &failure.Error{Class: failure.Invalid, Reason: "TwoInputs", Message: "--example and another request are given", Hint: "give one of them"}
	}
	for _, flag := range []struct {
		name, value string
		choices     []string
	}{
		{"--via", f.Way.Via, []string{deployments.ViaGateway, deployments.ViaURL}},
		{"--protocol", f.Protocol, []string{protocolAuto, deployments.ProtocolInvocations, deployments.ProtocolV2}},
		{"--output", f.Output, []string{outputJSON, outputTable}},
	} {
		if !slices.Contains(flag.choices, flag.value) {
			return &failure.Error{
				Class: failure.Invalid, Reason: "UnknownValue", Object: flag.name,
				Message: fmt.Sprintf("%q is not one of its values", flag.value), Hint: "choose one of " + strings.Join(flag.choices, ", "),
			}
		}
	}
	if _, _, err := mime.ParseMediaType(f.ContentType); f.ContentType != "" && err != nil {
		return &failure.Error{
			Class: failure.Invalid, Reason: "ContentTypeInvalid", Object: "--content-type", Message: fmt.Sprintf("%q is no content type", f.ContentType),
			Hint: "write it as text/csv", Err: err,
		}
	}
	return nil
}

// read fills in the body and returns the name of where it comes from.
func (f *Flags) read(o *Options, in io.Reader) (source string, err error) {
	switch {
	case f.File != "" && f.Input != "":
		return "", &failure.Error{Class: failure.Invalid, Reason: "TwoInputs", Message: "both -f and --input are given", Hint: "give one of them"}
	case f.Input != "":
		source, o.Prediction.Body = "--input", []byte(f.Input)
	case f.File != "":
		source, o.Prediction.Body, err = args.Read(f.File, in)
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
	Table      bool                 // instead of the answer as it came
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
	if !o.Table {
		return ui.Data(o.Out, answer)
	}
	text, err := table(answer)
	if err != nil {
		return err
	}
	_, err = io.WriteString(o.Out, text)
	return err
}
