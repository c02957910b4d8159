package complete

import (
	"context"
	"maps"
	"slices"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/deployments"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// most is how many names are asked for: nobody reads more.
const most = 500

func (k *Completer) contexts(context.Context, *cobra.Command, string) []string {
	return slices.Sorted(maps.Keys(k.kubeconfig().Contexts))
}

func (k *Completer) clusters(context.Context, *cobra.Command, string) []string {
	return slices.Sorted(maps.Keys(k.kubeconfig().Clusters))
}

func (k *Completer) users(context.Context, *cobra.Command, string) []string {
	return slices.Sorted(maps.Keys(k.kubeconfig().AuthInfos))
}

// targets are the contexts in MLflow's words.
func (k *Completer) targets(ctx context.Context, c *cobra.Command, typed string) []string {
	out := []string{"knative"}
	for _, name := range k.contexts(ctx, c, typed) {
		out = append(out, "knative:/"+name)
	}
	return out
}

// kubeconfig is empty where it cannot be read.
func (k *Completer) kubeconfig() api.Config {
	config, err := k.getter.ToRawKubeConfigLoader().RawConfig()
	if err != nil {
		return api.Config{}
	}
	return config
}

func (k *Completer) namespaces(ctx context.Context, _ *cobra.Command, _ string) []string {
	config, err := k.getter.ToRESTConfig()
	if err != nil {
		return nil
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil
	}
	list, err := client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}).List(ctx, metav1.ListOptions{Limit: most})
	if err != nil {
		return nil
	}
	var names []string
	for _, item := range list.Items {
		names = append(names, item.GetName())
	}
	return names
}

// deployments are those of the namespace that the line names, or the kubeconfig.
func (k *Completer) deployments(ctx context.Context, _ *cobra.Command, _ string) []string {
	namespace, _, err := k.getter.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return nil
	}
	found, err := deployments.New(k.getter, progress.Discard{}).List(ctx, namespace)
	if err != nil {
		return nil
	}
	var names []string
	for _, d := range found {
		names = append(names, d.Name)
	}
	return names
}
