// Package traffic is the two verbs that give a deployment's requests to its versions.
package traffic

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/args"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/deployments"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// Client is the part of deployments.Client that these verbs need.
type Client interface {
	Revisions(ctx context.Context, namespace, name string) ([]deployments.Revision, error)
	SetTraffic(ctx context.Context, r deployments.TrafficRequest) ([]deployments.Share, error)
	Rollback(ctx context.Context, r deployments.TrafficRequest) ([]deployments.Share, error)
}

// NewCommand makes the verb traffic.
func NewCommand(getter deployments.Getter, streams genericiooptions.IOStreams, talk *ui.Progress) *cobra.Command {
	o := Options{Timeout: deployments.DefaultTimeout}
	promote := false
	command := &cobra.Command{
		Use:   "traffic NAME [REVISION=PERCENT]...",
		Short: "Show which versions of a deployed model get the requests, or say which are to",
		Long: `Show which versions of a deployed model get the requests, or say which are to. Nothing is built or
started anew, and no request is lost.

REVISION is the name of a revision, the version of its model, 'new' for what was deployed last, or
'old' for what has most of the requests beside it. What the shares lack to 100 stays with the others,
in the proportions that they have.`,
		Example: `  # Which versions are there, and who gets what?
  kubectl mlflow traffic iris

  # A fifth for the version that 'deploy --canary' has brought, then all
  kubectl mlflow traffic iris new=20
  kubectl mlflow traffic iris --promote

  # Two versions of the model, half of the requests each
  kubectl mlflow traffic iris 3=50 4=50`,
		Args: func(_ *cobra.Command, typed []string) error {
			if len(typed) == 0 {
				return args.Exactly("NAME")(nil, typed)
			}
			return nil
		},
		Annotations: map[string]string{ui.Interrupted: "the gateway may still change over; see who gets the requests: kubectl mlflow traffic"},
		RunE: func(c *cobra.Command, typed []string) error {
			if err := o.complete(typed, promote); err != nil {
				return err
			}
			o.Client, o.Out = deployments.New(getter, talk), streams.Out
			return o.Run(c.Context())
		},
	}
	command.Flags().BoolVar(&promote, "promote", promote, "Give all requests to the version that was deployed last: new=100")
	o.add(command)
	return command
}

// Options is what both verbs need.
type Options struct {
	Client   Client
	Name     string
	Split    map[string]int64 // empty shows alone
	Rollback bool
	Timeout  time.Duration
	Output   string
	Out      io.Writer
}

func (o *Options) add(command *cobra.Command) {
	command.Flags().DurationVar(&o.Timeout, "timeout", o.Timeout, "How long the gateway may take to follow")
	command.Flags().StringVarP(&o.Output, "output", "o", o.Output, "Output format: "+ui.Formats)
}

// complete reads the arguments.
func (o *Options) complete(typed []string, promote bool) error {
	o.Name, o.Split = typed[0], map[string]int64{}
	if promote {
		if len(typed) > 1 {
			return invalid("PromoteConflict", "--promote and shares are given", "leave one of them out")
		}
		o.Split[deployments.NewRevision] = 100
	}
	for _, word := range typed[1:] {
		target, percent, ok := strings.Cut(word, "=")
		n, err := strconv.ParseInt(strings.TrimSuffix(percent, "%"), 10, 64)
		if !ok || err != nil || target == "" {
			return invalid("ShareInvalid", fmt.Sprintf("%q is not a share", word), "write REVISION=PERCENT, as in new=20")
		}
		if _, twice := o.Split[target]; twice {
			return invalid("ShareInvalid", fmt.Sprintf("%s is given twice", target), "name each revision once")
		}
		o.Split[target] = n
	}
	return o.check()
}

func (o *Options) check() error {
	if err := ui.CheckFormat(o.Output); err != nil {
		return err
	}
	return args.Positive("--timeout", o.Timeout)
}

func invalid(reason, message, hint string) error {
	return &failure.Error{Class: failure.Invalid, Reason: reason, Message: message, Hint: hint}
}

// Run changes the split where that is asked for, and prints the revisions.
func (o *Options) Run(ctx context.Context) error {
	r := deployments.TrafficRequest{Name: o.Name, Split: o.Split, Timeout: o.Timeout}
	var err error
	switch {
	case o.Rollback:
		_, err = o.Client.Rollback(ctx, r)
	case len(o.Split) > 0:
		_, err = o.Client.SetTraffic(ctx, r)
	}
	if err != nil {
		return err
	}
	revisions, err := o.Client.Revisions(ctx, "", o.Name)
	if err != nil {
		return err
	}
	return ui.Print(o.Out, o.Output, map[string]any{"revisions": revisions}, table(revisions))
}

func table(revisions []deployments.Revision) string {
	rows := make([][]string, 0, len(revisions))
	for _, r := range revisions {
		name := r.Name
		if r.Newest {
			name += " (new)"
		}
		rows = append(rows, []string{name, r.ModelURI, fmt.Sprintf("%d%%", r.Percent), strings.Join(r.Tags, ","), ui.Ready(r.Ready, r.Reason), ui.Age(r.Created)})
	}
	return ui.Table([]string{"REVISION", "MODEL", "TRAFFIC", "TAGS", "READY", "AGE"}, rows)
}
