package complete

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/modelflags"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/deployments"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

const registered = "models:/"

// position is what may stand as one of a command's words.
type position func(c *cobra.Command, typed string) ([]cobra.Completion, cobra.ShellCompDirective)

// positions are the words of the command at path.
func (k *Completer) positions(path string) []position {
	name := func(c *cobra.Command, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return answer(c, k.deployments, typed), cobra.ShellCompDirectiveNoFileComp
	}
	switch path {
	case "deploy", "build", "deployments create", "deployments update":
		return []position{name, k.model}
	case "predict", "deployments predict", "deployments get", "deployments delete", "deployments wait", "deployments logs", "traffic", "rollback":
		return []position{name}
	}
	return nil
}

// model is a MODEL_URI: a registered model, or a directory.
func (k *Completer) model(c *cobra.Command, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if !strings.HasPrefix(registered, typed) && !strings.HasPrefix(typed, registered) {
		return nil, cobra.ShellCompDirectiveDefault
	}
	found := answer(c, k.modelURIs, typed)
	if typed == "" && len(found) == 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return found, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// modelURIs names the registered models; behind the name of one its versions and aliases.
func (k *Completer) modelURIs(ctx context.Context, c *cobra.Command, typed string) []string {
	client := deployments.New(k.getter, progress.Discard{}, deployments.WithEnvironment(k.getenv))
	server := k.server(c)
	name, complete := cut(strings.TrimPrefix(typed, registered))
	var out []string
	if !complete {
		models, err := client.Models(ctx, server)
		if err != nil {
			return nil
		}
		for _, model := range models {
			out = append(out, registered+model)
			complete = complete || model == name
		}
	}
	if !complete {
		return out
	}
	numbers, aliases, err := client.Versions(ctx, server, name)
	if err != nil {
		return out
	}
	for _, number := range numbers {
		out = append(out, registered+name+"/"+number)
	}
	for _, alias := range aliases {
		out = append(out, registered+name+"@"+alias)
	}
	return out
}

// cut is the name of a model, and whether there is more behind it: a version or an alias, or the beginning of one.
func cut(text string) (name string, found bool) {
	if i := strings.IndexAny(text, "/@"); i >= 0 {
		return text[:i], true
	}
	return text, false
}

// server is the tracking server that the line names, or the environment.
func (k *Completer) server(c *cobra.Command) deployments.Request {
	flags := modelflags.Flags{}
	if f := c.Flag("tracking-uri"); f != nil {
		flags.TrackingURI = f.Value.String()
	}
	if f := c.Flag("tracking-service"); f != nil {
		flags.TrackingService = f.Value.String()
	}
	return flags.Request([]string{"", ""}, k.getenv)
}
