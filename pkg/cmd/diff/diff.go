// Package diff is the verb that shows what install would change.
package diff

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/aymanbagabas/go-udiff"
	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/cli-runtime/pkg/printers"
	"sigs.k8s.io/yaml"

	"github.com/kubectl-mlflow/kubectl-mlflow/manifests"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/args"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/parameters"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/trackingserver"
)

// NewCommand makes the command.
func NewCommand(getter trackingserver.Getter, streams genericiooptions.IOStreams, talk *ui.Progress) *cobra.Command {
	timeout := time.Minute
	command := &cobra.Command{
		Use:   "diff",
		Short: "Show what install would change on the cluster",
		Long: `Show what install would change on the cluster, as a unified diff of each object as it is and as the API
server would store it. What a flag does not say is as in the last install. Nothing is changed.

It exits 0 where nothing differs and 1 where something does; other codes are failures. What is in
Secrets is not shown.`,
		Example: `  kubectl mlflow diff
  kubectl mlflow diff --limits memory=4Gi`,
		Args: args.Exactly(),
	}
	typed := parameters.Add(command.Flags())
	applying := parameters.AddApply(command.Flags())
	command.RunE = func(c *cobra.Command, _ []string) error {
		p, notes, err := typed.Parameters(c.Flag("namespace").Value.String())
		if err := errors.Join(err, args.Positive("--timeout", timeout)); err != nil {
			return err
		}
		how, err := applying.Options(streams.In, func(line string) { talk.Say("%s", line) })
		if err != nil {
			return err
		}
		for _, note := range notes {
			talk.Say("%s", note)
		}
		o := &Options{Planner: trackingserver.New(getter, manifests.FS, talk), Parameters: p, How: how, Timeout: timeout, Streams: streams}
		return o.Run(c.Context())
	}
	command.Flags().DurationVar(&timeout, "timeout", timeout, "How long all of it may take")
	return command
}

// Planner is the part of trackingserver.Client that this verb needs.
type Planner interface {
	Plan(ctx context.Context, p trackingserver.Parameters, o trackingserver.Options, dry trackingserver.DryRun) ([]trackingserver.Difference, error)
}

// Options is what the verb needs.
type Options struct {
	Planner    Planner
	Parameters trackingserver.Parameters
	How        trackingserver.Options
	Timeout    time.Duration
	Streams    genericiooptions.IOStreams
}

// Run prints the differences. ui.ErrDiffers where there are any.
func (o *Options) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	plan, err := o.Planner.Plan(ctx, o.Parameters, o.How, trackingserver.DryRunServer)
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, d := range plan {
		if d.Action == trackingserver.Unchanged {
			continue
		}
		text, err := unified(d)
		if err != nil {
			return err
		}
		b.WriteString(text)
	}
	if b.Len() == 0 {
		return nil
	}
	if err := write(o.Streams.Out, b.String()); err != nil {
		return err
	}
	return ui.ErrDiffers
}

func write(w io.Writer, text string) error {
	if printers.IsTerminal(w) {
		return ui.Data(w, []byte(text))
	}
	_, err := io.WriteString(w, text)
	return err
}

// unified is the diff of one object; of a Secret, that it would be made.
func unified(d trackingserver.Difference) (string, error) {
	name := d.Object()
	if d.Before == nil && d.After == nil {
		return fmt.Sprintf("# %s would be %s; what is in it is not shown\n", name, d.Action), nil
	}
	before, err := text(d.Before)
	if err != nil {
		return "", err
	}
	after, err := text(d.After)
	if err != nil {
		return "", err
	}
	return udiff.Unified("cluster/"+name, "install/"+name, before, after), nil
}

func text(obj *unstructured.Unstructured) (string, error) {
	if obj == nil {
		return "", nil
	}
	out, err := yaml.Marshal(ui.WithoutBookkeeping(obj).Object)
	if err != nil {
		return "", fmt.Errorf("printing %s %s: %w", obj.GetKind(), obj.GetName(), err)
	}
	return string(out), nil
}
