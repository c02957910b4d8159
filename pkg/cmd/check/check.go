// Package check is the verb that tells whether MLflow's pods can do their work, and before that whether a cluster is fit for them.
package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/manifests"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/args"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/parameters"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/deployments"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/trackingserver"
)

// Flags is what the user typed.
type Flags struct {
	Timeout         time.Duration
	Output          string
	Pre             bool
	ImageRepository string
}

// docs is where there is a section about each check.
const docs = "https://github.com/kubectl-mlflow/kubectl-mlflow/blob/main/docs/troubleshooting.md#"

// before is how long --pre takes at most: it waits for nothing but answers.
const before = time.Minute

// NewCommand makes the command. getenv is os.Getenv.
func NewCommand(getter trackingserver.Getter, streams genericiooptions.IOStreams, talk *ui.Progress, getenv func(string) string) *cobra.Command {
	flags := Flags{}
	command := &cobra.Command{
		Use:   "check",
		Short: "Tell whether MLflow can do its work, or with --pre whether the cluster is fit for it",
		Long: `Tell whether MLflow's pods can do their work, from pods like the server's: with its image, identity,
environment and volumes. Nothing of what they write stays.

  artifacts          a small file is written, read back and deleted where MLflow keeps artifacts, and
                     it is said as whom: without credentials MLflow goes to a bucket as anonymous,
                     and says nothing
  database           it answers, through the Cloud SQL Auth Proxy where there is one, and its schema
                     is the one that this MLflow wants
  network-policies   with --network-policies alone: whether the cluster's network enforces them, so
                     that a pod which none lets in does not reach the database

What was granted at Google a moment ago takes 2 to 7 minutes: until the time is over such a refusal
is waited out, and said.

With --pre it looks whether the cluster is fit for what install would bring with the same flags, and
starts and writes nothing:

  kubernetes         the cluster's version is new enough
  rights             you may do what install does; else the Role that is missing is printed
  names              nothing of somebody else's has the names of MLflow's objects
  storage-class      the volumes' storage class is there
  admission          the API server would take the objects: quota, policies, webhooks
  network-policies   what the network plugin makes of NetworkPolicies, as far as its name tells

and what deploy needs in the namespace, where --image-repository names one; else what is missing is a
warning:

  knative            Knative Serving is there, new enough, and takes a Service
  deployment-rights  you may do what deploy does
  architectures      what the nodes are made of, and so what images are built for
  image-repository   you may push there
  image-pull         pods in the namespace may pull from there

Standard output has one line a check; the exit code is that of the first that failed.`,
		Example: `  kubectl mlflow check

  # Right after gcp setup
  kubectl mlflow check --timeout 10m

  # Is this cluster fit for it?
  kubectl mlflow check --pre --storage-class fast --image-repository registry.example.com/models

  # For programs
  kubectl mlflow check -o json`,
		Args:        args.Exactly(),
		Annotations: map[string]string{ui.Interrupted: "nothing was changed; what the check made is deleted, or goes within minutes"},
	}
	own := map[string]bool{}
	command.Flags().StringVarP(&flags.Output, "output", "o", flags.Output, "Output format: "+ui.Formats)
	command.Flags().DurationVar(&flags.Timeout, "timeout", flags.Timeout, "How long to wait out what may pass (default 10m with an overlay of Google's, else 1m)")
	command.Flags().BoolVar(&flags.Pre, "pre", flags.Pre, "Look whether the cluster is fit for what install would bring with the same flags, and for deploy")
	command.Flags().VisitAll(func(f *pflag.Flag) { own[f.Name] = true })
	command.Flags().StringVar(&flags.ImageRepository, "image-repository", flags.ImageRepository, "Repository that models' images are to go to. Default: $"+args.ImageRepository)
	typed := parameters.Add(command.Flags())
	command.RunE = func(c *cobra.Command, _ []string) error {
		if err := flags.check(c.LocalNonPersistentFlags(), own); err != nil {
			return err
		}
		o := &Options{Flags: flags, Checker: trackingserver.New(getter, manifests.FS, talk), Streams: streams, Talk: talk}
		if !flags.Pre {
			return o.Run(c.Context())
		}
		p, notes, err := typed.Parameters(c.Flag("namespace").Value.String())
		if err != nil {
			return err
		}
		for _, note := range notes {
			talk.Say("%s", note)
		}
		o.Parameters, o.Deployments = p, deployments.New(getter, talk)
		o.ImageRepository = cmp.Or(o.ImageRepository, getenv(args.ImageRepository))
		return o.Run(c.Context())
	}
	return command
}

