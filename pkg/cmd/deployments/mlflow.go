package deployments

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// mlflowFlags are what `mlflow deployments` has, for those whose fingers or scripts know it: what they say stands as well before or after
// the verb in this plugin's own words.
type mlflowFlags struct {
	Target   string
	Name     string
	ModelURI string
	Flavor   string
	Config   []string
}

// target is the place that MLflow's --target names.
func (f *mlflowFlags) target(c *cobra.Command) {
	c.Flags().StringVarP(&f.Target, "target", "t", f.Target, "As of mlflow deployments: knative:/CONTEXT, which is --context CONTEXT")
	c.Flags().StringVar(&f.Name, "name", f.Name, "As of mlflow deployments: NAME")
}

// model is what MLflow's create and update have besides.
func (f *mlflowFlags) model(c *cobra.Command) {
	f.target(c)
	c.Flags().StringVarP(&f.ModelURI, "model-uri", "m", f.ModelURI, "As of mlflow deployments: MODEL_URI")
	c.Flags().StringVarP(&f.Flavor, "flavor", "f", f.Flavor, "As of mlflow deployments; python_function alone is served")
	c.Flags().StringArrayVarP(&f.Config, "config", "C", f.Config, "As of mlflow deployments, KEY=VALUE: "+strings.Join(configKeys(), ", "))
}

func configKeys() []string {
	return []string{"image_repository", "image_tag", "namespace", "service_template"}
}

// words are the arguments of the verb, by name, of which some may be given as flags.
func words(typed []string, names []string, flags ...string) ([]string, error) {
	left := typed
	all := make([]string, len(names))
	for i, name := range names {
		all[i] = flags[i]
		if all[i] != "" {
			continue
		}
		if len(left) == 0 {
			return nil, &failure.Error{
				Class: failure.Invalid, Reason: "ArgumentMissing", Message: name + " is missing", Hint: "give it as an argument, or as MLflow's flag: see --help",
			}
		}
		all[i], left = left[0], left[1:]
	}
	if len(left) > 0 {
		return nil, &failure.Error{
			Class: failure.Invalid, Reason: "ArgumentUnexpected", Message: fmt.Sprintf("unexpected argument %q", left[0]), Hint: "leave it out, or the flag that says the same",
		}
	}
	return all, nil
}

// context is the kubeconfig context in the target, "" for the current one.
func (f *mlflowFlags) context(c *cobra.Command) (string, error) {
	scheme, name, _ := strings.Cut(f.Target, ":")
	name = strings.TrimLeft(name, "/")
	switch {
	case f.Target == "":
		return "", nil
	case scheme != "knative":
		return "", &failure.Error{
			Class: failure.Invalid, Reason: "TargetInvalid", Message: fmt.Sprintf("target %q is not Knative's", f.Target),
			Hint: "write it as knative:/CONTEXT; kubectl config get-contexts lists them",
		}
	case name != "" && c.Flags().Changed("context"):
		return "", &failure.Error{Class: failure.Invalid, Reason: "TargetTwice", Message: "both --target and --context name a context", Hint: "leave one of them out"}
	}
	return name, nil
}

// config reads KEY=VALUE pairs.
func (f *mlflowFlags) config() (map[string]string, error) {
	values := map[string]string{}
	for _, pair := range f.Config {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || value == "" || !slices.Contains(configKeys(), key) {
			return nil, &failure.Error{
				Class: failure.Invalid, Reason: "ConfigInvalid", Message: fmt.Sprintf("--config %q is not one that is known", pair),
				Hint: "write it as KEY=VALUE, with one of the keys " + strings.Join(configKeys(), ", "),
			}
		}
		values[key] = value
	}
	return values, nil
}

// checkFlavor is failure.Invalid for what is not served.
func (f *mlflowFlags) checkFlavor() error {
	if cmp.Or(f.Flavor, "python_function") == "python_function" {
		return nil
	}
	return &failure.Error{
		Class: failure.Invalid, Reason: "FlavorUnknown", Message: fmt.Sprintf("flavor %q is not served", f.Flavor),
		Hint: "leave --flavor out: every model that MLflow can load as python_function is served as that",
	}
}
