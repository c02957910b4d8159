// Package check is the verb that tells whether MLflow's pods can do their work.
package check

import (
	"context"
	"errors"
	"fmt"
	"strings"
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
	Timeout time.Duration
	Output  string
}

// NewCommand makes the command.
func NewCommand(getter genericclioptions.RESTClientGetter, streams genericiooptions.IOStreams, talk *ui.Progress) *cobra.Command {
	flags := Flags{}
	command := &cobra.Command{
		Use:   "check",
		Short: "Tell whether MLflow's pods reach artifacts and database, and say what to do where not",
		Long: `Tell whether MLflow's pods can do their work, from pods like the server's: with its image, identity,
environment and volumes. Nothing of what they write stays.

  artifacts         a small file is written, read back and deleted where MLflow keeps artifacts, and
                    it is said as whom: without credentials MLflow goes to a bucket as anonymous,
                    and says nothing
  database          it answers, through the Cloud SQL Auth Proxy where there is one, and its schema
                    is the one that this MLflow wants
  network-policies  with --network-policies alone: whether the cluster's network enforces them, so
                    that a pod which none lets in does not reach the database

What was granted at Google a moment ago takes 2 to 7 minutes: until the time is over such a refusal
is waited out, and said. Standard output has one line a check; the exit code is 4 where one failed.`,
		Example: `  kubectl mlflow check

  # Right after gcp setup
  kubectl mlflow check --timeout 10m

  # For programs
  kubectl mlflow check -o json`,
		Args:        args.Exactly(),
		Annotations: map[string]string{ui.Interrupted: "nothing was changed; what the check made is deleted, or goes within minutes"},
		RunE: func(c *cobra.Command, _ []string) error {
			if err := flags.check(c.Flags().Changed("timeout")); err != nil {
				return err
			}
			o := &Options{Flags: flags, Checker: trackingserver.New(getter, manifests.FS, talk), Streams: streams, Talk: talk}
			return o.Run(c.Context())
		},
	}
	command.Flags().StringVarP(&flags.Output, "output", "o", flags.Output, "Output format: "+ui.Formats)
	command.Flags().DurationVar(&flags.Timeout, "timeout", flags.Timeout, "How long to wait out what may pass (default 10m with an overlay of Google's, else 1m)")
	return command
}

// check needs no network.
func (f *Flags) check(typed bool) error {
	var timeout error
	if typed {
		timeout = args.Positive("--timeout", f.Timeout)
	}
	return errors.Join(timeout, ui.CheckFormat(f.Output))
}

// Checker is the part of trackingserver.Client that this verb needs.
type Checker interface {
	Check(ctx context.Context, patience time.Duration) ([]trackingserver.Checked, error)
}

// Options is what the verb needs.
type Options struct {
	Flags
	Checker Checker
	Streams genericiooptions.IOStreams
	Talk    *ui.Progress
}

// Run checks. All results are printed, and then what to do about those that failed.
func (o *Options) Run(ctx context.Context) error {
	results, err := o.Checker.Check(ctx, o.Timeout)
	var lines strings.Builder
	failed := []error{err}
	for _, r := range results {
		fmt.Fprintf(&lines, "%s %s\n", ui.Escape(r.Name), ui.Escape(r.State))
		if r.Failure != nil {
			failed = append(failed, r.Failure)
			continue
		}
		o.say(r)
	}
	if len(results) == 0 {
		return err
	}
	var items struct {
		Items []trackingserver.Checked `json:"items"`
	}
	items.Items = results
	return errors.Join(append([]error{ui.Print(o.Streams.Out, o.Output, items, lines.String())}, failed...)...)
}

// say tells what a line of a result has no room for.
func (o *Options) say(r trackingserver.Checked) {
	if r.Message != "" {
		text := "warning: " + r.Message
		if r.Hint != "" {
			text += ": " + r.Hint
		}
		o.Talk.Say("%s", text)
		return
	}
	if r.Where != "" && r.Identity != "" {
		o.Talk.Say("%s: %s as %s", r.Name, r.Where, r.Identity)
	}
}
