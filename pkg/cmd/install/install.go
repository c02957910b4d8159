// Package install is the verb that puts MLflow on a cluster.
package install

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/manifests"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/args"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/parameters"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/trackingserver"
)

// Flags is what the user typed.
type Flags struct {
	Timeout     time.Duration
	DryRun      string // none, client or server
	Output      string
	SecretsOnly bool
}

// NewCommand makes the command.
func NewCommand(getter trackingserver.Getter, streams genericiooptions.IOStreams, talk *ui.Progress) *cobra.Command {
	flags := Flags{Timeout: 10 * time.Minute, DryRun: dryRunNone}
	command := &cobra.Command{
		Use:   "install",
		Short: "Put MLflow on the cluster and wait until it answers",
		Long: `Put MLflow on the cluster and wait until it answers: the tracking server, its PostgreSQL
database and its artifact store, each on a volume of its own; with --overlay gcp artifacts are in
a bucket of Google Cloud Storage, and with --cloudsql the database is in Cloud SQL too.

The namespace is the one of -n, else the context's if MLflow is installed there, else mlflow.
Running it again changes what is not as it should be, and nothing else: what a flag does not say
stays as it was, MLflow's version too, which only upgrade changes. Passwords are made once and
kept. It is safe to interrupt and to repeat.

Standard output says what was done to each object. Secrets are never printed.`,
		Example: `  # MLflow in the namespace mlflow
  kubectl mlflow install

  # In another namespace, on a storage class of its own
  kubectl mlflow install -n ml-prod --storage-class fast --database-storage 50Gi

  # On GKE: artifacts in a bucket; then the database in Cloud SQL too. What Google needs first: kubectl mlflow gcp setup
  kubectl mlflow install --overlay gcp --artifacts-destination gs://my-bucket/mlflow
  kubectl mlflow install --cloudsql --cloudsql-instance my-project:europe-west1:mlflow \
    --artifacts-destination gs://my-bucket/mlflow --database-password-file password.txt

  # What would change, before it does; what the API server says of the manifests
  kubectl mlflow install --dry-run=server
  kubectl mlflow install --dry-run=client -o yaml | kubectl apply --dry-run=server -f -`,
		Args:        args.Exactly(),
		Annotations: map[string]string{ui.Interrupted: "what was applied stays on the cluster"},
	}
	typed := parameters.Add(command.Flags())
	applying := parameters.AddApply(command.Flags())
	command.RunE = func(c *cobra.Command, _ []string) error {
		p, notes, err := typed.Parameters(c.Flag("namespace").Value.String())
		if err := errors.Join(err, flags.check()); err != nil {
			return err
		}
		how, err := applying.Options(streams.In, func(line string) { talk.Say("%s", line) })
		if err != nil {
			return err
		}
		for _, note := range notes {
			talk.Say("%s", note)
		}
		o := &Options{
			Flags: flags, Parameters: p, How: how, Installer: trackingserver.New(getter, manifests.FS, talk), Streams: streams, Talk: talk,
			Next: ui.Next(c, "port-forward"),
		}
		return o.Run(c.Context())
	}
	command.Flags().StringVar(&flags.DryRun, "dry-run", flags.DryRun, "none, client (print what would be sent) or server (ask the API server what would come of it)")
	command.Flags().Lookup("dry-run").NoOptDefVal = string(trackingserver.DryRunClient)
	command.Flags().StringVarP(&flags.Output, "output", "o", flags.Output, "Print the objects as they are then: "+ui.ObjectFormats)
	command.Flags().BoolVar(&flags.SecretsOnly, "secrets-only", flags.SecretsOnly, "Make the namespace and the Secrets, and nothing else: for manifests that Argo CD, Flux or kubectl applies")
	command.Flags().DurationVar(&flags.Timeout, "timeout", flags.Timeout, "How long all of it may take")
	return command
}

const dryRunNone = "none"

