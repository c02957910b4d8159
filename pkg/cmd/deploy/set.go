package deploy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"

	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/yaml"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/modelflags"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/deployments"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// SetClient is the part of deployments.Client that deploys a set, or says how it would.
type SetClient interface {
	DeployAll(ctx context.Context, s deployments.Set) (*deployments.Outcome, error)
	Plan(ctx context.Context, s deployments.Set) ([]deployments.Planned, error)
	Manifests(ctx context.Context, s deployments.Set) ([]map[string]any, error)
}

// SetOptions is what it takes to deploy a set, or to say how a set, or one deployment, would be.
type SetOptions struct {
	Client  SetClient
	Set     deployments.Set
	DryRun  bool
	Output  string
	Streams genericiooptions.IOStreams
	Talk    *ui.Progress
}

// toSet reads the file of deployments.
func (f *Flags) toSet(typed []string, in io.Reader, getenv func(string) string) (*SetOptions, error) {
	switch setting := f.Settings.Typed(); {
	case len(typed) > 0:
		return nil, conflict("arguments", "name and model are in the file", "leave out NAME and MODEL_URI, or -f")
	case f.Image != "" || f.Canary != 0:
		return nil, conflict("--image and --canary", "they are of one deployment", "leave them out, or -f")
	case setting != "":
		return nil, conflict("--"+setting, "it is of one deployment", "write it into the file, below defaults or a deployment")
	}
	set, err := readSet(f.File, in, func(name, modelURI string) deployments.Request {
		r := f.Model.Request([]string{name, modelURI}, getenv)
		r.Timeout, r.NoVerify, r.Adopt = f.Timeout, f.NoVerify, f.Adopt
		return r
	})
	if err != nil {
		return nil, err
	}
	set.Prune = f.Prune
	return &SetOptions{Set: set, DryRun: f.DryRun, Output: f.Output}, nil
}

func conflict(object, message, hint string) error {
	return &failure.Error{Class: failure.Invalid, Reason: "FileConflict", Object: object, Message: message, Hint: hint}
}

// Run deploys the set and prints what is deployed, or prints what would be.
func (o *SetOptions) Run(ctx context.Context) error {
	switch {
	case o.DryRun && o.Output != "":
		return o.manifests(ctx)
	case o.DryRun:
		return o.plan(ctx)
	}
	outcome, err := o.Client.DeployAll(ctx, o.Set)
	if outcome != nil {
		if printed := o.print(outcome); err == nil {
			err = printed
		}
	}
	return err
}

func (o *SetOptions) print(outcome *deployments.Outcome) error {
	rows := make([][]string, 0, len(outcome.Deployments))
	for _, d := range outcome.Deployments {
		rows = append(rows, []string{d.Name, d.ModelURI, d.Action, d.Revision, d.URL})
		o.Talk.Say("%s %s: %s", d.Name, d.Action, modelflags.Timings(d.Timings))
	}
	for _, name := range outcome.Deleted {
		rows = append(rows, []string{name, "", "deleted", "", ""})
	}
	return ui.Print(o.Streams.Out, o.Output, outcome, ui.Table([]string{"NAME", "MODEL", "ACTION", "REVISION", "URL"}, rows))
}

func (o *SetOptions) plan(ctx context.Context) error {
	planned, err := o.Client.Plan(ctx, o.Set)
	if err != nil {
		return err
	}
	rows := make([][]string, 0, len(planned))
	for _, p := range planned {
		rows = append(rows, []string{p.Name, p.ModelURI, p.Action})
	}
	o.Talk.Say("Nothing was built, sent or changed. With -o yaml, the images are made and the Services printed.")
	return ui.Print(o.Streams.Out, "", nil, ui.Table([]string{"NAME", "MODEL", "WOULD"}, rows))
}

// manifests prints the Services as documents, or as one List.
func (o *SetOptions) manifests(ctx context.Context) error {
	manifests, err := o.Client.Manifests(ctx, o.Set)
	if err != nil {
		return err
	}
	o.Talk.Say("The images are in their repositories; the cluster is as it was.")
	if o.Output == "json" {
		return ui.Print(o.Streams.Out, o.Output, map[string]any{"apiVersion": "v1", "kind": "List", "items": manifests}, "")
	}
	documents := make([]string, 0, len(manifests))
	for _, m := range manifests {
		text, err := yaml.Marshal(m)
		if err != nil {
			return fmt.Errorf("printing a Service: %w", err)
		}
		documents = append(documents, string(bytes.TrimSpace(text))+"\n")
	}
	_, err = io.WriteString(o.Streams.Out, strings.Join(documents, "---\n"))
	return err
}
