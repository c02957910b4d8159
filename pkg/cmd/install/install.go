// Package install is the verb that puts MLflow on a cluster.
package install

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/manifests"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/args"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/trackingserver"
)

// Flags is what the user typed.
type Flags struct {
	Parameters trackingserver.Parameters
	Timeout    time.Duration
}

// NewCommand makes the command.
func NewCommand(getter genericclioptions.RESTClientGetter, streams genericiooptions.IOStreams, talk *ui.Progress) *cobra.Command {
	flags := Flags{Timeout: 10 * time.Minute}
	command := &cobra.Command{
		Use:   "install",
		Short: "Put MLflow on the cluster and wait until it answers",
		Long: `Put MLflow on the cluster and wait until it answers: the tracking server, its PostgreSQL
database and its artifact store, each on a volume of its own.

The namespace is the one of -n, else the context's if MLflow is installed there, else mlflow.
Running it again changes what is not as it should be, and nothing else: what a flag does not say
stays as it was. Passwords are made once and kept. It is safe to interrupt and to repeat.

Standard output says what was done to each object.`,
		Example: `  # MLflow in the namespace mlflow
  kubectl mlflow install

  # In another namespace, on a storage class of its own
  kubectl mlflow install -n ml-prod --storage-class fast --database-storage 50Gi`,
		Args:        args.Exactly(),
		Annotations: map[string]string{ui.Interrupted: "what was applied stays on the cluster"},
		RunE: func(c *cobra.Command, _ []string) error {
			o, err := flags.ToOptions(c.Flag("namespace").Value.String())
			if err != nil {
				return err
			}
			o.Installer, o.Streams, o.Talk = trackingserver.New(getter, manifests.FS, talk), streams, talk
			o.Next = ui.Next(c, "port-forward")
			return o.Run(c.Context())
		},
	}
	p := &flags.Parameters
	command.Flags().StringVar(&p.Overlay, "overlay", p.Overlay, "What is installed: local (PostgreSQL and artifacts on volumes). Default: as installed before, else "+trackingserver.DefaultOverlay)
	command.Flags().StringVar(&p.Image, "image", p.Image, "Image of MLflow, as REPOSITORY[:TAG][@DIGEST], for a mirror or a build of your own")
	command.Flags().StringVar(&p.StorageClass, "storage-class", p.StorageClass, "Storage class of all volumes. Default: the cluster's")
	command.Flags().StringVar(&p.DatabaseStorage, "database-storage", p.DatabaseStorage, "Size of the database's volume, as 10Gi")
	command.Flags().StringVar(&p.ArtifactsStorage, "artifacts-storage", p.ArtifactsStorage, "Size of the artifacts' volume, as 10Gi")
	command.Flags().DurationVar(&flags.Timeout, "timeout", flags.Timeout, "How long all of it may take")
	return command
}

// ToOptions checks what needs no network.
func (f *Flags) ToOptions(namespace string) (*Options, error) {
	o := &Options{Parameters: f.Parameters, Timeout: f.Timeout}
	o.Parameters.Namespace = namespace
	return o, errors.Join(o.Parameters.Validate(), args.Positive("--timeout", f.Timeout))
}

// Installer is the part of trackingserver.Client that this verb needs.
type Installer interface {
	Install(ctx context.Context, p trackingserver.Parameters) ([]trackingserver.Change, error)
}

// Options is what the verb needs.
type Options struct {
	Installer  Installer
	Parameters trackingserver.Parameters
	Timeout    time.Duration
	Streams    genericiooptions.IOStreams
	Talk       *ui.Progress
	Next       string // command line to type after it
}

// Run installs. What was done is printed also where it fails: it stays on the cluster.
func (o *Options) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	changes, err := o.Installer.Install(ctx, o.Parameters)
	if err = errors.Join(err, ui.PrintChanges(o.Streams.Out, changes)); err != nil {
		return err
	}
	where := namespace(changes)
	if slices.ContainsFunc(changes, func(c trackingserver.Change) bool { return c.Action != trackingserver.Unchanged }) {
		o.Talk.Say("MLflow is installed%s and answers.", where)
	} else {
		o.Talk.Say("MLflow is installed%s and answers; nothing changed.", where)
	}
	o.Talk.Say("Next: %s", o.Next)
	return nil
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