// check needs no network.
func (f *Flags) check() error {
	var dry error
	if !slices.Contains([]string{dryRunNone, string(trackingserver.DryRunClient), string(trackingserver.DryRunServer)}, f.DryRun) {
		dry = &failure.Error{Class: failure.Invalid, Reason: "UnknownDryRun", Object: "--dry-run",
			Message: fmt.Sprintf("%q is not a way to try", f.DryRun), Hint: "use none, client or server"}
	}
	if f.SecretsOnly && f.DryRun != dryRunNone {
		dry = &failure.Error{Class: failure.Invalid, Reason: "UnknownDryRun", Object: "--dry-run",
			Message: "secrets are made or not: --secrets-only has no dry run", Hint: "leave one of them out"}
	}
	return errors.Join(dry, ui.CheckObjectFormat(f.Output), args.Positive("--timeout", f.Timeout))
}

// Installer is the part of trackingserver.Client that this verb needs.
type Installer interface {
	Install(ctx context.Context, p trackingserver.Parameters, o trackingserver.Options) ([]trackingserver.Change, error)
	SecretsOnly(ctx context.Context, p trackingserver.Parameters, o trackingserver.Options) ([]trackingserver.Change, error)
	Plan(ctx context.Context, p trackingserver.Parameters, o trackingserver.Options, dry trackingserver.DryRun) ([]trackingserver.Difference, error)
}

// Options is what the verb needs.
type Options struct {
	Flags
	Installer  Installer
	Parameters trackingserver.Parameters
	How        trackingserver.Options
	Streams    genericiooptions.IOStreams
	Talk       *ui.Progress
	Next       string // command line to type after it
}

// Run installs. What was done is printed also where it fails: it stays on the cluster.
func (o *Options) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	switch {
	case o.DryRun != dryRunNone:
		return o.dryRun(ctx)
	case o.SecretsOnly:
		changes, err := o.Installer.SecretsOnly(ctx, o.Parameters, o.How)
		return errors.Join(err, ui.PrintChanges(o.Streams.Out, o.Output, "", changes))
	}
	changes, err := o.Installer.Install(ctx, o.Parameters, o.How)
	if err = errors.Join(err, ui.PrintChanges(o.Streams.Out, o.Output, "", changes)); err != nil {
		return err
	}
	where := namespace(changes)
	if slices.ContainsFunc(changes, func(c trackingserver.Change) bool { return c.Action != trackingserver.Unchanged }) {
		o.Talk.Say("MLflow is installed%s and answers.", where)
	} else {
		o.Talk.Say("MLflow is installed%s and answers; nothing changed.", where)
	}
	for _, c := range changes {
		if c.Kind == "Secret" && c.Name == trackingserver.AuthSecretName && c.Action != trackingserver.Unchanged {
			o.Talk.Say("Users log in; the first one is admin. The password: kubectl get secret %s --namespace %s --output 'go-template={{.data.%s | base64decode}}'",
				c.Name, c.Namespace, trackingserver.AdminPasswordKey)
		}
	}
	o.Talk.Say("Next: %s", o.Next)
	return nil
}

func (o *Options) dryRun(ctx context.Context) error {
	plan, err := o.Installer.Plan(ctx, o.Parameters, o.How, trackingserver.DryRun(o.DryRun))
	if err != nil {
		return err
	}
	changes := make([]trackingserver.Change, 0, len(plan))
	for _, d := range plan {
		changes = append(changes, d.Change)
	}
	suffix := " (dry run)"
	if o.DryRun == string(trackingserver.DryRunServer) {
		suffix = " (server dry run)"
	}
	o.sayWhatKubectlNeeds(changes)
	return ui.PrintChanges(o.Streams.Out, o.Output, suffix, changes)
}

// sayWhatKubectlNeeds is for who pipes the objects on: the API server tries nothing in a namespace that is not there, not even where that
// is the first of the objects.
func (o *Options) sayWhatKubectlNeeds(changes []trackingserver.Change) {
	at := slices.IndexFunc(changes, func(c trackingserver.Change) bool { return c.Kind == "Namespace" }) // planned where it is to be made
	if at >= 0 && (o.Output == "yaml" || o.Output == "json") {
		o.Talk.Say("The namespace %[1]s does not exist yet. kubectl apply --dry-run=server wants it first: kubectl create namespace %[1]s", changes[at].Name)
	}
}

// namespace is where the objects live, as part of a sentence.
func namespace(changes []trackingserver.Change) string {
	for _, c := range changes {
		if c.Namespace != "" {
			return " in namespace " + c.Namespace
		}
	}
	return ""
}
