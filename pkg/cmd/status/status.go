// Package status is the verb that shows an installation on one screen.
package status

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/manifests"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/args"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/deployments"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/trackingserver"
)

// NewCommand makes the command. version is this program's.
func NewCommand(getter trackingserver.Getter, version string, streams genericiooptions.IOStreams, talk *ui.Progress) *cobra.Command {
	output, timeout := "", 30*time.Second
	command := &cobra.Command{
		Use:   "status",
		Short: "Show on one screen what there is of MLflow",
		Long: `Show on one screen what there is of MLflow: versions, pods and what ails them, volumes, where artifacts
and database are, as whom the pods go to Google, URLs, backups, what was begun and has not come to its
end, who is at work, and the models that are deployed.

Nothing is changed and no pod started. The exit code is 0 whenever it can be told, be it well or not:
kubectl mlflow wait and kubectl mlflow check are for scripts. What may not be read is said, and the rest
is shown. The fields of -o json stay: apiVersion mlflow.kubectl/v1alpha1, kind Status.`,
		Example: `  kubectl mlflow status
  kubectl mlflow status -o json`,
		Args: args.Exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := errors.Join(ui.CheckFormat(output), args.Positive("--timeout", timeout)); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context(), timeout)
			defer cancel()
			o := &Options{
				Server: trackingserver.New(getter, manifests.FS, talk), Models: deployments.New(getter, talk), Version: version,
				Output: output, Now: time.Now(), Forward: ui.Next(c, "port-forward"), Streams: streams,
			}
			return o.Run(ctx)
		},
	}
	command.Flags().StringVarP(&output, "output", "o", output, "Output format: "+ui.Formats)
	command.Flags().DurationVar(&timeout, "timeout", timeout, "How long it may take")
	return command
}

// Server is the part of trackingserver.Client that this verb needs.
type Server interface {
	Status(ctx context.Context) (trackingserver.Status, error)
}

// Models is the part of deployments.Client that this verb needs.
type Models interface {
	List(ctx context.Context, namespace string) ([]deployments.Deployment, error)
}

// Options is what the verb needs.
type Options struct {
	Server  Server
	Models  Models
	Version string // of this program
	Output  string
	Now     time.Time
	Forward string // command line that leads to MLflow
	Streams genericiooptions.IOStreams
}

// document is what -o prints.
type document struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Plugin     string `json:"plugin"`
	trackingserver.Status
	Deployments []deployments.Deployment `json:"deployments"`
}

// Run asks both halves at once and prints.
func (o *Options) Run(ctx context.Context) error {
	d := document{APIVersion: "mlflow.kubectl/v1alpha1", Kind: "Status", Plugin: o.Version, Deployments: []deployments.Deployment{}}
	unknown := ""
	var both errgroup.Group
	both.Go(func() (err error) {
		d.Status, err = o.Server.Status(ctx)
		return err
	})
	both.Go(func() error {
		found, err := o.Models.List(ctx, "")
		switch {
		case failure.ClassOf(err) == failure.Forbidden:
			unknown = fmt.Sprintf("deployments: %v", err)
		case noKnative(err):
		case err != nil:
			return err
		default:
			d.Deployments = append(d.Deployments, found...)
		}
		return nil
	})
	if err := both.Wait(); err != nil {
		return err
	}
	if unknown != "" {
		d.Unknown = append(d.Unknown, unknown)
	}
	return ui.Print(o.Streams.Out, o.Output, d, o.screen(d))
}

// noKnative tells a cluster that has no deployed models because it has no place for them.
func noKnative(err error) bool {
	f, ok := errors.AsType[*failure.Error](err)
	return ok && f.Reason == "KnativeMissing"
}

func (o *Options) screen(d document) string {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-11s %s\n", name, ui.Escape(value))
		}
	}
	line("MLflow", fmt.Sprintf("%s in namespace %s, overlay %s", d.MLflow, d.Namespace, d.Overlay))
	line("Image", d.Image)
	line("Schema", d.Schema)
	line("Plugin", o.Version)
	line("Database", d.Database)
	line("Artifacts", d.Artifacts)
	for i, id := range d.Identities {
		line(first(i, "Identities"), id.ServiceAccount+" is "+id.Google)
	}
	if d.Backups != nil {
		last := "none yet"
		if !d.Backups.LastSuccess.IsZero() {
			last = "the last one " + o.ago(d.Backups.LastSuccess) + " ago"
		}
		line("Backups", d.Backups.Schedule+"; "+last)
	}
	for i, url := range d.URLs {
		line(first(i, "URLs"), url)
	}
	if len(d.URLs) > 0 {
		line("", o.Forward)
	}
	line("Underway", d.Underway)
	line("At work", d.Lock)
	for i, what := range d.Unknown {
		line(first(i, "Unknown"), what)
	}
	o.tables(&b, d)
	return b.String()
}

// tables are those that have rows.
func (o *Options) tables(b *strings.Builder, d document) {
	table := func(header []string, rows [][]string) {
		if len(rows) > 0 {
			b.WriteString("\n" + ui.Table(header, rows))
		}
	}
	var pods, volumes, models [][]string
	for _, p := range d.Pods {
		state := p.Phase
		if p.Ready {
			state = "Ready"
		}
		pods = append(pods, []string{p.Name, p.Component, state, strconv.Itoa(int(p.Restarts)), o.ago(p.Started), p.Problem})
	}
	for _, v := range d.Volumes {
		volumes = append(volumes, []string{v.Name, v.Phase, v.Size, v.Class})
	}
	for _, m := range d.Deployments {
		ready := "True"
		if !m.Ready {
			ready = strings.TrimSpace("False " + m.Reason)
		}
		models = append(models, []string{m.Namespace, m.Name, m.ModelURI, ready, m.URL})
	}
	table([]string{"POD", "COMPONENT", "STATE", "RESTARTS", "AGE", "PROBLEM"}, pods)
	table([]string{"VOLUME", "STATE", "SIZE", "CLASS"}, volumes)
	table([]string{"NAMESPACE", "DEPLOYMENT", "MODEL", "READY", "URL"}, models)
}

func (o *Options) ago(at time.Time) string { return duration.HumanDuration(o.Now.Sub(at)) }

// first is the name in front of a list's first line, and nothing in front of the others.
func first(i int, name string) string {
	if i > 0 {
		return ""
	}
	return name
}
