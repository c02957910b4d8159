package deployments

import (
	"cmp"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/deploy"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/args"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/modelflags"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/deployments"
)

// newModel makes create or update: deploy, but for one half of what that does.
func newModel(only, short, long, example string, g Group) *cobra.Command {
	flags := deploy.NewFlags()
	spelled := mlflowFlags{}
	command := &cobra.Command{
		Use:         only + " NAME MODEL_URI",
		Short:       short,
		Long:        long,
		Example:     example,
		Args:        args.AtMost(2),
		Annotations: map[string]string{ui.Interrupted: deploy.Interrupted},
		RunE: func(c *cobra.Command, typed []string) error {
			o, err := options(c, &flags, spelled, typed, g)
			if err != nil {
				return err
			}
			o.Request.Only = deployments.Only(only)
			o.Client, o.Streams, o.Talk = modelflags.Client(g.Getter, g.Talk, g.Getenv), g.Streams, g.Talk
			o.Next, o.Promote = deploy.Next(c, o.Request.Name), ui.Next(c, "traffic", o.Request.Name, "--promote")
			return o.Run(c.Context())
		},
	}
	spelled.model(command)
	flags.Add(command.Flags())
	return command
}

// options are what the words and MLflow's flags ask for together.
func options(c *cobra.Command, flags *deploy.Flags, spelled mlflowFlags, typed []string, g Group) (*deploy.Options, error) {
	typed, err := words(typed, []string{"NAME", "MODEL_URI"}, spelled.Name, spelled.ModelURI)
	if err != nil {
		return nil, err
	}
	if err := spelled.checkFlavor(); err != nil {
		return nil, err
	}
	config, err := spelled.config()
	if err != nil {
		return nil, err
	}
	flags.Model.ImageRepository = cmp.Or(flags.Model.ImageRepository, config["image_repository"])
	flags.Model.ImageTag = cmp.Or(flags.Model.ImageTag, config["image_tag"])
	if file := config["service_template"]; file != "" && !c.Flags().Changed("service-template") {
		if err := flags.Settings.SetTemplate(file); err != nil {
			return nil, err
		}
	}
	o, err := flags.ToOptions(typed, g.Getenv)
	if err != nil {
		return nil, err
	}
	if c.Flags().Changed("namespace") {
		return o, g.use(c, spelled)
	}
	o.Request.Namespace = config["namespace"]
	if err := o.Request.Validate(); err != nil {
		return nil, err
	}
	if flag := c.Flags().Lookup("namespace"); flag != nil && o.Request.Namespace != "" { // for the next command to type
		if err := c.Flags().Set("namespace", o.Request.Namespace); err != nil {
			return nil, err
		}
	}
	return o, g.use(c, spelled)
}

// Group is what the group's verbs have in common.
type Group struct {
	Getter  deployments.Getter
	Streams genericiooptions.IOStreams
	Talk    *ui.Progress
	Getenv  func(string) string
	// Context makes Getter's the kubeconfig context that MLflow's --target names.
	Context func(name string)
}

func (g Group) use(c *cobra.Command, spelled mlflowFlags) error {
	name, err := spelled.context(c)
	if err == nil && name != "" {
		g.Context(name)
	}
	return err
}

func newCreate(g Group) *cobra.Command {
	return newModel(string(deployments.OnlyCreate), "Deploy a model that is not deployed yet", `Deploy a model under a name that is free: 'kubectl mlflow deploy', but a deployment that is there is
refused. It takes the flags of 'mlflow deployments create' for the target knative, too; its namespace is
the kubeconfig context's, where the Python plugin mlflow-knative takes "default".`,
		`  kubectl mlflow deployments create iris models:/iris/3 --image-repository registry.example.com/models/iris

  # In MLflow's words
  kubectl mlflow deployments create -t knative:/my-cluster --name iris -m models:/iris/3 \
    -C image_repository=registry.example.com/models/iris -C namespace=default`, g)
}

func newUpdate(g Group) *cobra.Command {
	return newModel(string(deployments.OnlyUpdate), "Give a deployed model a new version", `Give a deployed model a new version: 'kubectl mlflow deploy', but a deployment that is not there is
not made. It takes the flags of 'mlflow deployments update' for the target knative, too.`,
		`  kubectl mlflow deployments update iris models:/iris/4

  # In MLflow's words
  kubectl mlflow deployments update -t knative:/my-cluster --name iris -m models:/iris/4`, g)
}
