package deployments

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/cluster"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/progress"
)

// defaultPlatform is taken where the nodes are of several architectures, or may not be seen.
const defaultPlatform = "linux/amd64"

// platform is the nodes', never that of the machine we run on.
func (c *Client) platform(ctx context.Context, asked string, why purpose, s progress.Step) (string, error) {
	if asked != "" {
		return asked, nil
	}
	architectures, err := c.nodes(ctx)
	switch {
	case why == toBuild && noCluster(err):
		s.Note(fmt.Sprintf("no cluster is configured: building for %s; another one: --platform", defaultPlatform))
	case err != nil:
		return "", err
	case len(architectures) == 1:
		return "linux/" + architectures[0], nil
	case len(architectures) > 1:
		s.Note(fmt.Sprintf("the cluster has nodes of %s: building for %s; another one: --platform", strings.Join(architectures, ", "), defaultPlatform))
	}
	return defaultPlatform, nil
}

// architectures are those of the Linux nodes, sorted; none where the user may not list nodes.
func architectures(ctx context.Context, k *cluster.Client) ([]string, error) {
	nodes, err := k.List(ctx, cluster.Query{GroupVersionKind: schema.GroupVersionKind{Version: "v1", Kind: "Node"}, Optional: true})
	if err != nil {
		return nil, err
	}
	var found []string
	for _, node := range nodes {
		os, _, err := unstructured.NestedString(node.Object, "status", "nodeInfo", "operatingSystem")
		if err != nil {
			return nil, fmt.Errorf("%s: %w", cluster.RefOf(node), err)
		}
		architecture, _, err := unstructured.NestedString(node.Object, "status", "nodeInfo", "architecture")
		if err != nil {
			return nil, fmt.Errorf("%s: %w", cluster.RefOf(node), err)
		}
		if os == "linux" && architecture != "" {
			found = append(found, architecture)
		}
	}
	slices.Sort(found)
	return slices.Compact(found), nil
}

// repositoryOf is an image reference without its digest and tag.
func repositoryOf(image string) string {
	repository, _, _ := strings.Cut(image, "@")
	if colon := strings.LastIndex(repository, ":"); colon > strings.LastIndex(repository, "/") {
		repository = repository[:colon]
	}
	return repository
}

func isNotFound(err error) bool { return reasonOf(err) == "DeploymentNotFound" }

// noCluster tells that the kubeconfig, or its absence, leads to no cluster at all.
func noCluster(err error) bool { return reasonOf(err) == "NoKubeconfig" }

func reasonOf(err error) string {
	if f, ok := errors.AsType[*failure.Error](err); ok {
		return f.Reason
	}
	return ""
}
