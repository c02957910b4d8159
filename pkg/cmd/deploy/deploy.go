// Package deploy is the verb that makes a URL of a model.
package deploy

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/args"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/modelflags"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/settingsflags"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/deployments"
)

// Flags is what the user typed.
type Flags struct {
	Model    modelflags.Flags
	Settings settingsflags.Flags
	Image    string // instead of MODEL_URI
	Canary   int64  // percent
	NoVerify bool
	Adopt    bool
	Timeout  time.Duration
	File     string // of many deployments
	Prune    bool
	DryRun   bool
	Output   string
}

// Interrupted is what stands when a deployment was.
const Interrupted = "images that were sent stay in the repository, and what answered before goes on answering"

// NewCommand makes the command. getenv is os.Getenv.
func NewCommand(getter deployments.Getter, streams genericiooptions.IOStreams, talk *ui.Progress, getenv func(string) string) *cobra.Command {
	flags := NewFlags()
	command := &cobra.Command{
		Use:   "deploy (NAME (MODEL_URI | --image IMAGE) | -f FILE)",
		Short: "Deploy a model to Knative: create a deployment, or give it a new version",
		Long: `Deploy a model to Knative: create the deployment NAME, or give it a new version.

The model is read from the tracking server that MLFLOW_TRACKING_URI names, else from the one that
'kubectl mlflow install' put on the cluster. --tracking-service names any other MLflow on the
cluster by its Service, which needs no port-forward. The model's environment (Python and the
model's requirements) becomes an image that is built once, without Docker; each version of the
model adds its own files as layers. A Knative Service then runs the image by digest.

A new version takes over when it is ready and has answered the example that the model was logged
with, if it was; the old one answers until then. 'kubectl mlflow rollback' gives the requests back.

The tracking server is read with the credentials and certificates of MLflow's own clients:
  MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD  for what is not set: ~/.mlflow/credentials,
                                                      where the tracking server is named by its URL
  MLFLOW_TRACKING_TOKEN                               where there is no username with a password
  MLFLOW_TRACKING_OIDC_ISSUER, MLFLOW_TRACKING_OIDC_CLIENT_ID, MLFLOW_TRACKING_OIDC_CLIENT_SECRET
                                                      where there is none of these, a login at an
                                                      OpenID provider, by secret or by browser
  MLFLOW_TRACKING_SERVER_CERT_PATH                    authorities to trust: a PEM file, or a directory
  MLFLOW_TRACKING_CLIENT_CERT_PATH                    a certificate and its key, in one PEM file
  MLFLOW_TRACKING_INSECURE_TLS                        true trusts whatever answers
  MLFLOW_WORKSPACE                                    the workspace that the model is in
Without credentials, an MLflow that 'install' put on the cluster with basic-auth is read as its
admin, by those who may read its Secret.

How the model runs is said by flags, or by a Knative Service in a file (--service-template); what is
not said stays as the deployment has it.

The last line on standard output is the deployment's URL.`,
		Example: `  # Version 3 of the registered model iris
  kubectl mlflow deploy iris models:/iris/3 --image-repository registry.example.com/models/iris

  # The version that carries the alias champion; the repository is known from the time before
  kubectl mlflow deploy iris models:/iris@champion

  # A tenth of the requests for the new version, until 'kubectl mlflow traffic iris --promote'
  kubectl mlflow deploy iris models:/iris/4 --canary 10

  # In place of what mlflow-knative, kn or kubectl has deployed under that name
  kubectl mlflow deploy iris models:/iris/4 --adopt

  # From a directory that mlflow.pyfunc.save_model wrote
  kubectl mlflow deploy iris ./iris-model

  # From an MLflow on the cluster that somebody else put there, by its Service
  kubectl mlflow deploy iris models:/iris/3 --tracking-service ml/mlflow:5000

  # The very bytes that another cluster has tried
  kubectl mlflow deploy iris --image registry.example.com/models/iris@sha256:... --context production

  # What is written in a file, all at once; what it declares no more is deleted
  kubectl mlflow deploy -f models.yaml --prune

  # The Service for a repository that Argo CD or Flux reads
  kubectl mlflow deploy iris models:/iris/3 --dry-run -o yaml > iris.yaml

  # From another tracking server
  MLFLOW_TRACKING_URI=https://mlflow.example.com kubectl mlflow deploy iris models:/iris/3`,
		Args: func(c *cobra.Command, typed []string) error {
			switch {
			case flags.File != "":
				return nil // whose fault an argument is then, toSet says
			case flags.Image != "":
				return args.Exactly("NAME")(c, typed)
			}
			return args.Exactly("NAME", "MODEL_URI")(c, typed)
		},
		Annotations: map[string]string{ui.Interrupted: Interrupted},
		RunE: func(c *cobra.Command, typed []string) error {
			if err := flags.check(); err != nil {
				return err
			}
			client := modelflags.Client(getter, talk, getenv)
			if flags.File != "" {
				o, err := flags.toSet(typed, streams.In, getenv)
				if err != nil {
					return err
				}
				o.Client, o.Streams, o.Talk = client, streams, talk
				return o.Run(c.Context())
			}
			o, err := flags.ToOptions(typed, getenv)
			if err != nil {
				return err
			}
			if flags.DryRun {
				one := deployments.Set{Requests: []deployments.Request{o.Request}, Loose: true}
				return (&SetOptions{Client: client, Set: one, DryRun: true, Output: flags.Output, Streams: streams, Talk: talk}).Run(c.Context())
			}
			o.Client, o.Streams, o.Talk = client, streams, talk
			o.Next, o.Promote = Next(c, o.Request.Name), ui.Next(c, "traffic", o.Request.Name, "--promote")
			return o.Run(c.Context())
		},
	}
	flags.Add(command.Flags())
	command.Flags().StringVar(&flags.Image, "image", flags.Image, "Image that build or deploy has made, instead of MODEL_URI: nothing is read from a tracking server, nothing is built")
	command.Flags().StringVarP(&flags.File, "filename", "f", flags.File, "File of deployments, all of which are brought up; - is standard input")
	command.Flags().BoolVar(&flags.Prune, "prune", flags.Prune, "Delete deployments of the file's set that it declares no more")
	command.Flags().BoolVar(&flags.DryRun, "dry-run", flags.DryRun, "Only check, and say what would be done; with -o, make the images and print the Services")
	command.Flags().StringVarP(&flags.Output, "output", "o", flags.Output, "Output format: "+ui.Formats)
	return command
}