// check needs no network. own are the flags that go without --pre.
func (f *Flags) check(typed *pflag.FlagSet, own map[string]bool) error {
	var errs []error
	if typed.Changed("timeout") {
		errs = append(errs, args.Positive("--timeout", f.Timeout))
	}
	if !f.Pre {
		typed.Visit(func(flag *pflag.Flag) {
			if !own[flag.Name] {
				errs = append(errs, &failure.Error{
					Class: failure.Invalid, Reason: "WithoutPre", Object: "--" + flag.Name,
					Message: "it says what is to be installed or deployed; check looks at what is there", Hint: "leave it out, or add --pre",
				})
			}
		})
	}
	return errors.Join(append(errs, ui.CheckFormat(f.Output))...)
}

// Checker is the part of trackingserver.Client that this verb needs.
type Checker interface {
	Check(ctx context.Context, patience time.Duration) ([]failure.Checked, error)
	Preflight(ctx context.Context, p trackingserver.Parameters) ([]failure.Checked, error)
}

// Deployments is the part of deployments.Client that this verb needs.
type Deployments interface {
	Preflight(ctx context.Context, namespace, imageRepository string) ([]failure.Checked, error)
}

// Options is what the verb needs.
type Options struct {
	Flags
	Parameters  trackingserver.Parameters // with Pre
	Checker     Checker
	Deployments Deployments // with Pre
	Streams     genericiooptions.IOStreams
	Talk        *ui.Progress
}

// Run checks. All results are printed, and then what to do about those that failed.
func (o *Options) Run(ctx context.Context) error {
	look := func() ([]failure.Checked, error) { return o.Checker.Check(ctx, o.Timeout) }
	if o.Pre {
		look = func() ([]failure.Checked, error) { return o.preflight(ctx) }
	}
	results, err := look()
	var lines strings.Builder
	failed := []error{err}
	for i := range results {
		r := &results[i]
		fmt.Fprintf(&lines, "%s %s\n", ui.Escape(r.Name), ui.Escape(r.State))
		if r.State != failure.CheckOK && r.State != failure.CheckSkipped {
			r.Docs = docs + r.Name
		}
		if r.Failure != nil {
			told := *r.Failure
			told.Evidence = append(slices.Clone(told.Evidence), "see "+r.Docs)
			failed = append(failed, &told)
			continue
		}
		o.say(*r)
	}
	if len(results) == 0 {
		return err
	}
	var items struct {
		Items []failure.Checked `json:"items"`
	}
	items.Items = results
	return errors.Join(append([]error{ui.Print(o.Streams.Out, o.Output, items, lines.String())}, failed...)...)
}

// preflight looks at both halves.
func (o *Options) preflight(ctx context.Context) ([]failure.Checked, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(o.Timeout, before))
	defer cancel()
	results, err := o.Checker.Preflight(ctx, o.Parameters)
	if err != nil {
		return results, err
	}
	more, err := o.Deployments.Preflight(ctx, o.Parameters.Namespace, o.ImageRepository)
	return append(results, more...), err
}

// say tells what a line of a result has no room for.
func (o *Options) say(r failure.Checked) {
	switch {
	case r.State == failure.CheckSkipped, r.State == failure.CheckUnknown:
		o.Talk.Say("%s: %s: %s", r.Name, r.State, r.Message)
	case r.Message != "":
		text := "warning: " + r.Name + ": " + r.Message
		if r.Hint != "" {
			text += ": " + r.Hint
		}
		o.Talk.Say("%s", text)
	case r.Where != "" && r.Identity != "":
		o.Talk.Say("%s: %s as %s", r.Name, r.Where, r.Identity)
	case r.Where != "":
		o.Talk.Say("%s: %s", r.Name, r.Where)
	}
}