// check is for what goes together.
func (f *Flags) check() error {
	if f.Prune && f.File == "" {
		return conflict("--prune", "there is no file whose set could be pruned", "name it with -f, or leave --prune out")
	}
	return ui.CheckFormat(f.Output)
}

// NewFlags is what is taken where nothing is typed.
func NewFlags() Flags { return Flags{Timeout: deployments.DefaultTimeout} }

// Add defines the flags of whoever deploys a model.
func (f *Flags) Add(flags *pflag.FlagSet) {
	f.Model.Add(flags)
	f.Settings.Add(flags)
	flags.Int64Var(&f.Canary, "canary", f.Canary, "Part of the requests that the new version gets, in percent. Default: all")
	flags.BoolVar(&f.NoVerify, "no-verify", f.NoVerify, "Give the new version its requests without asking it the model's example first")
	flags.BoolVar(&f.Adopt, "adopt", f.Adopt, "Take over a Service of this name that was not made by kubectl mlflow")
	flags.DurationVar(&f.Timeout, "timeout", f.Timeout, "How long the new version may take to be ready")
}

// ToOptions checks what needs no network.
func (f *Flags) ToOptions(typed []string, getenv func(string) string) (*Options, error) {
	if f.Image != "" {
		typed = append(typed, "") // no MODEL_URI
	}
	o := &Options{Output: f.Output, Request: f.Model.Request(typed, getenv)}
	if o.Request.Image = f.Image; f.Image != "" { // what the environment says is for those who build
		o.Request.ImageRepository = f.Model.ImageRepository
	}
	o.Request.Timeout, o.Request.Canary, o.Request.NoVerify, o.Request.Adopt = f.Timeout, f.Canary, f.NoVerify, f.Adopt
	var err error
	if o.Request.Settings, err = f.Settings.Settings(); err != nil {
		return nil, err
	}
	if o.Request.ServiceTemplate, err = f.Settings.Template(); err != nil {
		return nil, err
	}
	return o, o.Request.Validate()
}

// Client is the part of deployments.Client that this verb needs.
type Client interface {
	Deploy(ctx context.Context, r deployments.Request) (*deployments.Result, error)
}

// Options is what the verb needs.
type Options struct {
	Client  Client
	Request deployments.Request
	Streams genericiooptions.IOStreams
	Talk    *ui.Progress
	Next    func(example bool) string // command line to type after it, for a model with an example of a request or without
	Promote string                    // command line to type after a canary
	Output  string
}

// Next makes the command line that asks the model.
func Next(c *cobra.Command, name string) func(example bool) string {
	return func(example bool) string {
		if example {
			return ui.Next(c, "predict", name, "--example")
		}
		return ui.Next(c, "predict", name, "-f", "request.json")
	}
}

// Run deploys and prints the URL.
func (o *Options) Run(ctx context.Context) error {
	result, err := o.Client.Deploy(ctx, o.Request)
	if err != nil {
		return err
	}
	if result.Action == "unchanged" {
		o.Talk.Say("%s already serves %s; nothing changed", result.Name, result.ModelURI)
	} else {
		o.Talk.Say("%s %s: %s", result.Name, result.Action, modelflags.Timings(result.Timings))
	}
	if o.Request.Canary > 0 && len(result.Traffic) > 1 {
		o.Talk.Say("%s has %d %% of the requests.", result.Revision, o.Request.Canary)
		o.Talk.Say("Next: %s", o.Promote)
	} else {
		o.Talk.Say("Next: %s", o.Next(result.Example))
	}
	return ui.Print(o.Streams.Out, o.Output, result, ui.Escape(result.URL)+"\n")
}
